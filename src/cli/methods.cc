// thorns methods: the catalogue, or one method.
#include <fmt/format.h>

#include <algorithm>

#include "cli/summary.h"
#include "cli/verbs.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

const MethodInfo& find(const std::vector<MethodInfo>& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const MethodInfo& method) { return method.name == name; });
  if (found != list.end()) return *found;
  std::vector<std::string> names;
  for (const MethodInfo& method : list) names.push_back(method.name);
  const std::string near = did_you_mean(name, names);
  throw Error(ErrorCode::BadUsage, fmt::format("unknown method `{}`", name), {},
              near.empty() ? "`thorns methods` lists them" : near);
}

}  // namespace

int run_methods(const MethodsArguments& arguments, Console& console) {
  std::vector<MethodInfo> list = methods();
  const std::size_t width = console.out.width();
  if (!arguments.name.empty()) list = {find(list, arguments.name)};
  if (arguments.talk.json) return answer(console, to_json(list) + "\n");
  return answer(console, arguments.name.empty() ? methods_text(list, width)
                                                : method_text(list.front(), width));
}

}  // namespace thorns::cli
