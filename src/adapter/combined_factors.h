// The arithmetic of combined adapters, in float64. Private to this room.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "method/combination.h"

namespace thorns {

// One member's share of a module: weight * scale * B A, where B is out x rank and A is rank x in,
// both row-major. Rows of the product are called rows here, whatever the model's layout.
struct FactorPair {
  double weight = 1.0;  // of the member
  double scale = 1.0;   // of its update
  std::uint64_t rank = 0;
  std::vector<double> a;
  std::vector<double> b;
};

// The rank of the result. `ranks` are those of the pairs, not empty; `how` has its svd_rank where
// the rule cuts to one.
std::uint64_t combined_rank(const Combination& how, std::span<const std::uint64_t> ranks,
                            std::uint64_t rows, std::uint64_t columns);

// Bytes that combine_factors holds at most, its arguments included.
std::uint64_t combining_memory(const Combination& how, std::span<const std::uint64_t> ranks,
                               std::uint64_t rows, std::uint64_t columns);

// The combined pair, of weight and scale 1; see combine(). `key` chooses the random numbers. Where
// a number is NaN or Inf, all of the result is NaN.
FactorPair combine_factors(const Combination& how, std::vector<FactorPair> pairs,
                           std::uint64_t rows, std::uint64_t columns, std::uint64_t key);

}  // namespace thorns
