// The weighted sum of n vectors, rounded once.
#include <cmath>
#include <cstring>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/blend.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

using Floats = hn::Vec<DFHalf>;
using Words = hn::Vec<DUHalf>;

// float32 bits to bfloat16 bits, to nearest, ties to even; NaN stays NaN.
HWY_INLINE Words NarrowBfloat(Floats value) {
  const DUHalf du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

// float32 bits to float16 bits, to nearest, ties to even; too large becomes Inf, NaN stays NaN.
HWY_INLINE Words NarrowHalf(Floats value) {
  const DFHalf df;
  const DUHalf du;
  const auto all = hn::BitCast(du, value);
  const auto sign = hn::And(all, hn::Set(du, 0x80000000U));
  const auto bits = hn::Xor(all, sign);
  // Normal results: drop 13 bits with a rounding increment, shift the exponent from bias 127 to 15.
  const auto odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(du, 1));
  const auto normal = hn::ShiftRight<13>(
      hn::Add(hn::Add(bits, odd), hn::Set(du, 0xC8000FFFU)));  // (15 - 127) << 23, and 0x0FFF
  // Subnormal results: adding 0.5 leaves the rounded 10-bit fraction in the last bits.
  const auto half = hn::Set(df, 0.5F);
  const auto subnormal =
      hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(df, bits), half)), hn::BitCast(du, half));
  const auto is_normal = hn::Ge(hn::BitCast(df, bits), hn::Set(df, 6.103515625e-05F));  // 2^-14
  auto result = hn::IfThenElse(hn::RebindMask(du, is_normal), normal, subnormal);
  const auto too_large = hn::Ge(hn::BitCast(df, bits), hn::Set(df, 65536.0F));
  result = hn::IfThenElse(hn::RebindMask(du, too_large), hn::Set(du, 0x7C00), result);
  result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), hn::Set(du, 0x7E00), result);
  return hn::Or(result, hn::ShiftRight<16>(sign));
}

HWY_INLINE void Store16(Words bits, std::byte* to) {
  const DHHalf dh;
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(hn::RebindToSigned<DUHalf>(), bits)), dh,
             reinterpret_cast<std::uint16_t*>(to));
}

// Each of these rounds one vector of sums, stores it, and returns the stored values as float32.
struct ToBfloat {
  static constexpr std::size_t kSize = 2;
  HWY_INLINE Floats operator()(hn::Vec<DD> sum, std::byte* to) const {
    const auto bits = NarrowBfloat(DemoteToOdd(sum));
    Store16(bits, to);
    return hn::BitCast(DFHalf(), hn::ShiftLeft<16>(bits));
  }
};
struct ToHalf {
  static constexpr std::size_t kSize = 2;
  HWY_INLINE Floats operator()(hn::Vec<DD> sum, std::byte* to) const {
    const auto bits = NarrowHalf(DemoteToOdd(sum));
    Store16(bits, to);
    return WidenHalf(bits);
  }
};
struct ToFloat {
  static constexpr std::size_t kSize = 4;
  HWY_INLINE Floats operator()(hn::Vec<DD> sum, std::byte* to) const {
    const auto stored = hn::DemoteTo(DFHalf(), sum);
    hn::StoreU(stored, DFHalf(), reinterpret_cast<float*>(to));
    return stored;
  }
};

// Returns whether all stored values are finite.
template <class Narrow>
HWY_INLINE bool Run(const double* const* vectors, const double* coefficients, std::size_t n,
                    std::size_t count, std::byte* to, std::uint64_t& rounded, Narrow narrow) {
  const DD dd;
  const DUHalf du;
  const std::size_t step = hn::Lanes(dd);
  auto largest = hn::Zero(du);
  alignas(64) std::byte rest[kLanes * sizeof(float)];
  for (std::size_t e = 0; e < count; e += step) {
    auto sum = hn::Zero(dd);
    for (std::size_t i = 0; i < n; ++i) {
      sum = hn::MulAdd(hn::Set(dd, coefficients[i]), hn::LoadU(dd, vectors[i] + e), sum);
    }
    // The last vector may stick out: its padding must not be stored.
    const bool whole = e + step <= count;
    std::byte* const target = to + e * Narrow::kSize;
    const auto stored = narrow(sum, whole ? target : rest);
    if (!whole) std::memcpy(target, rest, (count - e) * Narrow::kSize);
    rounded += hn::CountTrue(dd, hn::Ne(hn::PromoteTo(dd, stored), sum));
    largest = hn::Max(largest, hn::And(hn::BitCast(du, stored), hn::Set(du, 0x7FFFFFFF)));
  }
  return hn::GetLane(hn::MaxOfLanes(du, largest)) < 0x7F800000U;
}

bool BlendChunk(const double* const* vectors, const double* coefficients, std::size_t n,
                std::size_t count, Dtype dtype, std::byte* to, std::uint64_t& rounded) {
  switch (dtype) {
    case Dtype::BF16:
      return Run(vectors, coefficients, n, count, to, rounded, ToBfloat());
    case Dtype::F16:
      return Run(vectors, coefficients, n, count, to, rounded, ToHalf());
    default:
      return Run(vectors, coefficients, n, count, to, rounded, ToFloat());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace thorns {

HWY_EXPORT(BlendChunk);

namespace {

// Rare: some stored value is not finite. Tells overflow from NaN and Inf that came in.
void count_nonfinite(const double* const* vectors, const double* coefficients, std::size_t n,
                     std::size_t count, Dtype dtype, const std::byte* stored,
                     RoundingCounts& counts) {
  for (std::size_t e = 0; e < count; ++e) {
    if (all_finite(dtype, stored + e * size_of(dtype), 1)) continue;
    ++counts.nonfinite;
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += coefficients[i] * vectors[i][e];
    if (std::isfinite(sum)) ++counts.clipped;
  }
}

}  // namespace

double blend_coefficient(double value) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 29)), exponent - 29);
}

void blend(const double* const* vectors, const double* coefficients, std::size_t n,
           std::size_t count, Dtype dtype, std::byte* to, RoundingCounts& counts) {
  const auto chunk = HWY_DYNAMIC_DISPATCH(BlendChunk);
  if (!chunk(vectors, coefficients, n, count, dtype, to, counts.rounded)) {
    count_nonfinite(vectors, coefficients, n, count, dtype, to, counts);
  }
}

}  // namespace thorns
#endif  // HWY_ONCE
