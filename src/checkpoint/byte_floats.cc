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

// One of the two types: bits of the fraction, what its exponents are less than those of float32,
// and the first pattern that is no number (Inf or NaN).
struct Format {
  std::uint32_t fraction;
  std::uint32_t bias;
  std::uint32_t special;
};
constexpr Format kE4m3 = {3, 127 - 7, 0x7F};
constexpr Format kE5m2 = {2, 127 - 15, 0x7C};

// The bits behind the sign become the upper bits of a float32. A subnormal has no leading one: it
// is taken for the smallest normal number with that fraction, from which that one is taken off
// again. Nothing here is a subnormal of float32, which would cost hundreds of cycles.
template <const Format& kFormat>
HWY_INLINE void ScaleRun(const std::uint8_t* from, std::size_t count, float scale, std::byte* to) {
  const hn::CappedTag<float, 16> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::Rebind<std::uint8_t, decltype(df)> db;
  const std::size_t step = hn::Lanes(df);
  constexpr int kShift = 23 - static_cast<int>(kFormat.fraction);
  const auto one = hn::Set(du, (kFormat.bias + 1) << 23);  // the least normal number
  const auto scaled = [&](auto bytes) {
    const auto wide = hn::PromoteTo(du, bytes);
    const auto magnitude = hn::And(wide, hn::Set(du, 0x7F));
    const auto subnormal = hn::Lt(magnitude, hn::Set(du, 1U << kFormat.fraction));
    const auto none = hn::IfThenElseZero(hn::Gt(magnitude, hn::Set(du, kFormat.special - 1)),
                                         hn::Set(du, 0x7F800000));
    const auto lift = hn::IfThenElse(subnormal, one, hn::Set(du, kFormat.bias << 23));
    const auto bits = hn::Or(hn::Add(hn::ShiftLeft<kShift>(magnitude), lift), none);
    const auto number =
        hn::Sub(hn::BitCast(df, bits), hn::BitCast(df, hn::IfThenElseZero(subnormal, one)));
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
  ScaleRun<kE4m3>(from, count, scale, to);
}
void ScaleE5m2(const std::uint8_t* from, std::size_t count, float scale, std::byte* to) {
  ScaleRun<kE5m2>(from, count, scale, to);
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
