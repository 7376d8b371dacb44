// Where the canonical key of a recipe mentions each adapter.
#pragma once

#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace thorns {

class Mentions {
 public:
  explicit Mentions(const Recipe& recipe);
  // Every mention of an adapter, from left to right, by its index in the recipe. An adapter bound
  // by two names has those of the first.
  const std::vector<KeySpan>& of(std::size_t adapter) const { return spans_[adapter]; }

 private:
  std::vector<std::vector<KeySpan>> spans_;
};

}  // namespace thorns
