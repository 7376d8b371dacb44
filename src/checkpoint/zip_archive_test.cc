#include "checkpoint/zip_archive.h"

#include <gtest/gtest.h>

#include <string>

#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/pytorch_builder.h"

namespace thorns {
namespace {

using test::error_of;
using test::zip_of;
using test::ZipPart;

std::vector<ZipRecord> read_zip(const std::string& bytes) {
  test::ByteDisk disk;
  disk.files["z"] = bytes;
  return read_zip_records(*disk.open("z"));
}

// `bytes` with `value` written `offset` bytes behind the `which`-th (from 0) appearance of `mark`.
std::string patched(std::string bytes, const std::string& mark, std::size_t offset,
                    const std::string& value, int which = 0) {
  std::size_t at = bytes.find(mark);
  for (; which > 0; --which) at = bytes.find(mark, at + 1);
  return bytes.replace(at + offset, value.size(), value);
}

const std::string kLocal = "PK\x03\x04";
const std::string kEntry = "PK\x01\x02";
const std::string kEnd = "PK\x05\x06";
const std::string kEnd64 = "PK\x06\x06";
const std::string kLocator = "PK\x06\x07";

TEST(Zip, FindsTheRecords) {
  for (const bool wide : {false, true}) {
    const std::string bytes = zip_of({{"a/data.pkl", "pickle"},
                                      {"a/data/0", ""},
                                      {.name = "a/data/1", .bytes = "xyz", .padding = 61}},
                                     wide);
    const auto records = read_zip(bytes);
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[0].name, "a/data.pkl");
    EXPECT_EQ(bytes.substr(records[0].begin, records[0].size), "pickle");
    EXPECT_EQ(records[1].size, 0U);
    EXPECT_EQ(bytes.substr(records[2].begin, records[2].size), "xyz");
  }
  EXPECT_TRUE(read_zip(zip_of({})).empty());
}

TEST(Zip, AcceptsACommentAndTheOldEnd) {
  std::string bytes = zip_of({{"a/data.pkl", "pickle"}});
  EXPECT_EQ(read_zip(patched(bytes, kEnd, 20, "\x05") + "hello").size(), 1U);
  // Without the 64-bit records, as other programs write small archives.
  const std::size_t end64 = bytes.find(kEnd64);
  EXPECT_EQ(read_zip(bytes.erase(end64, bytes.find(kEnd) - end64)).size(), 1U);
}

struct RefusedArchive {
  const char* what;
  std::string bytes;
  ErrorCode code;
  const char* message;
};

TEST(Zip, BrokenAndHostileOnesAreRefused) {
  constexpr auto kCorrupt = ErrorCode::Corrupt;
  constexpr auto kUnsupported = ErrorCode::Unsupported;
  const ZipPart pickle = {"a/data.pkl", "pickle"};
  const ZipPart storage = {"a/data/0", "0123456789"};
  const std::string good = zip_of({pickle, storage});
  const auto full32 = std::string(4, '\xff');
  const auto full64 = std::string(8, '\xff');
  const auto one = [](std::size_t bytes) {
    std::string text(bytes, '\0');
    text[0] = 1;
    return text;
  };
  const RefusedArchive cases[] = {
      {"empty", "", kCorrupt, "the directory at the end"},
      {"cut", good.substr(0, good.size() - 1), kCorrupt, "the directory at the end"},
      {"only a beginning", good.substr(0, 60), kCorrupt, "the directory at the end"},
      {"compressed", zip_of({{.name = "a/x", .bytes = "y", .method = 8}}), kUnsupported,
       "`a/x` of its zip archive is compressed"},
      {"compressed by its own header", patched(good, kLocal, 8, "\x08"), kUnsupported,
       "is compressed"},
      {"encrypted", zip_of({{.name = "a/x", .bytes = "y", .flags = 1}}), kUnsupported,
       "is encrypted"},
      {"encrypted by its own header", patched(good, kLocal, 6, "\x01"), kUnsupported,
       "is encrypted"},
      {"other names", zip_of({{.name = "a/data.pkl", .bytes = "y", .local_name = "a/evil.pkl"}}),
       kCorrupt, "does not stand where its directory says"},
      {"an end in the comment of the end",
       patched(good, kEnd, 20, "\x16") + kEnd + std::string(18, '\0'), kCorrupt,
       "right before its end record"},
      {"names of other lengths",
       zip_of({{.name = "a/data.pkl", .bytes = "y", .local_name = "a/evil"}, storage}), kCorrupt,
       "does not stand where"},
      {"no local header", patched(good, kLocal, 0, "PK\x03\x05", 1), kCorrupt,
       "`a/data/0` of its zip archive does not stand where"},
      {"twice", zip_of({pickle, storage, pickle}), kCorrupt,
       "`a/data.pkl` of its zip archive stands"},
      {"one header for two",
       patched(zip_of({{"a/1", "x"}, {"a/2", "y"}}), kEntry, 42, std::string(4, '\0'), 1), kCorrupt,
       "does not stand where"},
      {"overlap", patched(patched(good, kEntry, 20, "\x0a"), kEntry, 24, "\x0a"), kCorrupt,
       "`a/data.pkl` and `a/data/0` of its zip archive overlap"},
      {"two sizes", patched(good, kEntry, 24, "\x07"), kCorrupt, "in 6 bytes instead of 7"},
      {"goes beyond", patched(patched(good, kEntry, 20, "\xf0", 1), kEntry, 24, "\xf0", 1),
       kCorrupt, "goes beyond its"},
      {"header behind the directory", patched(good, kEntry, 42, "\xf0\xff"), kCorrupt,
       "does not lie before the directory"},
      {"parent", zip_of({{"a/../b", ""}}), kCorrupt, "a name that is no path"},
      {"absolute", zip_of({{"/a", ""}}), kCorrupt, "a name that is no path"},
      {"backslash", zip_of({{"a\\b", ""}}), kCorrupt, "a name that is no path"},
      {"no name", zip_of({{"", ""}}), kCorrupt, "a name that is no path"},
      {"NUL", zip_of({{std::string("a\0b", 3), ""}}), kCorrupt, "a name that is no path"},
      {"volume", patched(good, kEnd, 4, "\x01"), kUnsupported, "in several"},
      {"volume in 64 bits", patched(good, kEnd64, 16, "\x01"), kUnsupported, "in several"},
      {"entry on another volume", patched(good, kEntry, 34, "\x01"), kUnsupported, "in several"},
      {"ends that disagree", patched(good, kEnd, 10, "\x03"), kCorrupt, "end records"},
      {"ends that disagree about the place", patched(good, kEnd, 16, "\x01"), kCorrupt,
       "end records"},
      {"locator to nowhere", patched(good, kLocator, 8, full64), kCorrupt, "before its locator"},
      {"locator to something else", patched(good, kLocator, 8, one(8)), kCorrupt,
       "64-bit end record of its zip archive is missing"},
      {"wide without a locator", patched(patched(good, kLocator, 0, "xxxx"), kEnd, 16, full32),
       kCorrupt, "64-bit end record of its zip archive is missing"},
      {"directory of 2^64", patched(patched(good, kEnd64, 40, full64), kEnd, 12, full32), kCorrupt,
       "right before its end record"},
      {"directory at 2^64", patched(patched(good, kEnd64, 48, full64), kEnd, 16, full32), kCorrupt,
       "right before its end record"},
      {"more entries than there are",
       patched(patched(patched(good, kEnd64, 24, "\x03"), kEnd64, 32, "\x03"), kEnd, 10, "\x03"),
       kCorrupt, "entry 2 of the directory of its zip archive is missing"},
      {"fewer entries than there are",
       patched(patched(patched(good, kEnd64, 24, "\x01"), kEnd64, 32, "\x01"), kEnd, 10, "\x01"),
       kCorrupt, "bytes behind the directory"},
      {"entries without end",
       patched(patched(patched(good, kEnd64, 24, full32), kEnd64, 32, full32), kEnd, 10,
               "\xff\xff"),
       kUnsupported, "4294967295 records"},
      {"name beyond the directory", patched(good, kEntry, 28, "\xff\xff", 1), kCorrupt,
       "entry 1 of the directory of its zip archive goes beyond it"},
      {"extra cut short", patched(zip_of({pickle}, true), "FB\x01", 2, "\xff\xff"), kCorrupt,
       "an extra field of its zip archive is cut short"},
      {"wide number missing",
       patched(zip_of({pickle}, true), std::string("\x01\0\x18", 3), 2, "\x08"), kCorrupt,
       "a 64-bit number of its zip archive is missing"},
  };
  for (const RefusedArchive& refusal : cases) {
    SCOPED_TRACE(refusal.what);
    const Error error = error_of([&] { read_zip(refusal.bytes); });
    EXPECT_EQ(error.code(), refusal.code) << to_string(error);
    EXPECT_NE(error.message().find(refusal.message), std::string::npos) << error.message();
    EXPECT_EQ(test::path_of(error), "z");
    EXPECT_GE(test::offset_of(error), 0);
  }
}

TEST(Zip, EveryCutIsRefused) {
  const std::string good = zip_of({{"a/data.pkl", "pickle"}, {"a/data/0", "0123"}});
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(read_zip(good.substr(0, size)), Error) << size;
  }
}

}  // namespace
}  // namespace thorns
