// rank_pattern and alpha_pattern of an adapter's configuration. Private to this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace thorns {

// An ordered list of keys, each a regular expression for the end of a module's name: as PEFT has
// it, `(.*\.)?(KEY)$` must match the whole name. A key without special characters is compared
// directly.
class PatternList {
 public:
  // `where` names the list in errors: "rank_pattern of `.../adapter_config.json`". Unsupported for
  // a key that is too long or no expression that can be matched in time linear in the name.
  PatternList(const std::vector<std::string>& keys, const std::string& where);
  ~PatternList();
  PatternList(PatternList&&) noexcept;

  // The first key, in the order of the file, that matches.
  std::optional<std::size_t> first_match(const std::string& module);
  // Keys that have matched nothing so far.
  std::vector<std::string> unused() const;

 private:
  struct Pattern;
  std::vector<Pattern> patterns_;
};

// Such a list with a value for each key.
template <typename Value>
class PatternMap {
 public:
  using Entries = std::vector<std::pair<std::string, Value>>;
  PatternMap(Entries entries, const std::string& where)
      : entries_(std::move(entries)), keys_(keys_of(entries_), where) {}

  // That of the first key that matches.
  std::optional<Value> find(const std::string& module) {
    const auto at = keys_.first_match(module);
    if (!at) return std::nullopt;
    return entries_[*at].second;
  }
  std::vector<std::string> unused() const { return keys_.unused(); }

 private:
  static std::vector<std::string> keys_of(const Entries& entries) {
    std::vector<std::string> keys;
    for (const auto& entry : entries) keys.push_back(entry.first);
    return keys;
  }

  Entries entries_;
  PatternList keys_;
};

}  // namespace thorns
