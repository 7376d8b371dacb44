// SHA-256 and SHA-1 against the published vectors (FIPS 180-4 examples), however the bytes are cut
// up.
#include "base/hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace thorns {
namespace {

struct Vector {
  std::string text;
  std::string digest;
};

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> rows = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'),
       "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  return rows;
}

TEST(Sha256, PublishedVectors) {
  for (const Vector& row : vectors()) {
    Sha256 hash;
    hash.update(std::as_bytes(std::span(row.text)));
    EXPECT_EQ(hash.hex(), row.digest);
  }
}

TEST(Sha1, PublishedVectors) {
  const std::string text = "abc";
  Digest hash(Digest::Kind::Sha1);
  EXPECT_EQ(hash.hex_so_far(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  hash.update(std::as_bytes(std::span(text)));
  EXPECT_EQ(hash.hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

TEST(Sha256, PiecesMakeNoDifference) {
  const Vector& row = vectors()[2];
  for (const std::size_t piece : {1U, 3U, 55U, 64U}) {
    Sha256 hash;
    const auto bytes = std::as_bytes(std::span(row.text));
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      hash.update(bytes.subspan(at, std::min<std::size_t>(piece, bytes.size() - at)));
      hash.update({});
    }
    EXPECT_EQ(hash.hex(), row.digest) << piece;
  }
}

TEST(Sha256, AStreamMovesWithItsOwner) {
  const Vector& row = vectors()[1];
  const auto bytes = std::as_bytes(std::span(row.text));
  Sha256 first;
  first.update(bytes.first(1));
  Sha256 second = std::move(first);
  second.update(bytes.subspan(1));
  EXPECT_EQ(second.hex(), row.digest);
}

}  // namespace
}  // namespace thorns
