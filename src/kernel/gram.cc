// All inner products of a chunk of n vectors at once, in float64.
#include <algorithm>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/gram.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

// The largest block of vectors whose products fit the registers: 4 x 4 sums of 32, 3 x 3 of 16.
inline constexpr std::size_t kBlock = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 4 : 3;

// Products of vectors a[0..kI) with b[0..kJ), or for kTriangle (a and b the same) of the pairs i <=
// j, all in registers. CPUs with fewer than kLanes doubles in a vector run the lanes in stripes,
// one after the other. `at(i, j)` is where the lanes of a pair are kept. Each product is exact, so
// MulAdd gives the same bits fused or not.
template <std::size_t kI, std::size_t kJ, bool kTriangle, class At>
HWY_INLINE void Products(const double* const* a, const double* const* b, std::size_t count, At at) {
  const DD d;
  for (std::size_t stripe = 0; stripe < kLanes; stripe += hn::Lanes(d)) {
    hn::Vec<DD> sums[kI][kJ];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kI; ++i) {
#pragma GCC unroll 8
      for (std::size_t j = kTriangle ? i : 0; j < kJ; ++j)
        sums[i][j] = hn::LoadU(d, at(i, j) + stripe);
    }
    for (std::size_t e = stripe; e < count; e += kLanes) {
      hn::Vec<DD> right[kJ];
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kJ; ++j) right[j] = hn::LoadU(d, b[j] + e);
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kI; ++i) {
        const auto left = kTriangle ? right[i] : hn::LoadU(d, a[i] + e);
#pragma GCC unroll 8
        for (std::size_t j = kTriangle ? i : 0; j < kJ; ++j)
          sums[i][j] = hn::MulAdd(left, right[j], sums[i][j]);
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kI; ++i) {
#pragma GCC unroll 8
      for (std::size_t j = kTriangle ? i : 0; j < kJ; ++j)
        hn::StoreU(sums[i][j], d, at(i, j) + stripe);
    }
  }
}

// Chooses the template for `columns` <= kBlock.
template <std::size_t kRows, class At>
HWY_INLINE void Rectangle(std::size_t columns, const double* const* a, const double* const* b,
                          std::size_t count, At at) {
  switch (columns) {
    case 1:
      Products<kRows, 1, false>(a, b, count, at);
      break;
    case 2:
      Products<kRows, 2, false>(a, b, count, at);
      break;
    case 3:
      Products<kRows, 3, false>(a, b, count, at);
      break;
    default:
      Products<kRows, kBlock, false>(a, b, count, at);
      break;
  }
}

template <class At>
HWY_INLINE void Triangle(std::size_t rows, const double* const* a, std::size_t count, At at) {
  switch (rows) {
    case 1:
      Products<1, 1, true>(a, a, count, at);
      break;
    case 2:
      Products<2, 2, true>(a, a, count, at);
      break;
    case 3:
      Products<3, 3, true>(a, a, count, at);
      break;
    default:
      Products<kBlock, kBlock, true>(a, a, count, at);
      break;
  }
}

void GramChunk(const double* const* vectors, std::size_t n, std::size_t count, double* lanes) {
  for (std::size_t i = 0; i < n; i += kBlock) {
    // Only the last block of rows is short, and it has no columns beyond its triangle.
    Triangle(std::min(kBlock, n - i), vectors + i, count, [&](std::size_t a, std::size_t b) {
      return lanes + pair_index(i + a, i + b, n) * kLanes;
    });
    for (std::size_t j = i + kBlock; j < n; j += kBlock) {
      Rectangle<kBlock>(std::min(kBlock, n - j), vectors + i, vectors + j, count,
                        [&](std::size_t a, std::size_t b) {
                          return lanes + pair_index(i + a, j + b, n) * kLanes;
                        });
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thorns {

HWY_EXPORT(GramChunk);

void gram(const double* const* vectors, std::size_t n, std::size_t count, double* lanes) {
  HWY_DYNAMIC_DISPATCH(GramChunk)(vectors, n, count, lanes);
}

double sum_lanes(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace thorns
#endif  // HWY_ONCE
