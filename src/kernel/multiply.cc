// Rows times a square matrix, in float64.
#include <algorithm>
#include <vector>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/multiply.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

// Rows that are multiplied together, and vectors of their columns: a register for each one's sum.
inline constexpr std::size_t kRowsAtOnce = 4;
inline constexpr std::size_t kVectorsAtOnce = 2;

// kVectors vectors of columns of kRows rows. Row k of the matrix is at `matrix + k * width`.
template <std::size_t kRows, std::size_t kVectors>
HWY_INLINE void MultiplyVectors(const double* from, std::size_t stride, const double* matrix,
                                std::size_t width, std::size_t size, double* to) {
  const DD d;
  const std::size_t lanes = hn::Lanes(d);
  hn::Vec<DD> sums[kRows * kVectors];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kRows * kVectors; ++i) sums[i] = hn::Zero(d);
  for (std::size_t k = 0; k < size; ++k) {
    hn::Vec<DD> right[kVectors];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v)
      right[v] = hn::LoadU(d, matrix + k * width + v * lanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto left = hn::Set(d, from[r * stride + k]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v)
        sums[r * kVectors + v] = hn::Add(sums[r * kVectors + v], hn::Mul(left, right[v]));
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v)
      hn::StoreU(sums[r * kVectors + v], d, to + r * stride + v * lanes);
  }
}

template <std::size_t kVectors>
void MultiplyPanel(const double* from, std::size_t rows, std::size_t stride, const double* matrix,
                   std::size_t width, std::size_t size, double* to) {
  std::size_t row = 0;
  for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) {
    MultiplyVectors<kRowsAtOnce, kVectors>(from + row * stride, stride, matrix, width, size,
                                           to + row * stride);
  }
  for (; row < rows; ++row) {
    MultiplyVectors<1, kVectors>(from + row * stride, stride, matrix, width, size,
                                 to + row * stride);
  }
}

// A few columns at a time. A large matrix's are copied together first: its rows lie so far apart
// that every step down a column would be to another page.
void MultiplyRows(const double* from, std::size_t rows, std::size_t stride, const double* matrix,
                  std::size_t size, double* to) {
  const DD d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t panel = kVectorsAtOnce * lanes;
  std::vector<double> packed(rows >= 2 * kRowsAtOnce && size >= 2 * panel ? size * panel : 0);
  std::size_t column = 0;
  for (; column + panel <= size; column += panel) {
    const double* right = matrix + column;
    std::size_t width = size;
    if (!packed.empty()) {
      for (std::size_t k = 0; k < size; ++k)
        std::copy_n(right + k * size, panel, packed.data() + k * panel);
      right = packed.data();
      width = panel;
    }
    MultiplyPanel<kVectorsAtOnce>(from, rows, stride, right, width, size, to + column);
  }
  for (; column + lanes <= size; column += lanes)
    MultiplyPanel<1>(from, rows, stride, matrix + column, size, size, to + column);
  // What does not fill a vector is summed one by one, in the same order.
  for (; column < size; ++column) {
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0.0;
      for (std::size_t k = 0; k < size; ++k)
        sum += from[r * stride + k] * matrix[k * size + column];
      to[r * stride + column] = sum;
    }
  }
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
