// rename_modules: the rules of a key map applied to an adapter's modules.
#include <fmt/format.h>

#include <set>
#include <string_view>

#include "adapter/adapter_view.h"
#include "adapter/refit.h"
#include "thorns/error.h"

namespace thorns {
namespace {

bool begins(std::string_view module, std::string_view from) {
  if (!module.starts_with(from)) return false;
  if (from.empty() || module.size() == from.size()) return true;
  return from.back() == '.' || from.back() == '_' || module[from.size()] == '.';
}

std::string renamed(std::string_view module, const KeyRule& rule) {
  std::string_view rest = module.substr(rule.from.size());
  const std::string& to = *rule.to;
  if (to.empty() && rest.starts_with('.')) rest.remove_prefix(1);
  const bool dot = rule.from.empty() && !to.empty() && !to.ends_with('.') && !rest.empty();
  return fmt::format("{}{}{}", to, dot ? "." : "", rest);
}

}  // namespace

std::unique_ptr<Adapter> rename_modules(std::unique_ptr<Adapter> adapter, const KeyMap& map) {
  if (map.empty()) return adapter;
  std::vector<Update> updates;
  std::set<const KeyRule*> used;
  for (const Update& update : adapter->updates()) {
    const KeyRule* longest = nullptr;
    for (const KeyRule& rule : map) {
      if (!begins(update.module, rule.from)) continue;
      if (longest == nullptr || rule.from.size() > longest->from.size()) longest = &rule;
    }
    if (longest != nullptr) used.insert(longest);
    if (longest != nullptr && !longest->to) continue;
    updates.push_back(update);
    if (longest != nullptr) updates.back().module = renamed(update.module, *longest);
  }
  if (updates.empty()) {
    throw Error(
        ErrorCode::BadRecipe,
        fmt::format("the key map leaves out all that the adapter `{}` changes", adapter->path()),
        FilePlace{adapter->path()});
  }
  std::vector<std::string> warnings = adapter->warnings();
  const std::size_t left_out = adapter->updates().size() - updates.size();
  if (left_out > 0) {
    warnings.push_back(fmt::format("{} of its {} updates are left out, as its key map says",
                                   left_out, adapter->updates().size()));
  }
  for (const KeyRule& rule : map) {
    if (used.contains(&rule)) continue;
    warnings.push_back(fmt::format(
        "a rule of its key map applies to none of its modules: `{}`; the first of them is `{}`",
        rule.from, adapter->updates().front().module));
  }
  const bool rotates = adapter->rotates_neighbours();
  return std::make_unique<AdapterView>(std::move(adapter), std::move(updates), std::move(warnings),
                                       rotates);
}

}  // namespace thorns
