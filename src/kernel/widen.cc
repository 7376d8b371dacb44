// Stored elements to float64, and the test for NaN and Inf.
#include <cstring>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/widen.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

// The caller walks its tile chunk by chunk, and other tensors come in between: so each pass asks
// for the chunk that will be needed next, which the hardware cannot guess. Prefetching past an end
// is harmless.
//
// `load(tag, index)` gives a vector of float32 that starts at element `index`; `count` is padded.
template <class Load>
HWY_INLINE void ToDoubles(std::size_t count, double* to, Load load) {
  const DD dd;
  const DF df;
  const DFHalf half;
  const std::size_t step = hn::Lanes(dd);
  std::size_t i = 0;
  for (; i + 2 * step <= count; i += 2 * step) {
    const auto values = load(df, i);
    hn::StoreU(hn::PromoteTo(dd, hn::LowerHalf(half, values)), dd, to + i);
    hn::StoreU(hn::PromoteTo(dd, hn::UpperHalf(half, values)), dd, to + i + step);
  }
  for (; i < count; i += step) hn::StoreU(hn::PromoteTo(dd, load(half, i)), dd, to + i);
}

void WidenBfloats(const std::uint16_t* from, std::size_t count, double* to) {
  ToDoubles(count, to, [&](auto df, std::size_t i) {
    hwy::Prefetch(from + i + kChunk);
    const hn::Rebind<std::uint16_t, decltype(df)> dh;
    const hn::RebindToUnsigned<decltype(df)> du;
    return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, from + i))));
  });
}
void WidenHalves(const std::uint16_t* from, std::size_t count, double* to) {
  ToDoubles(count, to, [&](auto df, std::size_t i) {
    hwy::Prefetch(from + i + kChunk);
    const hn::Rebind<std::uint16_t, decltype(df)> dh;
    return WidenHalf(df, hn::LoadU(dh, from + i));
  });
}
void WidenFloats(const float* from, std::size_t count, double* to) {
  ToDoubles(count, to, [&](auto df, std::size_t i) { return hn::LoadU(df, from + i); });
}

// Patterns of 16 bits whose exponent is all ones are NaN or Inf.
bool Finite16(const std::uint16_t* from, std::size_t count, std::uint16_t exponent) {
  const hn::CappedTag<std::uint16_t, 32> d;
  const std::size_t step = hn::Lanes(d);
  const auto mask = hn::Set(d, exponent);
  std::size_t i = 0;
  for (; i + step <= count; i += step) {
    if (!hn::AllFalse(d, hn::Eq(hn::And(hn::LoadU(d, from + i), mask), mask))) return false;
  }
  for (; i < count; ++i) {
    if ((from[i] & exponent) == exponent) return false;
  }
  return true;
}
bool Finite32(const std::uint32_t* from, std::size_t count) {
  const hn::CappedTag<std::uint32_t, 16> d;
  const std::size_t step = hn::Lanes(d);
  const auto mask = hn::Set(d, 0x7F800000U);
  std::size_t i = 0;
  for (; i + step <= count; i += step) {
    if (!hn::AllFalse(d, hn::Eq(hn::And(hn::LoadU(d, from + i), mask), mask))) return false;
  }
  for (; i < count; ++i) {
    if ((from[i] & 0x7F800000U) == 0x7F800000U) return false;
  }
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <array>
#include <cmath>

namespace thorns {

HWY_EXPORT(WidenBfloats);
HWY_EXPORT(WidenHalves);
HWY_EXPORT(WidenFloats);
HWY_EXPORT(Finite16);
HWY_EXPORT(Finite32);

namespace {

// Runs start at a multiple of their element size, so these casts are aligned.
template <class T>
const T* as(const std::byte* from) {
  return reinterpret_cast<const T*>(from);
}

void widen_whole(Dtype dtype, const std::byte* from, std::size_t count, double* to) {
  switch (dtype) {
    case Dtype::BF16:
      HWY_DYNAMIC_DISPATCH(WidenBfloats)(as<std::uint16_t>(from), count, to);
      return;
    case Dtype::F16:
      HWY_DYNAMIC_DISPATCH(WidenHalves)(as<std::uint16_t>(from), count, to);
      return;
    case Dtype::F64:
      std::memcpy(to, from, count * sizeof(double));
      return;
    default:
      HWY_DYNAMIC_DISPATCH(WidenFloats)(as<float>(from), count, to);
      return;
  }
}

}  // namespace

void widen(Dtype dtype, const std::byte* from, std::size_t count, double* to) {
  const std::size_t whole = count / kLanes * kLanes;
  widen_whole(dtype, from, whole, to);
  if (whole == count) return;
  alignas(64) std::array<std::byte, kLanes * sizeof(double)> rest{};  // zeros are 0 in every type
  std::memcpy(rest.data(), from + whole * size_of(dtype), (count - whole) * size_of(dtype));
  widen_whole(dtype, rest.data(), kLanes, to + whole);
}

void widen_to_24_bits(Dtype dtype, const std::byte* from, std::size_t count, double* to) {
  widen(dtype, from, count, to);
  if (dtype != Dtype::F64) return;
  for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<double>(static_cast<float>(to[i]));
}

bool all_finite(Dtype dtype, const std::byte* from, std::size_t count) {
  switch (dtype) {
    case Dtype::BF16:
      return HWY_DYNAMIC_DISPATCH(Finite16)(as<std::uint16_t>(from), count, 0x7F80);
    case Dtype::F16:
      return HWY_DYNAMIC_DISPATCH(Finite16)(as<std::uint16_t>(from), count, 0x7C00);
    case Dtype::F64:
      for (std::size_t i = 0; i < count; ++i) {
        if (!std::isfinite(as<double>(from)[i])) return false;
      }
      return true;
    default:
      return HWY_DYNAMIC_DISPATCH(Finite32)(as<std::uint32_t>(from), count);
  }
}

}  // namespace thorns
#endif  // HWY_ONCE
