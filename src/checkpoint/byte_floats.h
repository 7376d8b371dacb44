// Runs of 8-bit floats times one scale, on every SIMD target of the CPU family. Private to this
// room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "thorns/dtype.h"

namespace thorns {

// to[i] = number(from[i]) * scale for `count` bytes of F8_E4M3 or F8_E5M2: a product of at most 4
// and 24 bits, rounded once to float32. No alignment is needed. Every target gives the same bits,
// those of float_from_e4m3 and float_from_e5m2 (base/convert.h) times `scale`; a NaN is some NaN.
void scale_byte_floats(Dtype dtype, const std::uint8_t* from, std::size_t count, float scale,
                       std::byte* to);

}  // namespace thorns
