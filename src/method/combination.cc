#include "method/combination.h"

#include <algorithm>
#include <array>

namespace thorns {
namespace {

constexpr std::array<CombinationRule, 11> kRules = {{
    {"cat", "sum of what the adapters do, exactly: their factors beside each other",
     CombinedPart::Stacked, Pruning::None, false},
    {"dare_linear", "linear, of random elements of the factors", CombinedPart::Factors,
     Pruning::Random, false},
    {"dare_linear_svd", "svd, of random elements of the products", CombinedPart::Products,
     Pruning::Random, false},
    {"dare_ties", "ties, of random elements of the factors", CombinedPart::Factors, Pruning::Random,
     true},
    {"dare_ties_svd", "ties_svd, of random elements of the products", CombinedPart::Products,
     Pruning::Random, true},
    {"linear", "sums of the factors, in which one adapter's meet the other's",
     CombinedPart::Factors, Pruning::None, false},
    {"magnitude_prune", "linear, of the largest elements of the factors", CombinedPart::Factors,
     Pruning::Magnitude, false},
    {"magnitude_prune_svd", "svd, of the largest elements of the products", CombinedPart::Products,
     Pruning::Magnitude, false},
    {"svd", "sum of what the adapters do, cut to a rank", CombinedPart::Products, Pruning::None,
     false},
    {"ties", "linear, of the largest elements of the factors that agree in sign",
     CombinedPart::Factors, Pruning::Magnitude, true},
    {"ties_svd", "svd, of the largest elements of the products that agree in sign",
     CombinedPart::Products, Pruning::Magnitude, true},
}};

}  // namespace

const char* name_of(CombinationParameter parameter) {
  switch (parameter) {
    case CombinationParameter::Density:
      return "density";
    case CombinationParameter::MajoritySignMethod:
      return "majority_sign_method";
    case CombinationParameter::Seed:
      return "seed";
    case CombinationParameter::SvdRank:
      return "svd_rank";
  }
  return "";
}

std::string_view CombinationRule::reference() const {
  if (pruning == Pruning::Random) {
    return elects_signs ? "Yu et al. 2023 and Yadav et al. 2023, as in PEFT"
                        : "Yu et al. 2023, as in PEFT";
  }
  return elects_signs ? "Yadav et al. 2023, as in PEFT" : "PEFT's add_weighted_adapter";
}

std::vector<CombinationParameter> CombinationRule::parameters() const {
  std::vector<CombinationParameter> all;
  if (prunes()) all.push_back(CombinationParameter::Density);
  if (elects_signs) all.push_back(CombinationParameter::MajoritySignMethod);
  if (pruning == Pruning::Random) all.push_back(CombinationParameter::Seed);
  if (cuts_rank()) all.push_back(CombinationParameter::SvdRank);
  return all;
}

std::span<const CombinationRule> combination_rules() { return kRules; }

const CombinationRule* find_combination_rule(std::string_view name) {
  const auto* const found = std::find_if(kRules.begin(), kRules.end(),
                                         [&](const auto& rule) { return rule.name == name; });
  return found == kRules.end() ? nullptr : found;
}

}  // namespace thorns
