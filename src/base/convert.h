// Exact decoding of floating point numbers of 16 bits and less, one at a time: the plain twin of
// the vector kernels, for small tensors, for quantised ones and for checking. Nothing here rounds;
// encoding is the kernels' part.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace thorns {

// IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction. NaN stays NaN, with its sign and
// fraction.
inline float float_from_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 15) << 31;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t fraction = bits & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);  // subnormal or zero
    return sign == 0 ? magnitude : -magnitude;
  }
  const std::uint32_t widened = exponent == 0x1F ? 0xFFU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

// bfloat16: the upper half of a float32.
inline float float_from_bfloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// The 8-bit types of Micikevicius et al., "FP8 Formats for Deep Learning" (2022). E4M3: bias 7, no
// infinities, all bits but the sign set is NaN. E5M2: the upper half of a binary16.
inline float float_from_e4m3(std::uint8_t bits) {
  const int exponent = (bits >> 3) & 0xF;
  const int fraction = bits & 7;
  if (exponent == 0xF && fraction == 7) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -9)
                              : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return (bits & 0x80) == 0 ? magnitude : -magnitude;
}
inline float float_from_e5m2(std::uint8_t bits) {
  return float_from_half(static_cast<std::uint16_t>(bits << 8));
}

// The parts of the OCP Microscaling formats (2023). E8M0: 2^(bits - 127), 255 is NaN. E2M1: the low
// four bits of `bits`, sign first.
inline float float_from_e8m0(std::uint8_t bits) {
  if (bits == 0xFF) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0F, static_cast<int>(bits) - 127);
}
inline float float_from_e2m1(std::uint8_t bits) {
  constexpr std::array<float, 8> kMagnitudes = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  const float magnitude = kMagnitudes[bits & 7];
  return (bits & 8) == 0 ? magnitude : -magnitude;
}

}  // namespace thorns
