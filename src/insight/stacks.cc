#include "insight/stacks.h"

#include <algorithm>
#include <numeric>

namespace thorns {
namespace {

// Adds up over all ways from the root down: `part(blend, i)` of what the blend has.
template <class Part>
std::vector<double> down_from_root(const Recipe& recipe, Part part) {
  std::vector<double> shares(recipe.nodes.size(), 0.0);
  shares[recipe.root] = 1;
  for (std::size_t n = shares.size(); n-- > 0;) {
    const auto& node = recipe.nodes[n].node;
    if (const auto* fold = std::get_if<FoldNode>(&node)) {
      shares[fold->model] += shares[n];
    } else if (const auto* blend = std::get_if<BlendNode>(&node)) {
      const std::vector<double> parts = part(*blend);
      for (std::size_t i = 0; i < parts.size(); ++i)
        shares[blend->models[i]] += shares[n] * parts[i];
    }
  }
  return shares;
}

}  // namespace

std::vector<FoldStack> stacks_of(const Recipe& recipe) {
  std::vector<bool> continued(recipe.nodes.size(), false);  // a fold that carries another
  for (const RecipeNode& node : recipe.nodes) {
    if (const auto* fold = std::get_if<FoldNode>(&node.node)) continued[fold->model] = true;
  }
  std::vector<FoldStack> stacks;
  for (std::size_t n = 0; n < recipe.nodes.size(); ++n) {
    if (continued[n]) continue;
    FoldStack stack;
    std::size_t at = n;
    while (const auto* fold = std::get_if<FoldNode>(&recipe.nodes[at].node)) {
      stack.folds.push_back(at);
      at = fold->model;
    }
    if (stack.folds.empty()) continue;
    std::reverse(stack.folds.begin(), stack.folds.end());
    stack.model = at;
    stacks.push_back(std::move(stack));
  }
  return stacks;
}

std::vector<double> nominal_parts(const BlendNode& blend) {
  std::vector<double> parts = blend.weights;
  const double sum = std::accumulate(parts.begin(), parts.end(), 0.0);
  for (double& part : parts) {
    part = sum == 0 ? 1.0 / static_cast<double>(parts.size()) : part / sum;
  }
  if (parts.size() != 2) return parts;
  for (const Setting& setting : blend.settings) {
    if (blend.method->parameters()[setting.parameter].name != "t") continue;
    const double t = std::accumulate(setting.values.begin(), setting.values.end(), 0.0) /
                     static_cast<double>(setting.values.size());
    return {1 - t, t};
  }
  return parts;
}

std::vector<double> nominal_shares(const Recipe& recipe) {
  return down_from_root(recipe, nominal_parts);
}

std::vector<double> ways_to_root(const Recipe& recipe) {
  return down_from_root(
      recipe, [](const BlendNode& blend) { return std::vector<double>(blend.models.size(), 1.0); });
}

}  // namespace thorns
