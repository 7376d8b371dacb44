#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <string>

#include "checkpoint/weights_file.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::offset_of;
using test::path_of;
using test::raw_safetensors;

constexpr const char* kHeaderPath = "m/model.safetensors";

SafetensorsHeader safetensors_header_of(const std::string& bytes) {
  ByteDisk disk;
  disk.files[kHeaderPath] = bytes;
  return read_safetensors_header(*disk.open(kHeaderPath));
}

std::string zeros(std::size_t count) { return std::string(count, '\0'); }

struct Good {
  const char* what;
  std::string bytes;
  std::size_t tensors;
};

TEST(Safetensors, AcceptsWhatTheReferenceReaderAccepts) {
  const Good cases[] = {
      {"smallest file", raw_safetensors("{}"), 0},
      {"white space behind", raw_safetensors("{}\r \t\n"), 0},
      {"white space before", raw_safetensors("\t\n{}"), 0},
      {"scalar",
       raw_safetensors(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", zeros(4)), 1},
      {"zero dimension",
       raw_safetensors(R"({"a":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}})"), 1},
      {"zero-size tensors on a boundary",
       raw_safetensors(R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},
                           "e":{"dtype":"F32","shape":[0],"data_offsets":[2,2]},
                           "f":{"dtype":"F32","shape":[0],"data_offsets":[2,2]},
                           "a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                       zeros(5)),
       4},
      {"null metadata", raw_safetensors(R"({"__metadata__":null})"), 0},
      {"unknown fields",
       raw_safetensors(R"({"a":{"x":{"y":[1,-2.5,"z",{"w":null}]},"dtype":"U8","shape":[1],)"
                       R"("note":true,"data_offsets":[0,1]}})",
                       zeros(1)),
       1},
      {"a tensor without a name",
       raw_safetensors(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", zeros(1)), 1},
      {"16 dimensions",
       raw_safetensors(
           R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
           zeros(1)),
       1},
  };
  for (const Good& good : cases) {
    SCOPED_TRACE(good.what);
    EXPECT_EQ(safetensors_header_of(good.bytes).entries.size(), good.tensors);
  }
}

TEST(Safetensors, ReadsEntriesInTheOrderOfTheirBytes) {
  const std::string text = R"({"__metadata__":{"format":"pt","k":"\u00e9"},)"
                           R"("late":{"dtype":"BF16","shape":[2,3],"data_offsets":[16,28]},)"
                           R"("early":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}})";
  const SafetensorsHeader header = safetensors_header_of(raw_safetensors(text, zeros(28)));
  ASSERT_EQ(header.entries.size(), 2U);
  EXPECT_EQ(header.entries[0].info.name, "early");
  EXPECT_EQ(header.entries[0].info.dtype, Dtype::I64);
  EXPECT_EQ(header.entries[0].offset, 8 + text.size());
  EXPECT_EQ(header.entries[1].info.name, "late");
  EXPECT_EQ(header.entries[1].info.shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ(header.entries[1].info.elements, 6U);
  EXPECT_EQ(header.entries[1].info.bytes(), 12U);
  EXPECT_EQ(header.entries[1].offset, 8 + text.size() + 16);
  EXPECT_EQ(header.data_begin, 8 + text.size());
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.metadata.at("k"), "\u00e9");
}

TEST(Safetensors, EveryKnownDtypeIsRead) {
  for (const char* name : {"BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32",
                           "F64", "I64", "U64", "F8_E4M3", "F8_E5M2"}) {
    const std::size_t size = size_of(*dtype_from_safetensors(name));
    const auto header = safetensors_header_of(
        raw_safetensors(std::string(R"({"a":{"dtype":")") + name +
                            R"(","shape":[1],"data_offsets":[0,)" + std::to_string(size) + "]}}",
                        zeros(size)));
    EXPECT_STREQ(to_string(header.entries.at(0).info.dtype), name);
  }
}

// The example of the reference's own tests: its header fills 64 bytes without padding.
TEST(Safetensors, BuilderWritesTheReferenceLayout) {
  test::SafetensorsBuilder builder;
  builder.add("attn.0", Dtype::F32, {1, 2, 3}, {0, 1, 2, 3, 4, 5});
  EXPECT_NE(
      builder.bytes().find(R"("attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]})"),
      std::string::npos);
  builder.add("narrow", Dtype::F16, {1}, {1.0}).add("wide", Dtype::F64, {1}, {1.0});
  const SafetensorsHeader header = safetensors_header_of(builder.bytes());
  EXPECT_EQ(header.data_begin % 8, 0U);
  EXPECT_EQ(header.entries[0].info.name, "wide");
  EXPECT_EQ(header.entries[2].info.name, "narrow");
}

