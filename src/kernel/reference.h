// The slow twin of every kernel, in plain float64 (or exact integer) arithmetic: the oracle of the
// kernels' tests and of whole-merge tests. Nothing in the product's path calls these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "thorns/dtype.h"

namespace thorns::reference {

// One stored element, exactly.
double load(Dtype dtype, const std::byte* from, std::size_t index);
std::vector<double> load_all(Dtype dtype, const std::byte* from, std::size_t count);

// `value` rounded once to F32, F16 or BF16 (nearest, ties to even), as float64. Beyond the largest
// finite value of the type: Inf.
double round_to(Dtype dtype, double value);
// The same as the stored bits, appended.
void store(Dtype dtype, double value, std::vector<std::byte>& to);
// Distance between neighbouring values of the type around `value`.
double ulp(Dtype dtype, double value);

double dot(const std::vector<double>& a, const std::vector<double>& b);
// rows x columns, row-major; every element summed in long double.
std::vector<double> low_rank(const std::vector<double>& u, const std::vector<double>& v,
                             std::size_t rows, std::size_t rank, std::size_t columns);

}  // namespace thorns::reference
