// Stored elements to float32, and the test for NaN and Inf.
#include <cstring>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/widen.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

HWY_INLINE hn::Vec<DF> WidenBfloat(hn::Vec<DH> bits) {
  return hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), bits)));
}
// `lift` turns a vector of 16-bit patterns into float32; the last, partial vector goes through a
// buffer.
template <class Lift>
HWY_INLINE void Widen16(const std::uint16_t* from, std::size_t count, float* to, Lift lift) {
  const DF df;
  const DH dh;
  const std::size_t step = hn::Lanes(df);
  std::size_t i = 0;
  for (; i + step <= count; i += step) hn::StoreU(lift(hn::LoadU(dh, from + i)), df, to + i);
  if (i < count) {
    HWY_ALIGN std::uint16_t in[16] = {};
    HWY_ALIGN float out[16];
    std::memcpy(in, from + i, (count - i) * sizeof(*from));
    hn::Store(lift(hn::Load(dh, in)), df, out);
    std::memcpy(to + i, out, (count - i) * sizeof(*to));
  }
}

void WidenBfloats(const std::uint16_t* from, std::size_t count, float* to) {
  Widen16(from, count, to, [](auto bits) { return WidenBfloat(bits); });
}
void WidenHalves(const std::uint16_t* from, std::size_t count, float* to) {
  Widen16(from, count, to, [](auto bits) { return WidenHalf(hn::PromoteTo(DU(), bits)); });
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
  const DU d;
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
#include <cmath>

namespace thorns {

HWY_EXPORT(WidenBfloats);
HWY_EXPORT(WidenHalves);
HWY_EXPORT(Finite16);
HWY_EXPORT(Finite32);

namespace {

// Source tiles may start at any byte; every element size divides the alignment of the buffers they
// are read into, so these casts are aligned.
const std::uint16_t* words(const std::byte* from) {
  return reinterpret_cast<const std::uint16_t*>(from);
}

double load_double(const std::byte* from, std::size_t index) {
  double value = 0;
  std::memcpy(&value, from + index * sizeof(double), sizeof(double));
  return value;
}

}  // namespace

void widen(Dtype dtype, const std::byte* from, std::size_t count, float* to) {
  switch (dtype) {
    case Dtype::BF16:
      HWY_DYNAMIC_DISPATCH(WidenBfloats)(words(from), count, to);
      return;
    case Dtype::F16:
      HWY_DYNAMIC_DISPATCH(WidenHalves)(words(from), count, to);
      return;
    case Dtype::F64:
      for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<float>(load_double(from, i));
      return;
    default:
      std::memcpy(to, from, count * sizeof(float));
      return;
  }
}

bool all_finite(Dtype dtype, const std::byte* from, std::size_t count) {
  switch (dtype) {
    case Dtype::BF16:
      return HWY_DYNAMIC_DISPATCH(Finite16)(words(from), count, 0x7F80);
    case Dtype::F16:
      return HWY_DYNAMIC_DISPATCH(Finite16)(words(from), count, 0x7C00);
    case Dtype::F64:
      for (std::size_t i = 0; i < count; ++i) {
        if (!std::isfinite(load_double(from, i))) return false;
      }
      return true;
    default:
      return HWY_DYNAMIC_DISPATCH(Finite32)(reinterpret_cast<const std::uint32_t*>(from), count);
  }
}

}  // namespace thorns
#endif  // HWY_ONCE
