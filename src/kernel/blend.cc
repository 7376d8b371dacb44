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

// float32 bits to bfloat16 bits, to nearest, ties to even; NaN stays NaN.
HWY_INLINE hn::Vec<DU> NarrowBfloat(hn::Vec<DF> value) {
  const DU du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

// float32 bits to float16 bits, to nearest, ties to even; too large becomes Inf, NaN stays NaN.
HWY_INLINE hn::Vec<DU> NarrowHalf(hn::Vec<DF> value) {
  const DF df;
  const DU du;
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

// One vector of sums, in two halves of doubles.
struct Sums {
  hn::Vec<DD> low;
  hn::Vec<DD> high;
};

HWY_INLINE Sums Accumulate(const float* const* vectors, const double* coefficients, std::size_t n,
                           std::size_t e) {
  const DD dd;
  const DFHalf half;
  const std::size_t step = hn::Lanes(dd);
  Sums sums{hn::Zero(dd), hn::Zero(dd)};
  for (std::size_t i = 0; i < n; ++i) {
    const auto c = hn::Set(dd, coefficients[i]);
    sums.low = hn::MulAdd(c, hn::PromoteTo(dd, hn::LoadU(half, vectors[i] + e)), sums.low);
    sums.high = hn::MulAdd(c, hn::PromoteTo(dd, hn::LoadU(half, vectors[i] + e + step)), sums.high);
  }
  return sums;
}

// Counts the lanes where the stored value, as float32, is not the sum.
HWY_INLINE std::size_t CountRounded(hn::Vec<DF> stored, const Sums& sums) {
  const DD dd;
  const DFHalf half;
  const auto low = hn::PromoteTo(dd, hn::LowerHalf(half, stored));
  const auto high = hn::PromoteTo(dd, hn::UpperHalf(half, stored));
  return hn::CountTrue(dd, hn::Ne(low, sums.low)) + hn::CountTrue(dd, hn::Ne(high, sums.high));
}

// `narrow(sums)` gives the stored value as float32 and writes it. Returns the largest magnitude
// bits.
template <class Narrow>
HWY_INLINE std::uint32_t Run(const float* const* vectors, const double* coefficients, std::size_t n,
                             std::size_t count, std::uint64_t& rounded, Narrow narrow) {
  const DU du;
  auto largest = hn::Zero(du);
  for (std::size_t e = 0; e < count; e += hn::Lanes(du)) {
    const Sums sums = Accumulate(vectors, coefficients, n, e);
    const auto stored = narrow(sums, e);
    rounded += CountRounded(stored, sums);
    largest = hn::Max(largest, hn::And(hn::BitCast(du, stored), hn::Set(du, 0x7FFFFFFF)));
  }
  return hn::GetLane(hn::MaxOfLanes(du, largest));
}

// `count` is a multiple of the vector length. Returns whether all stored values are finite.
bool BlendChunk(const float* const* vectors, const double* coefficients, std::size_t n,
                std::size_t count, Dtype dtype, std::byte* to, std::uint64_t& rounded) {
  const DF df;
  const DH dh;
  const auto odd = [&](const Sums& sums) {
    return hn::Combine(df, DemoteToOdd(sums.high), DemoteToOdd(sums.low));
  };
  const auto store16 = [&](hn::Vec<DU> bits, std::size_t e) {
    hn::StoreU(hn::DemoteTo(dh, hn::BitCast(hn::RebindToSigned<DU>(), bits)), dh,
               reinterpret_cast<std::uint16_t*>(to) + e);
  };
  std::uint32_t largest = 0;
  if (dtype == Dtype::BF16) {
    largest = Run(vectors, coefficients, n, count, rounded, [&](const Sums& sums, std::size_t e) {
      const auto bits = NarrowBfloat(odd(sums));
      store16(bits, e);
      return hn::BitCast(df, hn::ShiftLeft<16>(bits));
    });
  } else if (dtype == Dtype::F16) {
    largest = Run(vectors, coefficients, n, count, rounded, [&](const Sums& sums, std::size_t e) {
      const auto bits = NarrowHalf(odd(sums));
      store16(bits, e);
      return WidenHalf(bits);
    });
  } else {
    const DFHalf half;
    largest = Run(vectors, coefficients, n, count, rounded, [&](const Sums& sums, std::size_t e) {
      const auto stored =
          hn::Combine(df, hn::DemoteTo(half, sums.high), hn::DemoteTo(half, sums.low));
      hn::StoreU(stored, df, reinterpret_cast<float*>(to) + e);
      return stored;
    });
  }
  return largest < 0x7F800000U;
}

std::size_t VectorLength() { return hn::Lanes(DF()); }

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <array>

namespace thorns {

HWY_EXPORT(BlendChunk);
HWY_EXPORT(VectorLength);

namespace {

// Rare: some stored value is not finite. Tells overflow from NaN and Inf that came in.
void count_nonfinite(const float* const* vectors, const double* coefficients, std::size_t n,
                     std::size_t count, Dtype dtype, const std::byte* stored,
                     RoundingCounts& counts) {
  for (std::size_t e = 0; e < count; ++e) {
    if (all_finite(dtype, stored + e * size_of(dtype), 1)) continue;
    ++counts.nonfinite;
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += coefficients[i] * static_cast<double>(vectors[i][e]);
    if (std::isfinite(sum)) ++counts.clipped;
  }
}

// A run that is not a multiple of the vector length goes through padded copies.
constexpr std::size_t kTail = 16;

}  // namespace

double blend_coefficient(double value) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 29)), exponent - 29);
}

void blend(const float* const* vectors, const double* coefficients, std::size_t n,
           std::size_t count, Dtype dtype, std::byte* to, RoundingCounts& counts) {
  const std::size_t whole = count - count % HWY_DYNAMIC_DISPATCH(VectorLength)();
  bool finite =
      HWY_DYNAMIC_DISPATCH(BlendChunk)(vectors, coefficients, n, whole, dtype, to, counts.rounded);
  if (whole < count) {
    const std::size_t rest = count - whole;
    std::vector<std::array<float, kTail>> padded(n);
    std::vector<const float*> pointers(n);
    for (std::size_t i = 0; i < n; ++i) {
      padded[i].fill(0);
      std::memcpy(padded[i].data(), vectors[i] + whole, rest * sizeof(float));
      pointers[i] = padded[i].data();
    }
    alignas(64) std::array<std::byte, kTail * sizeof(float)> stored{};
    const std::size_t length = HWY_DYNAMIC_DISPATCH(VectorLength)();
    finite = HWY_DYNAMIC_DISPATCH(BlendChunk)(pointers.data(), coefficients, n, length, dtype,
                                              stored.data(), counts.rounded) &&
             finite;
    std::memcpy(to + whole * size_of(dtype), stored.data(), rest * size_of(dtype));
  }
  if (!finite) count_nonfinite(vectors, coefficients, n, count, dtype, to, counts);
}

}  // namespace thorns
#endif  // HWY_ONCE
