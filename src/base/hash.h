// SHA-256, and for Git's names SHA-1, of a stream of bytes (libcrypto).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace thorns {

class Digest {
 public:
  enum class Kind { Sha1, Sha256 };

  explicit Digest(Kind kind);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  void update(std::span<const std::byte> bytes);
  std::string hex_so_far() const;  // of the bytes until now; the stream goes on
  std::string hex();               // ends the stream; 64 lower-case digits, of SHA-1 40

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Sha256 : public Digest {
 public:
  Sha256() : Digest(Kind::Sha256) {}
};

}  // namespace thorns
