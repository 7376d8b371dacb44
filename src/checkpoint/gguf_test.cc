#include "checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "checkpoint/checkpoint.h"
#include "support/byte_disk.h"
#include "support/error_of.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
std::string counted(const std::string& text) { return raw(std::uint64_t{text.size()}) + text; }
std::string text_field_of(const std::string& name, const std::string& text) {
  return counted(name) + raw(std::uint32_t{8}) + counted(text);
}
std::string number_field(const std::string& name, std::uint32_t value) {
  return counted(name) + raw(std::uint32_t{4}) + raw(value);
}
std::string vector_info(const std::string& name, std::uint64_t length, std::uint32_t type,
                        std::uint64_t offset) {
  return counted(name) + raw(std::uint32_t{1}) + raw(length) + raw(type) + raw(offset);
}
std::string gguf(std::uint64_t tensors, std::uint64_t fields, const std::string& rest,
                 std::uint32_t version = 3) {
  return "GGUF" + raw(version) + raw(tensors) + raw(fields) + rest;
}
// Filled up to a multiple of 32, with `data` behind.
std::string with_data(std::string header, std::size_t data) {
  header.resize((header.size() + 31) / 32 * 32 + data);
  return header;
}

GgufHeader header_of(const std::string& bytes) {
  ByteDisk disk;
  disk.files["m.gguf"] = bytes;
  return read_gguf_header(*disk.open("m.gguf"));
}

TEST(Gguf, ReadsAHeader) {
  const std::string fields = text_field_of("a", "x") + number_field("b", 7) + counted("c") +
                             raw(std::uint32_t{9}) + raw(std::uint32_t{8}) + raw(std::uint64_t{2}) +
                             counted("p") + counted("qq");
  const GgufHeader header = header_of(with_data(
      gguf(2, 3, fields + vector_info("t", 3, 0, 0) + vector_info("u", 32, 8, 32)), 32 + 34));
  EXPECT_EQ(header.fields.at("a"), "x");
  EXPECT_EQ(header.fields.at("b"), 7);
  EXPECT_EQ(header.arrays.at("c"), 2U);
  ASSERT_EQ(header.tensors.size(), 2U);
  EXPECT_EQ(header.tensors[1].bytes, 34U);
  EXPECT_EQ(header.tensors[1].offset, header.tensors[0].offset + 32);
}

TEST(Gguf, RefusesWhatIsNotSound) {
  constexpr auto kHuge = std::uint64_t{1} << 62;
  struct Case {
    std::string bytes;
    const char* message;
    ErrorCode code = ErrorCode::Corrupt;
  };
  const std::string one = vector_info("t", 4, 0, 0);
  const Case cases[] = {
      {"GGU", "too short"},
      {"GGUX", "does not begin"},
      {"GGUF\3", "bytes should follow"},
      {gguf(0, 0, "", 1), "version 1", ErrorCode::Unsupported},
      {gguf(0, 0, "", 0x03000000), "byte order", ErrorCode::Unsupported},
      {gguf(0, kHuge, ""), "fields"},
      {gguf(kHuge, 0, ""), "tensors"},
      {gguf(0, 1, raw(kHuge) + std::string(40, 'x')), "the name of a field has"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{13}) + std::string(8, 0)), "unknown type 13"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{8}) + raw(kHuge)), "bytes should follow"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{9}) + raw(std::uint32_t{9}) + raw(kHuge)),
       "array of elements of type 9"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{9}) + raw(std::uint32_t{10}) + raw(kHuge)),
       "elements"},
      {gguf(0, 2, number_field("a", 1) + number_field("a", 1)), "twice"},
      {gguf(0, 1, number_field("general.alignment", 24)), "alignment is 24"},
      {gguf(0, 1, number_field("general.alignment", 0)), "alignment is 0"},
      {with_data(gguf(1, 0, one), 15), "beyond the end"},
      {with_data(gguf(2, 0, one + one), 64), "twice"},
      {with_data(gguf(2, 0, one + vector_info("u", 4, 0, 0)), 64), "begins at byte 0"},
      {with_data(gguf(1, 0, vector_info("t", 33, 8, 0)), 99), "blocks of 32"},
      {with_data(gguf(1, 0, vector_info("t", kHuge, 0, 0)), 32), "the shape"},
      {with_data(gguf(1, 0, vector_info("t", 0, 0, 0)), 32), "the shape"},
      {with_data(gguf(1, 0, vector_info("t", 256, 16, 0)), 99), "ggml's type 16",
       ErrorCode::Unsupported},
      {gguf(1, 0, counted("t") + raw(std::uint32_t{5}) + std::string(60, 1)), "5 dimensions"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    const Error error = error_of([&] { header_of(bad.bytes); });
    EXPECT_EQ(error.code(), bad.code);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
  }
}

TEST(Gguf, RefusesModelsItDoesNotKnowByName) {
  struct Case {
    std::uint64_t fields;
    std::string metadata;
    std::string tensor;
    const char* message;
  };
  const std::string llama = text_field_of("general.architecture", "llama");
  const Case cases[] = {
      {1, text_field_of("general.architecture", "falcon"), "output.weight", "`falcon`"},
      {2, llama + text_field_of("general.type", "adapter"), "output.weight", "is an adapter"},
      {2, llama + number_field("split.count", 3), "output.weight", "one of several parts"},
      {2, llama + text_field_of("llama.rope.scaling.type", "yarn"), "output.weight", "`yarn`"},
      {1, llama, "rope_freqs.weight", "rope_freqs.weight"},
      {1, llama, "blk.00.attn_q.weight", "blk.00.attn_q.weight"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    ByteDisk disk;
    disk.files["m.gguf"] =
        with_data(gguf(1, bad.fields, bad.metadata + vector_info(bad.tensor, 4, 0, 0)), 32);
    const Error error = error_of([&] { open_gguf(disk, "m.gguf"); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
  }
}

}  // namespace
}  // namespace thorns
