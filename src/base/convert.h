// Exact decoding of 16-bit floating point numbers, one at a time: the plain twin of the vector
// kernels, for small tensors and for checking. Nothing here rounds; encoding is the kernels' part.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

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

}  // namespace thorns
