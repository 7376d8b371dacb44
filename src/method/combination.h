// How several low-rank adapters become one: the combination types of PEFT's add_weighted_adapter,
// by PEFT's names. What is done with the factors is adapter/combine.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace thorns {

enum class Pruning { None, Magnitude, Random };  // Random: DARE (Yu et al. 2023)

enum class CombinedPart {
  Factors,   // the A are summed, and the B: products of different adapters come in between
  Stacked,   // A over A, B beside B: the exact weighted sum of the products
  Products,  // the products are summed and cut to a rank by their singular values
};

enum class CombinationParameter { Density, MajoritySignMethod, Seed, SvdRank };
const char* name_of(CombinationParameter parameter);  // as in a key

struct CombinationRule {
  std::string_view name;
  std::string_view summary;  // one line
  CombinedPart part = CombinedPart::Factors;
  Pruning pruning = Pruning::None;
  bool elects_signs = false;  // TIES (Yadav et al. 2023)

  bool prunes() const { return pruning != Pruning::None; }
  bool cuts_rank() const { return part == CombinedPart::Products; }
  std::string_view reference() const;  // paper or program, year
  std::vector<CombinationParameter> parameters() const;
};

// All of them, by name.
std::span<const CombinationRule> combination_rules();
const CombinationRule* find_combination_rule(std::string_view name);

// A rule with its parameters; each has a meaning only where the rule asks for it.
struct Combination {
  CombinationRule rule;
  double density = 1;                     // part of the elements that pruning keeps, in (0, 1]
  bool by_frequency = false;              // signs are elected by number, not by sum
  std::optional<std::uint64_t> svd_rank;  // of the result; without it the adapters' largest
  std::uint64_t seed = 0;                 // of random pruning
};

}  // namespace thorns
