// What the fuzz targets ask of any tensors that were opened.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "checkpoint/source.h"
#include "support/fuzz_parts.h"

namespace thorns::fuzz {

inline bool same_float(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

// `read`, the bytes of the tensor's first `count` elements, is what is had of them in place.
inline void check_in_place(const TensorSource& source, std::size_t tensor, std::size_t count,
                           std::span<const std::byte> read) {
  if (const auto part = source.map(tensor, 0, count)) {
    require(std::equal(read.begin(), read.end(), part->bytes().begin(), part->bytes().end()));
    part->require_intact();
  }
  const auto codes = source.map_codes(tensor, 0, count);
  if (codes == nullptr) return;
  require(source.tensors()[tensor].dtype == Dtype::F32);
  const std::size_t first = count / 3;
  std::vector<float> decoded(count - first);
  codes->decode(first, decoded.size(), decoded.data());
  codes->require_intact();
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    float value = 0;
    std::memcpy(&value, read.data() + (first + i) * sizeof value, sizeof value);
    require(same_float(decoded[i], value));
  }
}

}  // namespace thorns::fuzz
