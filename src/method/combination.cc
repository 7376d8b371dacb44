#include "method/combination.h"

#include <algorithm>
#include <array>

namespace thorns {
namespace {

constexpr std::array<CombinationRule, 11> kRules = {{
    {"cat", CombinedPart::Stacked, Pruning::None, false},
    {"dare_linear", CombinedPart::Factors, Pruning::Random, false},
    {"dare_linear_svd", CombinedPart::Products, Pruning::Random, false},
    {"dare_ties", CombinedPart::Factors, Pruning::Random, true},
    {"dare_ties_svd", CombinedPart::Products, Pruning::Random, true},
    {"linear", CombinedPart::Factors, Pruning::None, false},
    {"magnitude_prune", CombinedPart::Factors, Pruning::Magnitude, false},
    {"magnitude_prune_svd", CombinedPart::Products, Pruning::Magnitude, false},
    {"svd", CombinedPart::Products, Pruning::None, false},
    {"ties", CombinedPart::Factors, Pruning::Magnitude, true},
    {"ties_svd", CombinedPart::Products, Pruning::Magnitude, true},
}};

}  // namespace

std::span<const CombinationRule> combination_rules() { return kRules; }

const CombinationRule* find_combination_rule(std::string_view name) {
  const auto* const found = std::find_if(kRules.begin(), kRules.end(),
                                         [&](const auto& rule) { return rule.name == name; });
  return found == kRules.end() ? nullptr : found;
}

}  // namespace thorns
