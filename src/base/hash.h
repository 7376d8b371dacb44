// SHA-256 of a stream of bytes (libcrypto).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace thorns {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::span<const std::byte> bytes);
  std::string hex_so_far() const;  // of the bytes until now; the stream goes on
  std::string hex();               // ends the stream; 64 lower-case digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace thorns
