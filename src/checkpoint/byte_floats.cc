#include "checkpoint/byte_floats.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "checkpoint/byte_floats.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The bits behind the sign become the upper bits of a float32 with too small an exponent: one
// multiplication by a power of two, which is exact, puts that right for subnormals as well.
// Patterns from `special` on have no number of their own: Inf and NaN.
template <int kShift>
HWY_INLINE void ScaleRun(const std::uint8_t* from, std::size_t count, float lift, float scale,
                         std::uint32_t special, std::byte* to) {
  const hn::CappedTag<float, 16> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<std::uint8_t, decltype(df)> db;
  const std::size_t step = hn::Lanes(df);
  const auto scaled = [&](auto bytes) {
    const auto wide = hn::PromoteTo(du, bytes);
    const auto magnitude = hn::And(wide, hn::Set(du, 0x7F));
    // All bits of an exponent set: those of float32, where it is shifted to.
    const auto none =
        hn::IfThenElseZero(hn::Gt(magnitude, hn::Set(du, special - 1)), hn::Set(du, 0x7F800000));
    const auto bits = hn::Or(hn::ShiftLeft<kShift>(magnitude), none);
    const auto number = hn::Mul(hn::BitCast(df, bits), hn::Set(df, lift));
    const auto sign = hn::ShiftLeft<24>(hn::And(wide, hn::Set(du, 0x80)));
    return hn::Mul(hn::BitCast(df, hn::Or(hn::BitCast(du, number), sign)), hn::Set(df, scale));
  };
  std::size_t i = 0;
  for (; i + step <= count; i += step)
    hn::StoreU(scaled(hn::LoadU(db, from + i)), df, reinterpret_cast<float*>(to) + i);
  if (i == count) return;
  std::uint8_t rest[16] = {};
  std::memcpy(rest, from + i, count - i);
  HWY_ALIGN float lanes[16];
  hn::Store(scaled(hn::LoadU(db, rest)), df, lanes);
  std::memcpy(to + i * sizeof(float), lanes, (count - i) * sizeof(float));
}

void ScaleE4m3(const std::uint8_t* from, std::size_t count, float scale, std::byte* to) {
  ScaleRun<20>(from, count, 0x1p120F, scale, 0x7F, to);
}
void ScaleE5m2(const std::uint8_t* from, std::size_t count, float scale, std::byte* to) {
  ScaleRun<21>(from, count, 0x1p112F, scale, 0x7C, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thorns {

HWY_EXPORT(ScaleE4m3);
HWY_EXPORT(ScaleE5m2);

void scale_byte_floats(Dtype dtype, const std::uint8_t* from, std::size_t count, float scale,
                       std::byte* to) {
  if (dtype == Dtype::F8E4M3) {
    HWY_DYNAMIC_DISPATCH(ScaleE4m3)(from, count, scale, to);
  } else {
    HWY_DYNAMIC_DISPATCH(ScaleE5m2)(from, count, scale, to);
  }
}

}  // namespace thorns
#endif  // HWY_ONCE
