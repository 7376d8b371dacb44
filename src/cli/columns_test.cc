#include "cli/columns.h"

#include <gtest/gtest.h>

namespace thorns::cli {
namespace {

TEST(CliColumns, WidthCountsColumnsNotBytes) {
  EXPECT_EQ(display_width("abc"), 3U);
  EXPECT_EQ(display_width("\xC3\xA9t\xC3\xA9"), 3U);         // e-acute twice
  EXPECT_EQ(display_width("\xE6\xA8\xA1\xE5\x9E\x8B"), 4U);  // two CJK characters
  EXPECT_EQ(display_width("e\xCC\x81"), 1U);                 // a combining accent
  EXPECT_EQ(display_width("a\xFFz"), 3U);                    // not UTF-8
  EXPECT_EQ(display_width(""), 0U);
}

TEST(CliColumns, NothingFromStrangersMovesTheCursor) {
  EXPECT_EQ(printable("a\x1b[2Jb\rc\td"), "a?[2Jb?c?d");
  EXPECT_EQ(printable("two\nlines"), "two\nlines");
  EXPECT_EQ(printable_line("two\nlines\x1b"), "two?lines?");
  EXPECT_EQ(printable("\x7F\xC2\x9B"), "??");  // DEL, and CSI as one character
  EXPECT_EQ(printable("\xFF\xE6\xA8"), "???");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a?b");
  EXPECT_EQ(printable("\xE6\xA8\xA1"), "\xE6\xA8\xA1");
}

TEST(CliColumns, ShortenKeepsBothEnds) {
  EXPECT_EQ(shorten("abcdefghij", 10), "abcdefghij");
  EXPECT_EQ(shorten("abcdefghij", 9), "abc...hij");
  EXPECT_EQ(shorten("abcdefghij", 4), "abcd");
  EXPECT_EQ(shorten("abcdefghij", 0), "");
  const std::string wide =
      "\xE6\xA8\xA1\xE5\x9E\x8B\xE6\xA8\xA1\xE5\x9E\x8B\xE6\xA8\xA1\xE5\x9E\x8B";
  for (std::size_t width = 0; width < 14; ++width) {
    EXPECT_LE(display_width(shorten(wide, width)), width);
    EXPECT_EQ(printable(shorten(wide, width)), shorten(wide, width)) << "cut inside a character";
  }
}

TEST(CliColumns, TensorNamesKeepTheirLayer) {
  const std::string name = "model.layers.17.self_attn.q_proj.weight";
  EXPECT_EQ(shorten_tensor(name, 39), name);
  EXPECT_EQ(shorten_tensor(name, 38), "model.layers.17.self_attn.q_proj");
  EXPECT_EQ(shorten_tensor(name, 26), "layers.17.self_attn.q_proj");
  EXPECT_EQ(shorten_tensor(name, 22), "17.self_attn.q_proj");
  EXPECT_LE(display_width(shorten_tensor(name, 12)), 12U);
  EXPECT_EQ(shorten_tensor("lm_head.weight", 8), "lm_head");
}

TEST(CliColumns, WrapBreaksAtBlanks) {
  EXPECT_EQ(wrap("one two three", 9, 2), "  one two\n  three\n");
  EXPECT_EQ(wrap("a\n\nb", 10, 1), " a\n\n b\n");
  EXPECT_EQ(wrap("unbreakable", 4, 0), "unbreakable\n");
  EXPECT_EQ(wrap("", 4, 0), "");
  EXPECT_EQ(wrap_anywhere("{A+B+C}", 6, 2), "  {A+B\n  +C}\n");
}

TEST(CliColumns, TableAligns) {
  EXPECT_EQ(table({{"a", "10", "x"}, {"bcd", "9", "a long one"}}, {false, true, false}, 16, 1),
            " a    10  x\n bcd   9  a ...e\n");
  EXPECT_EQ(table({}, {false}, 10, 0), "");
}

}  // namespace
}  // namespace thorns::cli
