// What the fuzz targets share: inputs that stand for several files, and checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>
#include <vector>

#include "thorns/error.h"

namespace thorns::fuzz {

// The parts of an input, separated by lines `---`; the last of `most` keeps further separators.
// Parts that are not there are empty.
inline std::vector<std::string> split_parts(const std::uint8_t* data, std::size_t size,
                                            std::size_t most) {
  constexpr const char* kSeparator = "\n---\n";
  constexpr std::size_t kSeparatorBytes = 5;
  std::string rest(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> parts;
  while (parts.size() + 1 < most) {
    const std::size_t at = rest.find(kSeparator);
    if (at == std::string::npos) break;
    parts.push_back(rest.substr(0, at));
    rest.erase(0, at + kSeparatorBytes);
  }
  parts.push_back(std::move(rest));
  parts.resize(most);
  return parts;
}

// Ends the program where something that must hold does not.
inline void require(bool holds) {
  if (!holds) std::abort();
}

// The error names a byte of the file, of which there are `size`, or its end.
inline void require_placed(const Error& error, std::uint64_t size) {
  const auto* place = std::get_if<FilePlace>(&error.where());
  require(place != nullptr && place->offset && *place->offset <= size);
}

}  // namespace thorns::fuzz
