#include "base/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

#include "thorns/error.h"

namespace thorns {

struct Digest::State {
  Kind kind = Kind::Sha256;
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
};

namespace {
void require(int result) {
  if (result != 1) throw Error(ErrorCode::Internal, "libcrypto could not compute a hash");
}
}  // namespace

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  state_->kind = kind;
  const EVP_MD* const algorithm = kind == Kind::Sha1 ? EVP_sha1() : EVP_sha256();
  require(state_->context ? EVP_DigestInit_ex(state_->context.get(), algorithm, nullptr) : 0);
}
Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::update(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()));
}

std::string Digest::hex_so_far() const {
  Digest copy(state_->kind);
  require(EVP_MD_CTX_copy_ex(copy.state_->context.get(), state_->context.get()));
  return copy.hex();
}

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(state_->context.get(), digest.data(), &size));
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest.at(i));
  return text;
}

}  // namespace thorns
