// The strict JSON reader: what it takes, and for everything it refuses the code, the place and the
// words.
#include "base/json.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/error_of.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using test::error_of;
using test::offset_of;
using test::path_of;

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, KeepsTheOrderOfTheFile) {
  const Json value = parse_json(R"({"z": 1, "a": {"y": 2, "b": 3}, "m": [1, 2]})", "f");
  EXPECT_EQ(value.dump(), R"({"z":1,"a":{"y":2,"b":3},"m":[1,2]})");
}

TEST(Json, KeepsWholeNumbers) {
  const Json value = parse_json("[18446744073709551615, -9223372036854775808]", "f");
  EXPECT_EQ(value[0].get<std::uint64_t>(), UINT64_MAX);
  EXPECT_EQ(value[1].get<std::int64_t>(), INT64_MIN);
}

TEST(Json, RefusesANameThatStandsTwiceInOneObject) {
  for (const char* text :
       {R"({"a":1,"a":2})", R"({"x":{"b":0,"a":1,"a":[]}})", R"([{"a":1,"\u0061":2}])"}) {
    const Error error = error_of([&] { parse_json(text, "dir/f.json", 8); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt) << text;
    EXPECT_EQ(error.message(), "the name `a` stands twice in `dir/f.json`") << text;
    EXPECT_EQ(path_of(error), "dir/f.json");
  }
}

TEST(Json, TakesOneNameInSeveralObjects) {
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]})", "f"));
}

TEST(Json, BoundsTheNesting) {
  EXPECT_NO_THROW(parse_json(nested(64), "f"));
  const Error error = error_of([] { parse_json(nested(65), "f"); });
  EXPECT_EQ(error.code(), ErrorCode::Corrupt);
  EXPECT_EQ(error.message(), "JSON in `f` is nested more than 64 deep");
  EXPECT_NO_THROW(parse_json(R"({"a":[1]})", "f", 0, 2));
  EXPECT_EQ(error_of([] { parse_json(R"({"a":[{}]})", "f", 0, 2); }).message(),
            "JSON in `f` is nested more than 2 deep");
  // A million brackets cost no stack.
  EXPECT_EQ(error_of([] { parse_json(std::string(1'000'000, '['), "f"); }).code(),
            ErrorCode::Corrupt);
}

TEST(Json, NamesTheByteThatIsWrong) {
  struct Row {
    std::string text;
    long long offset;
  };
  const std::vector<Row> rows = {
      {"", 0},
      {"{", 1},
      {"[1,]", 3},
      {"[1 2]", 3},
      {R"({"a":1} x)", 8},
      {R"({"a" 1})", 5},
      {"nul", 3},
      {"'a'", 0},
      {"[01]", 2},
      {"[NaN]", 1},
      {"[1] // comment", 4},
      {std::string("[1]\0", 4), 3},
      {"\"\xFF\"", 1},
      {"\"\xC3\"", 2},
      {"\"a\nb\"", 2},
      {R"("\ud800")", 7},
  };
  for (const Row& row : rows) {
    for (const std::size_t base : {0U, 8U}) {
      const Error error = error_of([&] { parse_json(row.text, "m.json", base); });
      EXPECT_EQ(error.code(), ErrorCode::Corrupt) << row.text;
      EXPECT_EQ(error.message(), "`m.json` is not valid JSON") << row.text;
      EXPECT_EQ(path_of(error), "m.json");
      EXPECT_EQ(offset_of(error), row.offset + static_cast<long long>(base)) << row.text;
    }
  }
}

TEST(Json, RefusesNumbersThatNoDoubleHolds) {
  const Error error = error_of([] { parse_json("[1e999]", "f"); });
  EXPECT_EQ(error.code(), ErrorCode::Corrupt);
  EXPECT_EQ(error.message(), "`f` holds a number that is too large");
  EXPECT_EQ(path_of(error), "f");
}

}  // namespace
}  // namespace thorns
