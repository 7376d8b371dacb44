// Where a recipe folds what: the walk over its nodes that several findings share.
#pragma once

#include <cstddef>
#include <vector>

#include "recipe/recipe.h"

namespace thorns {

// Folds that stand on one another, lowest first, on a model that is no fold.
struct FoldStack {
  std::size_t model = 0;           // in Recipe::nodes
  std::vector<std::size_t> folds;  // in Recipe::nodes; at least one
};
// The whole stacks of a recipe, in its order: no stack is the beginning of another.
std::vector<FoldStack> stacks_of(const Recipe& recipe);

// The part of the result that each model of a blend makes up by the recipe alone; in all 1 wherever
// the weights are not 0 in sum.
std::vector<double> nominal_parts(const BlendNode& blend);

// How much of every node is in the root by the weights of the recipe alone: for SLERP by t, which
// measurement replaces by the true coefficients. `t` of a gradient is its mean.
std::vector<double> nominal_shares(const Recipe& recipe);

// By how many ways every node is part of the root.
std::vector<double> ways_to_root(const Recipe& recipe);

}  // namespace thorns