struct Bad {
  const char* what;
  std::string bytes;
  const char* message;    // a part of it
  long long offset = -1;  // expected; -1 means any, but there must be one
  const char* hint = "";  // a part of it
};

// One tensor, its description spelled out, and `data` bytes.
std::string one(const std::string& fields, std::size_t data) {
  return raw_safetensors("{\"a\":{" + fields + "}}", zeros(data));
}

std::vector<Bad> bad_lengths() {
  return {
      {"empty file", "", "it has 0 bytes", 0, "fetch it again"},
      {"7 bytes", zeros(7), "it has 7 bytes", 0, "fetch it again"},
      {"nothing behind the length", std::string("\x3c\0\0\0\0\0\0\0", 8),
       "header of 60 bytes needs a file of at least 68 bytes, this one has 8", 0, "fetch it again"},
      {"length of all ones", std::string(8, '\xff') + "{}", "18446744073709551615 bytes", 0},
      {"length one above the limit", std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}",
       "100000001 bytes, more than the 100000000", 0},
      {"length at the limit, short file", std::string("\x00\xe1\xf5\x05\0\0\0\0", 8) + "{}",
       "header of 100000000 bytes needs a file of at least 100000008", 0},
      {"LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
       "this is a Git-LFS pointer, not the file", 0, "git lfs pull"},
      {"two bytes of data missing", one(R"("dtype":"I32","shape":[2,2],"data_offsets":[0,16])", 14),
       "its header announces 81 bytes in all, the file has 79", 79, "fetch it again"},
      {"bytes behind the data", one(R"("dtype":"I32","shape":[2,2],"data_offsets":[0,16])", 17),
       "its header announces 81 bytes in all, the file has 82", 81},
      {"bytes behind no data", raw_safetensors("{}", "x"), "announces 10 bytes in all", 10},
  };
}

std::vector<Bad> bad_json() {
  return {
      {"not UTF-8", raw_safetensors("\xff"), "not hold valid JSON", 8},
      {"not UTF-8 in a name", raw_safetensors("{\"a\xff\":1}"), "not hold valid JSON", 11},
      {"open end", raw_safetensors("{"), "ends too early", 9},
      {"empty header", raw_safetensors(""), "ends too early", 8},
      {"byte order mark", raw_safetensors("\xEF\xBB\xBF{}"), "byte order mark", 8},
      {"NUL padding", raw_safetensors(std::string("{}\0\0", 4)), "NUL byte", 10},
      {"text behind", raw_safetensors("{}x"), "not hold valid JSON", 10},
      {"comment", raw_safetensors("/**/{}"), "not hold valid JSON", 8},
      {"array", raw_safetensors("[]"), "not a JSON object"},
      {"number", raw_safetensors("7"), "not a JSON object"},
      {"huge number", raw_safetensors("{\"a\":1e999}"), "not hold valid JSON"},
      {"deep unknown field",
       one(R"("x":[[[[[[[[[[[[1]]]]]]]]]]]],"dtype":"U8","shape":[1],"data_offsets":[0,1])", 1),
       "nested more than 8 deep"},
  };
}

