// What the brackets of a key as its author wrote it stand for: the legend beside a published key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace thorns {

struct LegendLine {
  std::string bracket;  // "{}", "[]", "()", "{...; linear}"
  std::string meaning;  // "SLERP Merge"
  bool operator==(const LegendLine&) const = default;
};

// One line for each kind of bracket that occurs in any of `keys`: `{}`, then braces of other
// methods in order of first mention, `[]`, `()`. Brackets in quotes and in options do not count.
std::vector<LegendLine> key_legend(const std::vector<std::string>& keys);

}  // namespace thorns
