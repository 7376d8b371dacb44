// Per-target helpers of the kernels. Included once per SIMD target by Highway's foreach_target,
// hence the toggled guard.
#if defined(THORNS_KERNEL_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef THORNS_KERNEL_SIMD_INL_H_
#undef THORNS_KERNEL_SIMD_INL_H_
#else
#define THORNS_KERNEL_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of at most kLanes doubles, and as many (Half) or twice as many elements of other types.
using DD = hn::CappedTag<double, 8>;
using DF = hn::Repartition<float, DD>;
using DU = hn::RebindToUnsigned<DF>;
using DH = hn::Rebind<std::uint16_t, DF>;
using DFHalf = hn::Half<DF>;
using DUHalf = hn::Half<DU>;
using DHHalf = hn::Half<DH>;

// Targets whose CPUs convert float16 themselves; Highway's emulation elsewhere knows no Inf and
// NaN.
#define THORNS_NATIVE_F16 \
  (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL)

// `x` cut to the 24 significant bits of a float32, its last bit set when anything was cut off:
// rounding the result to a shorter format gives what rounding `x` at once would give ("round to
// odd", Boldo and Melquiond 2008). Sums below 2^-126 are rounded twice.
template <class V>
HWY_INLINE hn::Vec<DFHalf> DemoteToOdd(V x) {
  const DD dd;
  const hn::RebindToUnsigned<DD> du;
  const auto low = hn::Set(du, (std::uint64_t{1} << 29) - 1);
  const auto bits = hn::BitCast(du, x);
  const auto carry = hn::Add(hn::And(bits, low), low);  // reaches bit 29 unless all low bits are 0
  return hn::DemoteTo(DFHalf(), hn::BitCast(dd, hn::AndNot(low, hn::Or(bits, carry))));
}

// float16 patterns as float32, exactly. `df`: a tag of as many floats.
template <class D, class V>
HWY_INLINE hn::Vec<D> WidenHalf(D df, V bits) {
  const hn::Rebind<hwy::float16_t, D> dh;
  const auto value = hn::PromoteTo(df, hn::BitCast(dh, bits));
#if THORNS_NATIVE_F16
  return value;
#else
  const hn::RebindToUnsigned<D> du;
  const auto wide = hn::PromoteTo(du, bits);
  const auto exponent = hn::Set(du, 0x7C00);
  const auto magnitude = hn::ShiftLeft<13>(hn::And(wide, hn::Set(du, 0x7FFF)));
  const auto sign = hn::ShiftLeft<16>(hn::And(wide, hn::Set(du, 0x8000)));
  const auto special = hn::Or(hn::Or(magnitude, hn::Set(du, 0x7F800000)), sign);
  const auto is_special = hn::Eq(hn::And(wide, exponent), exponent);
  return hn::BitCast(df, hn::IfThenElse(is_special, special, hn::BitCast(du, value)));
#endif
}

#if HWY_NATIVE_FMA
template <class V>
HWY_INLINE V FusedMulAdd(V a, V b, V c) {
  return hn::MulAdd(a, b, c);
}
#else
// a * b is exact in float64; the sum is rounded to odd there by its error term, then to float32.
template <class V>
HWY_INLINE hn::Vec<DFHalf> FusedMulAddHalf(V a, V b, V c) {
  const DD dd;
  const DFHalf df;
  const hn::RebindToUnsigned<DD> du;
  const auto product = hn::Mul(hn::PromoteTo(dd, a), hn::PromoteTo(dd, b));
  const auto addend = hn::PromoteTo(dd, c);
  const auto sum = hn::Add(product, addend);
  const auto virtual_addend = hn::Sub(sum, product);  // Knuth's two-sum
  const auto error =
      hn::Add(hn::Sub(product, hn::Sub(sum, virtual_addend)), hn::Sub(addend, virtual_addend));
  const auto bits = hn::BitCast(du, sum);
  const auto one = hn::Set(du, 1);
  const auto even = hn::Eq(hn::And(bits, one), hn::Zero(du));
  const auto lost = hn::RebindMask(du, hn::And(hn::Ne(error, hn::Zero(dd)), hn::Eq(error, error)));
  // The error points away from zero when its sign is the sum's.
  const auto outward =
      hn::RebindMask(du, hn::Not(hn::Xor(hn::Lt(error, hn::Zero(dd)), hn::Lt(sum, hn::Zero(dd)))));
  const auto moved = hn::IfThenElse(outward, hn::Add(bits, one), hn::Sub(bits, one));
  return hn::DemoteTo(df, hn::BitCast(dd, hn::IfThenElse(hn::And(lost, even), moved, bits)));
}
template <class V>
HWY_INLINE V FusedMulAdd(V a, V b, V c) {
  const DF d;
  const auto low = FusedMulAddHalf(hn::LowerHalf(a), hn::LowerHalf(b), hn::LowerHalf(c));
  const hn::Half<DF> half;
  const auto high =
      FusedMulAddHalf(hn::UpperHalf(half, a), hn::UpperHalf(half, b), hn::UpperHalf(half, c));
  return hn::Combine(d, high, low);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