std::vector<Bad> bad_entries() {
  return {
      {"entry is a number", raw_safetensors(R"({"a":1})"), "tensor `a` is not described"},
      {"entry is an array", raw_safetensors(R"({"a":[]})"), "`a` is an array"},
      {"no dtype", one(R"("shape":[1],"data_offsets":[0,1])", 1), "tensor `a` has no `dtype`"},
      {"no shape", one(R"("dtype":"U8","data_offsets":[0,1])", 1), "tensor `a` has no `shape`"},
      {"no offsets", one(R"("dtype":"U8","shape":[1])", 1), "tensor `a` has no `data_offsets`"},
      {"dtype twice", one(R"("dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1])", 1),
       "tensor `a` has `dtype` twice"},
      {"unknown dtype", one(R"("dtype":"F31","shape":[1],"data_offsets":[0,1])", 1),
       "tensor `a` has the unknown dtype `F31`"},
      {"lower-case dtype", one(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])", 4),
       "unknown dtype `f32`"},
      {"dtype is a number", one(R"("dtype":5,"shape":[1],"data_offsets":[0,1])", 1),
       "`dtype` is not text"},
      {"dtype is an object", one(R"("dtype":{},"shape":[1],"data_offsets":[0,1])", 1),
       "an object stands where it cannot"},
      {"shape is a number", one(R"("dtype":"U8","shape":1,"data_offsets":[0,1])", 1),
       "`shape` is not an array"},
      {"shape is null", one(R"("dtype":"U8","shape":null,"data_offsets":[0,1])", 1),
       "`shape` is not an array"},
      {"nested shape", one(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])", 1),
       "an array stands where it cannot"},
      {"negative dimension", one(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])", 1),
       "`shape` holds something else than whole numbers"},
      {"minus zero", one(R"("dtype":"U8","shape":[-0],"data_offsets":[0,0])", 0),
       "`shape` holds something else"},
      {"dimension with a point", one(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])", 1),
       "`shape` holds something else"},
      {"dimension with an exponent", one(R"("dtype":"U8","shape":[1e0],"data_offsets":[0,1])", 1),
       "`shape` holds something else"},
      {"dimension as text", one(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])", 1),
       "`shape` holds something else"},
      {"dimension of 2^64",
       one(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1])", 1),
       "`shape` holds something else"},
      {"17 dimensions",
       one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])", 1),
       "tensor `a` has more than 16 dimensions"},
      {"one offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[0])", 1),
       "has 1 data_offsets, expected 2"},
      {"three offsets", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])", 1),
       "more than 2 data_offsets"},
      {"negative offset", one(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])", 1),
       "`data_offsets` holds something else"},
      {"metadata is a number", raw_safetensors(R"({"__metadata__":1})"), "is not an object"},
      {"metadata is an array", raw_safetensors(R"({"__metadata__":[]})"), "is an array"},
      {"metadata of a number", raw_safetensors(R"({"__metadata__":{"a":1}})"),
       "the value of `a` in `__metadata__` is not text"},
      {"metadata of an object", raw_safetensors(R"({"__metadata__":{"a":{}}})"),
       "the value of `a` in `__metadata__` is not text"},
      {"metadata name twice", raw_safetensors(R"({"__metadata__":{"a":"1","a":"2"}})"),
       "the name `a` stands twice in `__metadata__`"},
      {"metadata twice", raw_safetensors(R"({"__metadata__":null,"__metadata__":null})"),
       "`__metadata__` stands twice"},
  };
}

std::vector<Bad> bad_layouts() {
  std::string ten = "{";
  for (int i = 0; i < 10; ++i) {
    ten += (i > 0 ? ",\"t" : "\"t") + std::to_string(i) +
           R"(":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]})";
  }
  ten += "}";
  return {
      {"ten names on one range", raw_safetensors(ten, zeros(16)),
       "tensor `t1` spans bytes 0 to 16 of the data, expected to begin at 16"},
      {"one name twice on one range",
       raw_safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                       zeros(1)),
       "the tensor name `a` stands twice", 8 + 53},
      {"one name twice, once escaped",
       raw_safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                       zeros(2)),
       "the tensor name `a` stands twice", 8 + 53},
      {"gap at the start", one(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])", 2),
       "expected to begin at 0", 9},
      {"gap inside",
       raw_safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("b\"\\":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                       zeros(3)),
       "spans bytes 2 to 3 of the data, expected to begin at 1", 8 + 53},
      {"end before begin",
       one(R"("dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{)"
           R"("dtype":"U8","shape":[1],"data_offsets":[0,1]},"c":{)"
           R"("dtype":"U8","shape":[1],"data_offsets":[1,0])",
           1),
       "tensor `c` spans bytes 1 to 0"},
      {"zero-size tensor inside another",
       raw_safetensors(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
                       zeros(4)),
       "tensor `z` spans bytes 2 to 2"},
      {"offsets too short", one(R"("dtype":"I32","shape":[2,2],"data_offsets":[0,4])", 4),
       "shape [2, 2] and 32 bits an element needs 16 bytes, its data_offsets span 4", 9},
      {"element count overflows",
       one(R"("dtype":"F32","shape":[2,18446744073709551614],"data_offsets":[0,16])", 16),
       "too large to count", 9},
      {"bit count overflows",
       one(R"("dtype":"F32","shape":[2,9223372036854775807],"data_offsets":[0,16])", 16),
       "too large to count", 9},
      {"overflow before a zero",
       one(R"("dtype":"F32","shape":[9223372036854775807,9,0],"data_offsets":[0,0])", 0),
       "too large to count", 9},
      {"three 4-bit elements", one(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])", 2),
       "has 12 bits, not a whole number of bytes", 9},
      {"end near 2^64",
       one(R"("dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615])",
           4),
       "too large to count"},
      {"more data than a file can have",
       one(R"("dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951])",
           4),
       "announces 2305843009213694048 bytes in all, the file has 101"},
  };
}

