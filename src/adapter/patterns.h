// rank_pattern and alpha_pattern of an adapter's configuration. Private to this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
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

}  // namespace thorns
