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

// Sign, exponent and fraction by the books, for the types without infinities.
double by_definition(unsigned bits, int exponent_bits, int fraction_bits, int bias) {
  const unsigned fraction = bits & ((1U << fraction_bits) - 1);
  const unsigned exponent = (bits >> fraction_bits) & ((1U << exponent_bits) - 1);
  const double sign = (bits >> (exponent_bits + fraction_bits) & 1U) != 0 ? -1.0 : 1.0;
  const double part = static_cast<double>(fraction) / static_cast<double>(1U << fraction_bits);
  if (exponent == 0) return sign * std::ldexp(part, 1 - bias);
  return sign * std::ldexp(1.0 + part, static_cast<int>(exponent) - bias);
}

TEST(Convert, EightBitFloatsDecodeByTheirDefinition) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    const auto byte = static_cast<std::uint8_t>(bits);
    if ((bits & 0x7FU) == 0x7FU) {
      EXPECT_TRUE(std::isnan(float_from_e4m3(byte)));
    } else {
      EXPECT_EQ(static_cast<double>(float_from_e4m3(byte)), by_definition(bits, 4, 3, 7)) << bits;
      EXPECT_EQ(std::signbit(float_from_e4m3(byte)), bits >= 0x80U) << bits;
    }
    const float e5m2 = float_from_e5m2(byte);
    if ((bits & 0x7CU) != 0x7CU) {
      EXPECT_EQ(static_cast<double>(e5m2), by_definition(bits, 5, 2, 15)) << bits;
    } else {
      EXPECT_TRUE((bits & 3U) == 0 ? std::isinf(e5m2) : std::isnan(e5m2)) << bits;
    }
  }
  EXPECT_EQ(float_from_e4m3(0x7E), 448.0F);
  EXPECT_EQ(float_from_e5m2(0x7B), 57344.0F);
}

TEST(Convert, MicroscalingPartsDecodeByTheirDefinition) {
  for (unsigned bits = 0; bits < 255; ++bits) {
    EXPECT_EQ(static_cast<double>(float_from_e8m0(static_cast<std::uint8_t>(bits))),
              std::exp2(static_cast<double>(bits) - 127.0));
  }
  EXPECT_TRUE(std::isnan(float_from_e8m0(255)));
  for (unsigned bits = 0; bits < 256; ++bits) {  // the upper four bits do not count
    EXPECT_EQ(static_cast<double>(float_from_e2m1(static_cast<std::uint8_t>(bits))),
              by_definition(bits & 0xFU, 2, 1, 1))
        << bits;
  }
}

}  // namespace
}  // namespace thorns
