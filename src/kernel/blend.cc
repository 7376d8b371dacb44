// The weighted sum of n vectors, rounded once.
#include <cmath>
#include <cstring>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/blend.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

using Floats = hn::Vec<DF>;
using Words = hn::Vec<DU>;
using Doubles = hn::Vec<DD>;

HWY_INLINE void Store16(Words bits, std::byte* to) {
  const DH dh;
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(hn::RebindToSigned<DU>(), bits)), dh,
             reinterpret_cast<std::uint16_t*>(to));
}

// float32 bits to bfloat16 bits, to nearest, ties to even; NaN stays NaN.
HWY_INLINE Words NarrowBfloat(Floats value) {
  const DU du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

// float32 to float16, to nearest, ties to even; too large becomes Inf, NaN the quiet one. Stores,
// and returns the stored values.
#if THORNS_NATIVE_F16
HWY_INLINE Floats StoreHalf(Floats value, std::byte* to) {
  const DF df;
  const hn::Rebind<hwy::float16_t, DF> dh;
  const auto quiet = hn::CopySign(hn::BitCast(df, hn::Set(DU(), 0x7FC00000)), value);
  const auto half = hn::DemoteTo(dh, hn::IfThenElse(hn::IsNaN(value), quiet, value));
  hn::StoreU(hn::BitCast(DH(), half), DH(), reinterpret_cast<std::uint16_t*>(to));
  return hn::PromoteTo(df, half);
}
#else
HWY_INLINE Words NarrowHalf(Floats value) {
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
HWY_INLINE Floats StoreHalf(Floats value, std::byte* to) {
  const Words bits = NarrowHalf(value);
  Store16(bits, to);
  return WidenHalf(DF(), hn::DemoteTo(DH(), hn::BitCast(hn::RebindToSigned<DU>(), bits)));
}
#endif

HWY_INLINE Floats OddFloats(Doubles low, Doubles high) {
  return hn::Combine(DF(), DemoteToOdd(high), DemoteToOdd(low));
}

// Each of these rounds two vectors of sums, stores them, counts the elements that the rounding
// changed, and returns the stored values as float32. A float32 that was rounded to odd is exact
// wherever 16 bits hold its value.
struct ToBfloat {
  static constexpr std::size_t kSize = 2;
  HWY_INLINE Floats operator()(Doubles low, Doubles high, std::byte* to,
                               std::uint64_t& rounded) const {
    const Floats odd = OddFloats(low, high);
    const Words bits = NarrowBfloat(odd);
    Store16(bits, to);
    const Floats stored = hn::BitCast(DF(), hn::ShiftLeft<16>(bits));
    rounded += hn::CountTrue(DF(), hn::Ne(stored, odd));
    return stored;
  }
};
struct ToHalf {
  static constexpr std::size_t kSize = 2;
  HWY_INLINE Floats operator()(Doubles low, Doubles high, std::byte* to,
                               std::uint64_t& rounded) const {
    const Floats odd = OddFloats(low, high);
    const Floats stored = StoreHalf(odd, to);
    rounded += hn::CountTrue(DF(), hn::Ne(stored, odd));
    return stored;
  }
};
struct ToFloat {
  static constexpr std::size_t kSize = 4;
  HWY_INLINE Floats operator()(Doubles low, Doubles high, std::byte* to,
                               std::uint64_t& rounded) const {
    const DD dd;
    const DFHalf half;
    const auto first = hn::DemoteTo(half, low);
    const auto second = hn::DemoteTo(half, high);
    rounded += hn::CountTrue(dd, hn::Ne(hn::PromoteTo(dd, first), low)) +
               hn::CountTrue(dd, hn::Ne(hn::PromoteTo(dd, second), high));
    const Floats stored = hn::Combine(DF(), second, first);
    hn::StoreU(stored, DF(), reinterpret_cast<float*>(to));
    return stored;
  }
};

HWY_INLINE Doubles Sum(const double* const* vectors, const double* coefficients, std::size_t n,
                       std::size_t e) {
  const DD dd;
  auto sum = hn::Zero(dd);
  for (std::size_t i = 0; i < n; ++i)
    sum = hn::Add(sum, hn::Mul(hn::Set(dd, coefficients[i]), hn::LoadU(dd, vectors[i] + e)));
  return sum;
}

// Returns whether all stored values are finite.
template <class Narrow>
HWY_INLINE bool Run(const double* const* vectors, const double* coefficients, std::size_t n,
                    std::size_t count, std::byte* to, std::uint64_t& rounded, Narrow narrow) {
  const DD dd;
  const DU du;
  const std::size_t lanes = hn::Lanes(dd);
  auto largest = hn::Zero(du);
  alignas(64) std::byte rest[2 * kLanes * sizeof(float)];
  for (std::size_t e = 0; e < count; e += 2 * lanes) {
    const auto low = Sum(vectors, coefficients, n, e);
    // Vectors are padded to kLanes elements, not to two vectors of the widest target.
    const auto high = e + lanes < count ? Sum(vectors, coefficients, n, e + lanes) : hn::Zero(dd);
    // The last vectors may stick out: their padding must not be stored.
    const bool whole = e + 2 * lanes <= count;
    std::byte* const target = to + e * Narrow::kSize;
    const auto stored = narrow(low, high, whole ? target : rest, rounded);
    if (!whole) std::memcpy(target, rest, (count - e) * Narrow::kSize);
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

// Vectors whose sums are kept in registers together.
inline constexpr std::size_t kSums = 8;

// sums += coefficient * values, where `load(k)` gives vector k of the values as float64.
template <class Load>
HWY_INLINE void AddScaled(double coefficient, Doubles* sums, Load load) {
  const DD dd;
  const auto factor = hn::Set(dd, coefficient);
#pragma GCC unroll 8
  for (std::size_t k = 0; k < kSums; ++k) sums[k] = hn::Add(sums[k], hn::Mul(factor, load(k)));
}

// Asks for the elements that a later step needs: there are too many runs for the hardware to guess,
// and prefetching past an end is harmless.
template <class T>
HWY_INLINE const T* Elements(const StoredRun& run, std::size_t e) {
  const T* const from = reinterpret_cast<const T*>(run.from) + e;
  hwy::Prefetch(from + kChunk);
  hwy::Prefetch(from + kChunk + kBlendStep / 2);
  return from;
}

// Adds elements [e, e + kSums vectors) of one run.
HWY_INLINE void AddRun(const StoredRun& run, double coefficient, std::size_t e, Doubles* sums) {
  const DD dd;
  const DFHalf df;
  const DHHalf dh;
  const std::size_t lanes = hn::Lanes(dd);
  switch (run.dtype) {
    case Dtype::F16: {
      const auto* const from = Elements<std::uint16_t>(run, e);
      AddScaled(coefficient, sums, [&](std::size_t k) {
        return hn::PromoteTo(dd, WidenHalf(df, hn::LoadU(dh, from + k * lanes)));
      });
      return;
    }
    case Dtype::BF16: {
      const auto* const from = Elements<std::uint16_t>(run, e);
      AddScaled(coefficient, sums, [&](std::size_t k) {
        const auto bits = hn::PromoteTo(DUHalf(), hn::LoadU(dh, from + k * lanes));
        return hn::PromoteTo(dd, hn::BitCast(df, hn::ShiftLeft<16>(bits)));
      });
      return;
    }
    case Dtype::F64: {
      const auto* const from = Elements<double>(run, e);
      AddScaled(coefficient, sums, [&](std::size_t k) { return hn::LoadU(dd, from + k * lanes); });
      return;
    }
    default: {
      const auto* const from = Elements<float>(run, e);
      AddScaled(coefficient, sums,
                [&](std::size_t k) { return hn::PromoteTo(dd, hn::LoadU(df, from + k * lanes)); });
      return;
    }
  }
}

// Returns whether all stored values are finite.
template <class Narrow>
HWY_INLINE bool RunStored(const StoredRun* runs, const double* coefficients, std::size_t n,
                          std::size_t count, std::byte* to, std::uint64_t& rounded, Narrow narrow) {
  const DD dd;
  const DU du;
  const std::size_t lanes = hn::Lanes(dd);
  auto largest = hn::Zero(du);
  for (std::size_t e = 0; e < count; e += kSums * lanes) {
    Doubles sums[kSums];
#pragma GCC unroll 8
    for (Doubles& sum : sums) sum = hn::Zero(dd);
    for (std::size_t i = 0; i < n; ++i) AddRun(runs[i], coefficients[i], e, sums);
#pragma GCC unroll 8
    for (std::size_t k = 0; k < kSums; k += 2) {
      const auto stored =
          narrow(sums[k], sums[k + 1], to + (e + k * lanes) * Narrow::kSize, rounded);
      largest = hn::Max(largest, hn::And(hn::BitCast(du, stored), hn::Set(du, 0x7FFFFFFF)));
    }
  }
  return hn::GetLane(hn::MaxOfLanes(du, largest)) < 0x7F800000U;
}

bool BlendStoredChunk(const StoredRun* runs, const double* coefficients, std::size_t n,
                      std::size_t count, Dtype dtype, std::byte* to, std::uint64_t& rounded) {
  switch (dtype) {
    case Dtype::BF16:
      return RunStored(runs, coefficients, n, count, to, rounded, ToBfloat());
    case Dtype::F16:
      return RunStored(runs, coefficients, n, count, to, rounded, ToHalf());
    default:
      return RunStored(runs, coefficients, n, count, to, rounded, ToFloat());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace thorns {

HWY_EXPORT(BlendChunk);
HWY_EXPORT(BlendStoredChunk);

namespace {

// Replaces a stored NaN by the positive quiet one without payload: which NaN an operation makes of
// two is up to the CPU.
void settle_nan(Dtype dtype, std::byte* stored) {
  if (dtype == Dtype::F32) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, stored, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) bits = 0x7FC00000;
    std::memcpy(stored, &bits, sizeof bits);
    return;
  }
  const bool half = dtype == Dtype::F16;
  std::uint16_t bits = 0;
  std::memcpy(&bits, stored, sizeof bits);
  if ((bits & 0x7FFF) > (half ? 0x7C00 : 0x7F80)) bits = half ? 0x7E00 : 0x7FC0;
  std::memcpy(stored, &bits, sizeof bits);
}

// Rare: some stored value is not finite. Tells overflow from NaN and Inf that came in.
void settle_nonfinite(const double* const* vectors, const double* coefficients, std::size_t n,
                      std::size_t count, Dtype dtype, std::byte* stored, RoundingCounts& counts) {
  for (std::size_t e = 0; e < count; ++e) {
    std::byte* const value = stored + e * size_of(dtype);
    if (all_finite(dtype, value, 1)) continue;
    settle_nan(dtype, value);
    ++counts.nonfinite;
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += coefficients[i] * vectors[i][e];
    if (std::isfinite(sum)) ++counts.clipped;
  }
}

}  // namespace

void blend(const double* const* vectors, const double* coefficients, std::size_t n,
           std::size_t count, Dtype dtype, std::byte* to, RoundingCounts& counts) {
  const auto chunk = HWY_DYNAMIC_DISPATCH(BlendChunk);
  if (!chunk(vectors, coefficients, n, count, dtype, to, counts.rounded)) {
    settle_nonfinite(vectors, coefficients, n, count, dtype, to, counts);
  }
}

bool blend_stored(const StoredRun* runs, const double* coefficients, std::size_t n,
                  std::size_t count, Dtype dtype, std::byte* to, RoundingCounts& counts) {
  std::uint64_t rounded = 0;
  const auto chunk = HWY_DYNAMIC_DISPATCH(BlendStoredChunk);
  if (!chunk(runs, coefficients, n, count, dtype, to, rounded)) return false;
  counts.rounded += rounded;
  return true;
}

}  // namespace thorns
#endif  // HWY_ONCE
