#include "base/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace thorns {
namespace {

TEST(Convert, HalfDecodesByItsDefinition) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
    const int exponent = static_cast<int>((bits >> 10) & 0x1FU);
    const double fraction = static_cast<double>(bits & 0x3FFU) / 1024.0;
    const float got = float_from_half(static_cast<std::uint16_t>(bits));
    if (exponent == 31) {
      if (fraction == 0.0) {
        EXPECT_EQ(got, sign * std::numeric_limits<double>::infinity()) << bits;
      } else {
        EXPECT_TRUE(std::isnan(got)) << bits;
      }
      continue;
    }
    const double expected = exponent == 0 ? sign * std::ldexp(fraction, -14)
                                          : sign * std::ldexp(1.0 + fraction, exponent - 15);
    EXPECT_EQ(static_cast<double>(got), expected) << bits;
    EXPECT_EQ(std::signbit(got), (bits & 0x8000U) != 0) << bits;
  }
}

TEST(Convert, BfloatIsTheUpperHalfOfAFloat) {
  EXPECT_EQ(float_from_bfloat(0x3F80), 1.0F);
  EXPECT_EQ(float_from_bfloat(0xC000), -2.0F);
  EXPECT_EQ(float_from_bfloat(0x0001), std::ldexp(1.0F, -133));
  EXPECT_TRUE(std::signbit(float_from_bfloat(0x8000)));
  EXPECT_TRUE(std::isinf(float_from_bfloat(0x7F80)));
  EXPECT_TRUE(std::isnan(float_from_bfloat(0x7FC0)));
}

}  // namespace
}  // namespace thorns
