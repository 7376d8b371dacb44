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

using D8 = hn::CappedTag<double, kLanes>;
using F8 = hn::Rebind<float, D8>;

// Products of vectors [i, i + kI) with [j, j + kJ), all in registers: kI * kJ sums over one stripe
// of the lanes (on CPUs with fewer lanes than kLanes the caller runs the stripes one after the
// other). `at(a, b)` is where the pair's lanes are kept. Each product is exact, so MulAdd gives the
// same bits fused or not.
template <std::size_t kI, std::size_t kJ, class At>
HWY_INLINE void Block(const float* const* a, const float* const* b, std::size_t stripe,
                      std::size_t count, At at) {
  const D8 d;
  const F8 f;
  hn::Vec<D8> sums[kI][kJ];
  for (std::size_t i = 0; i < kI; ++i) {
    for (std::size_t j = 0; j < kJ; ++j) sums[i][j] = hn::LoadU(d, at(i, j) + stripe);
  }
  for (std::size_t e = stripe; e < count; e += kLanes) {
    hn::Vec<D8> right[kJ];
    for (std::size_t j = 0; j < kJ; ++j) right[j] = hn::PromoteTo(d, hn::LoadU(f, b[j] + e));
    for (std::size_t i = 0; i < kI; ++i) {
      const auto left = hn::PromoteTo(d, hn::LoadU(f, a[i] + e));
      for (std::size_t j = 0; j < kJ; ++j) sums[i][j] = hn::MulAdd(left, right[j], sums[i][j]);
    }
  }
  for (std::size_t i = 0; i < kI; ++i) {
    for (std::size_t j = 0; j < kJ; ++j) hn::StoreU(sums[i][j], d, at(i, j) + stripe);
  }
}

void GramChunk(const float* const* vectors, std::size_t n, std::size_t count, double* lanes) {
  // Registers: 16 sums where there are 32 registers, 6 where there are 16.
  constexpr std::size_t kRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 4 : 2;
  constexpr std::size_t kColumns = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 4 : 3;
  const std::size_t width = hn::Lanes(D8());
  for (std::size_t stripe = 0; stripe < kLanes; stripe += width) {
    for (std::size_t i = 0; i < n; i += kRows) {
      std::size_t j = i;
      // Pairs below the diagonal are computed into `unused` rather than branched around.
      HWY_ALIGN double unused[kLanes] = {};
      const auto at = [&](std::size_t a, std::size_t b) {
        return a <= b ? lanes + pair_index(a, b, n) * kLanes : unused;
      };
      if (i + kRows <= n) {
        for (; j + kColumns <= n; j += kColumns) {
          Block<kRows, kColumns>(vectors + i, vectors + j, stripe, count,
                                 [&](std::size_t a, std::size_t b) { return at(i + a, j + b); });
        }
      }
      for (std::size_t row = i; row < n && row < i + kRows; ++row) {
        for (std::size_t column = std::max(j, row); column < n; ++column) {
          Block<1, 1>(vectors + row, vectors + column, stripe, count,
                      [&](std::size_t, std::size_t) { return at(row, column); });
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thorns {

HWY_EXPORT(GramChunk);

void gram(const float* const* vectors, std::size_t n, std::size_t count, double* lanes) {
  HWY_DYNAMIC_DISPATCH(GramChunk)(vectors, n, count, lanes);
}

double sum_lanes(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace thorns
#endif  // HWY_ONCE
