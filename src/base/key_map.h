// What a user says of the modules that an adapter names otherwise than the model.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace thorns {

// Names of modules that are `from`, or begin with it and a dot, get `to` in its place; without a
// `to` the updates of these modules are left out. An empty `from` is the beginning of every name; a
// `from` that ends with a dot or underscore is a beginning of text. The longest rule decides.
struct KeyRule {
  std::string from;
  std::optional<std::string> to;
};
using KeyMap = std::vector<KeyRule>;

}  // namespace thorns
