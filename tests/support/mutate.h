// What the custom mutators of the fuzz targets share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace thorns::fuzz {

using Random = std::minstd_rand;

inline std::size_t below(Random& random, std::size_t bound) { return random() % bound; }

// What libFuzzer makes of `bytes`, of at most `most` bytes.
inline std::string mutated_bytes(std::string bytes, std::size_t most) {
  const std::size_t size = std::min(bytes.size(), most);
  bytes.resize(std::max<std::size_t>(most, 1));
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, most));
  return bytes;
}

// Copies the result of a mutator to where libFuzzer wants it.
inline std::size_t give(const std::string& bytes, std::uint8_t* data, std::size_t most) {
  const std::size_t size = std::min(bytes.size(), most);
  std::copy_n(bytes.begin(), size, data);
  return size;
}

}  // namespace thorns::fuzz
