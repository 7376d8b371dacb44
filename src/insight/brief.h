// Long keys in the middle of a sentence.
#pragma once

#include <string>
#include <string_view>

namespace thorns {

// In backticks; what is too long loses its middle.
inline std::string brief(std::string_view key, std::size_t most = 60) {
  if (key.size() <= most) return "`" + std::string(key) + "`";
  const auto starts = [&](std::size_t at) {  // no byte of a character's inside
    return (static_cast<unsigned char>(key[at]) & 0xC0) != 0x80;
  };
  std::size_t head = most / 2;
  std::size_t tail = key.size() - most / 2;
  while (head > 0 && !starts(head)) --head;
  while (tail < key.size() && !starts(tail)) ++tail;
  return "`" + std::string(key.substr(0, head)) + "..." + std::string(key.substr(tail)) + "`";
}

}  // namespace thorns
