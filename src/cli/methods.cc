// thorns methods: the catalogue, or what is called by one name.
#include <fmt/format.h>

#include <algorithm>

#include "cli/summary.h"
#include "cli/verbs.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

void keep(std::vector<MethodInfo>& list, const std::string& name) {
  std::erase_if(list, [&](const MethodInfo& method) { return method.name != name; });
}

[[noreturn]] void refuse_unknown(const std::string& name) {
  std::vector<std::string> names;
  for (const MethodInfo& method : methods()) names.push_back(method.name);
  for (const MethodInfo& combination : combinations()) names.push_back(combination.name);
  const std::string near = did_you_mean(name, names);
  throw Error(ErrorCode::BadUsage, fmt::format("unknown method `{}`", name), {},
              near.empty() ? "`thorns methods` lists them" : near);
}

}  // namespace

int run_methods(const MethodsArguments& arguments, Console& console) {
  std::vector<MethodInfo> merging = methods();
  std::vector<MethodInfo> combining = combinations();
  if (!arguments.name.empty()) {
    keep(merging, arguments.name);
    keep(combining, arguments.name);
    if (merging.empty() && combining.empty()) refuse_unknown(arguments.name);
  }
  if (arguments.talk.json) return answer(console, to_json(merging, combining) + "\n");
  const std::size_t width = console.out.width();
  if (arguments.name.empty()) return answer(console, methods_text(merging, combining, width));
  std::string text;
  for (const MethodInfo& method : merging) text += method_text(method, false, width);
  for (const MethodInfo& combination : combining) {
    text += (text.empty() ? "" : "\n") + method_text(combination, true, width);
  }
  return answer(console, text);
}

}  // namespace thorns::cli
