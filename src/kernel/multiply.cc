// Rows times a square matrix, in float64.
#include <algorithm>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/multiply.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

// Rows that are multiplied together: a register for each one's sum.
inline constexpr std::size_t kRowsAtOnce = 4;

// Columns [0, size) of kRows rows. What does not fill a vector is summed one by one, in the same
// order.
template <std::size_t kRows>
HWY_INLINE void Multiply(const double* from, std::size_t stride, const double* matrix,
                         std::size_t size, double* to) {
  const DD d;
  std::size_t column = 0;
  for (; column + hn::Lanes(d) <= size; column += hn::Lanes(d)) {
    hn::Vec<DD> sums[kRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) sums[r] = hn::Zero(d);
    for (std::size_t k = 0; k < size; ++k) {
      const auto right = hn::LoadU(d, matrix + k * size + column);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r)
        sums[r] = hn::Add(sums[r], hn::Mul(hn::Set(d, from[r * stride + k]), right));
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) hn::StoreU(sums[r], d, to + r * stride + column);
  }
  for (; column < size; ++column) {
    for (std::size_t r = 0; r < kRows; ++r) {
      double sum = 0.0;
      for (std::size_t k = 0; k < size; ++k)
        sum += from[r * stride + k] * matrix[k * size + column];
      to[r * stride + column] = sum;
    }
  }
}

void MultiplyRows(const double* from, std::size_t rows, std::size_t stride, const double* matrix,
                  std::size_t size, double* to) {
  std::size_t row = 0;
  for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce)
    Multiply<kRowsAtOnce>(from + row * stride, stride, matrix, size, to + row * stride);
  for (; row < rows; ++row)
    Multiply<1>(from + row * stride, stride, matrix, size, to + row * stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thorns {

HWY_EXPORT(MultiplyRows);

void multiply_rows(const double* from, std::size_t rows, std::size_t stride, const double* matrix,
                   std::size_t size, double* to) {
  HWY_DYNAMIC_DISPATCH(MultiplyRows)(from, rows, stride, matrix, size, to);
}

}  // namespace thorns
#endif  // HWY_ONCE
