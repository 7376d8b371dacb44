// Errors as people and programs read them: the words of a code, exit codes, and the lines that show
// a place, above all the caret under a span of a key.
#include "thorns/error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace thorns {
namespace {

std::string shown(const Where& where) {
  return to_string(Error(ErrorCode::BadRecipe, "it is wrong", where));
}

// The two lines under the message.
std::string caret(const std::string& key, std::size_t begin, std::size_t end) {
  const std::string text = shown(KeySpan{key, begin, end});
  const std::string first = "error: it is wrong\n";
  EXPECT_EQ(text.substr(0, first.size()), first);
  return text.substr(first.size());
}

struct CaretRow {
  const char* what;
  std::string key;
  std::size_t begin;
  std::size_t end;
  std::string lines;
};

TEST(ErrorCaret, StandsUnderTheSpan) {
  const std::vector<CaretRow> rows = {
      {"one byte", "{A+B", 0, 1, "  {A+B\n  ^\n"},
      {"a word", "{A+Platupus}", 3, 11, "  {A+Platupus}\n     ^~~~~~~~\n"},
      {"the end", "{A+B", 4, 4, "  {A+B\n      ^\n"},
      {"nothing at all", "", 0, 0, "  \n  ^\n"},
      {"an empty span inside", "A B", 2, 2, "  A B\n    ^\n"},
      {"a span beyond the key", "AB", 1, 99, "  AB\n   ^\n"},
      {"a span that begins beyond the key", "AB", 50, 99, "  AB\n    ^\n"},
      {"a span turned round", "ABC", 2, 1, "  ABC\n    ^\n"},
      {"line breaks and tabs", "{A\n+\tB]", 6, 7, "  {A + B]\n        ^\n"},
      {"two-byte letters before it", "{\xC3\xA9\xC3\xA9+B]", 7, 8,
       "  {\xC3\xA9\xC3\xA9+B]\n       ^\n"},
      {"letters of two and four bytes in it", "{\xC3\xA9\xF0\x9F\x98\x80}", 1, 7,
       "  {\xC3\xA9\xF0\x9F\x98\x80}\n   ^~\n"},
      {"other controls", std::string("A\x1B[31m\x7F", 7), 0, 1, "  A [31m \n  ^\n"},
  };
  for (const CaretRow& row : rows) {
    EXPECT_EQ(caret(row.key, row.begin, row.end), row.lines) << row.what;
  }
}

TEST(ErrorCaret, LongKeysAreShownAroundTheSpan) {
  const std::string key = std::string(100, 'a') + "]" + std::string(100, 'b');
  EXPECT_EQ(caret(key, 100, 101), "  ... " + std::string(50, 'a') + "]" + std::string(30, 'b') +
                                      " ...\n  " + std::string(54, ' ') + "^\n");
}

TEST(ErrorCaret, EndsOfLongKeysAreNotMarkedAsCut) {
  const std::string key = std::string(100, 'a');
  EXPECT_EQ(caret(key, 0, 1), "  " + std::string(31, 'a') + " ...\n  ^\n");
  EXPECT_EQ(caret(key, 100, 100),
            "  ... " + std::string(50, 'a') + "\n  " + std::string(54, ' ') + "^\n");
  EXPECT_EQ(caret(key, 50, 51),
            "  " + std::string(81, 'a') + " ...\n  " + std::string(50, ' ') + "^\n");
}

TEST(ErrorCaret, LongSpansAreCutAndTheCaretEndsWithTheLine) {
  const std::string key = "(" + std::string(5000, 'a') + ")";
  const std::string lines = caret(key, 0, key.size());
  const std::size_t cut = lines.find(" ...\n");
  ASSERT_NE(cut, std::string::npos);
  const std::string line = lines.substr(2, cut - 2);
  EXPECT_LE(line.size(), 140U);
  EXPECT_EQ(lines, "  " + line + " ...\n  ^" + std::string(line.size() - 1, '~') + "\n");
}

TEST(ErrorCaret, WindowsDoNotCutLetters) {
  std::string key;
  for (int i = 0; i < 60; ++i) key += "\xE2\x82\xAC";  // three bytes each
  for (std::size_t at = 0; at < key.size(); at += 3) {
    const std::string lines = caret(key, at, at + 3);
    std::size_t from = 2;
    if (lines.compare(from, 4, "... ") == 0) from += 4;
    EXPECT_EQ(lines.compare(from, 3, "\xE2\x82\xAC"), 0) << at;
    const std::size_t newline = lines.find('\n');
    const std::size_t cut = std::min(lines.find(" ...\n"), newline);
    EXPECT_EQ((cut - from) % 3, 0U) << at;
    const std::string marks = lines.substr(newline + 1);
    EXPECT_EQ(marks.size() - 2, marks.find('^')) << "one letter, one column, at " << at;
  }
}

TEST(ErrorPlaces, AreNamed) {
  EXPECT_EQ(shown({}), "error: it is wrong\n");
  EXPECT_EQ(shown(FilePlace{"a/b.safetensors"}), "error: it is wrong\n  in a/b.safetensors\n");
  EXPECT_EQ(shown(FilePlace{"a", 0}), "error: it is wrong\n  in a at byte 0\n");
  EXPECT_EQ(shown(FilePlace{"a", 1ULL << 40}),
            "error: it is wrong\n  in a at byte 1099511627776\n");
  EXPECT_EQ(shown(FilePlace{"r.yaml", std::nullopt, 3, 7}),
            "error: it is wrong\n  in r.yaml:3:7\n");
  EXPECT_EQ(shown(FilePlace{}), "error: it is wrong\n");
  EXPECT_EQ(shown(TensorPlace{"lm_head.weight"}),
            "error: it is wrong\n  in tensor lm_head.weight\n");
  EXPECT_EQ(shown(TensorPlace{"x", 12, "Chronos"}),
            "error: it is wrong\n  in tensor x, element 12 of Chronos\n");
}

TEST(ErrorPlaces, HintsComeLast) {
  EXPECT_EQ(to_string(Error(ErrorCode::Io, "no", FilePlace{"f"}, "do this")),
            "error: no\n  in f\nhint: do this\n");
}

TEST(ErrorCodes, HaveWordsOfTheirOwnAndExitCodes) {
  struct Row {
    ErrorCode code;
    const char* word;
    int exit;
  };
  const std::vector<Row> rows = {
      {ErrorCode::BadUsage, "bad_usage", 2},
      {ErrorCode::BadRecipe, "bad_recipe", 2},
      {ErrorCode::NotFound, "not_found", 1},
      {ErrorCode::Exists, "exists", 1},
      {ErrorCode::Mismatch, "mismatch", 1},
      {ErrorCode::Corrupt, "corrupt", 1},
      {ErrorCode::Unsupported, "unsupported", 1},
      {ErrorCode::NoSpace, "no_space", 1},
      {ErrorCode::Io, "io", 1},
      {ErrorCode::NonFinite, "nonfinite", 1},
      {ErrorCode::Cancelled, "cancelled", 130},
      {ErrorCode::Internal, "internal", 1},
  };
  std::set<std::string> words;
  for (const Row& row : rows) {
    EXPECT_STREQ(to_string(row.code), row.word);
    EXPECT_EQ(exit_code(row.code), row.exit) << row.word;
    words.insert(row.word);
  }
  EXPECT_EQ(words.size(), static_cast<std::size_t>(ErrorCode::Internal) + 1);
}

TEST(ErrorCodes, WhatIsTheMessage) {
  const Error error(ErrorCode::Io, "cannot read `x`", FilePlace{"x"}, "try again");
  EXPECT_STREQ(error.what(), "cannot read `x`");
  EXPECT_EQ(error.hint(), "try again");
}

}  // namespace
}  // namespace thorns