TEST(Safetensors, RefusesEverythingElseWithThePlace) {
  for (const auto& cases : {bad_lengths(), bad_json(), bad_entries(), bad_layouts()}) {
    for (const Bad& bad : cases) {
      SCOPED_TRACE(bad.what);
      const Error error = error_of([&] { safetensors_header_of(bad.bytes); });
      EXPECT_EQ(error.code(), ErrorCode::Corrupt);
      EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
      EXPECT_NE(error.message().find(kHeaderPath), std::string::npos) << error.message();
      EXPECT_NE(error.hint().find(bad.hint), std::string::npos) << error.hint();
      EXPECT_EQ(path_of(error), kHeaderPath);
      if (bad.offset >= 0) {
        EXPECT_EQ(offset_of(error), bad.offset);
      }
      EXPECT_GE(offset_of(error), 0);
      EXPECT_LE(offset_of(error), static_cast<long long>(bad.bytes.size()));
    }
  }
}

TEST(Safetensors, TypesWithoutUseAreUnsupportedByName) {
  const std::pair<const char*, std::size_t> cases[] = {{"F4", 2},          {"F6_E2M3", 3},
                                                       {"F6_E3M2", 3},     {"F8_E4M3FNUZ", 4},
                                                       {"F8_E5M2FNUZ", 4}, {"C64", 32}};
  for (const auto& [name, bytes] : cases) {
    SCOPED_TRACE(name);
    const std::string fields = std::string(R"("dtype":")") + name +
                               R"(","shape":[1,4],"data_offsets":[0,)" + std::to_string(bytes) +
                               "]";
    const std::string file = one(fields, bytes);
    const Error error = error_of([&] { safetensors_header_of(file); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find("tensor `a`"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find(std::string("dtype ") + name), std::string::npos);
    EXPECT_NE(error.hint().find("16-bit"), std::string::npos);
    EXPECT_EQ(offset_of(error), 9);
  }
}

TEST(Safetensors, EveryCutOfAValidFileIsRefused) {
  test::SafetensorsBuilder builder;
  builder.add("a.weight", Dtype::F32, {2, 3}, {1, 2, 3, 4, 5, 6}).add("b", Dtype::U8, {1}, {7});
  const std::string bytes = builder.bytes();
  EXPECT_EQ(safetensors_header_of(bytes).entries.size(), 2U);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Error error = error_of([&] { safetensors_header_of(bytes.substr(0, size)); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt) << size;
    EXPECT_NE(error.hint().find("fetch it again"), std::string::npos) << size;
  }
}

TEST(Safetensors, ElementsAreReadByIndex) {
  ByteDisk disk;
  disk.files[kHeaderPath] = test::SafetensorsBuilder()
                                .add("z", Dtype::U8, {3}, {1, 2, 3})
                                .add("a", Dtype::BF16, {2, 2}, {1.0, 2.0, 3.0, -4.0})
                                .add("empty", Dtype::F32, {0}, {})
                                .bytes();
  const auto source = open_weights(disk, kHeaderPath);
  ASSERT_EQ(source->tensors().size(), 3U);
  EXPECT_EQ(source->tensors()[0].name, "a");
  EXPECT_EQ(source->find("z"), 2U);
  EXPECT_EQ(source->find("y"), std::nullopt);
  EXPECT_EQ(source->file_of(0), kHeaderPath);
  std::uint16_t values[2] = {};
  source->read(0, 2, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values[0], 0x4040);
  EXPECT_EQ(values[1], 0xC080);
  source->read(1, 0, {});
  source->will_need(0, 0, 1'000'000);
  source->will_need(0, 4, 1);
  source->will_need(99, 0, 1);
}

TEST(Safetensors, ReadsBeyondATensorAreInternalErrors) {
  ByteDisk disk;
  disk.files[kHeaderPath] = test::SafetensorsBuilder()
                                .add("a", Dtype::F32, {2}, {1, 2})
                                .add("b", Dtype::F32, {9}, std::vector<double>(9))
                                .bytes();
  const auto source = open_weights(disk, kHeaderPath);
  std::byte buffer[12] = {};
  struct Case {
    std::size_t tensor;
    std::uint64_t first;
    std::size_t bytes;
  };
  for (const Case& c : {Case{0, 0, 12}, Case{0, 1, 8}, Case{0, 3, 0}, Case{0, ~std::uint64_t{0}, 4},
                        Case{0, 0, 3}, Case{2, 0, 4}}) {
    const Error error =
        error_of([&] { source->read(c.tensor, c.first, std::span(buffer).first(c.bytes)); });
    EXPECT_EQ(error.code(), ErrorCode::Internal) << c.tensor << " " << c.first << " " << c.bytes;
  }
}

}  // namespace
}  // namespace thorns
