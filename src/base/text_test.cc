#include "base/text.h"

#include <gtest/gtest.h>

namespace thorns {
namespace {

TEST(Text, SizesAreDecimal) {
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(26'000'000'000), "26.0 GB");
  EXPECT_EQ(human_bytes(999'999), "1.0 MB");
  EXPECT_EQ(parse_size("5GB"), 5'000'000'000U);
  EXPECT_EQ(parse_size("1.5 gb"), 1'500'000'000U);
  EXPECT_EQ(parse_size("4096"), 4096U);
  for (const char* bad : {"", "GB", "-1GB", "0", "5XB", "1e30", "99999999TB", "nan"}) {
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
  }
}

TEST(Text, DurationsReadAsSpoken) {
  EXPECT_EQ(human_seconds(0.44), "0.4 s");
  EXPECT_EQ(human_seconds(42), "42 s");
  EXPECT_EQ(human_seconds(200), "3 min 20 s");
  EXPECT_EQ(human_seconds(3900), "1 h 05 min");
}

TEST(Text, NearMissesAreFound) {
  const std::vector<std::string> names = {"Platypus", "Chronos", "Holodeck"};
  EXPECT_EQ(nearest("Platupus", names), "Platypus");
  EXPECT_EQ(nearest("chronos", names), "Chronos");
  EXPECT_EQ(nearest("Llama", names), std::nullopt);
  EXPECT_EQ(edit_distance("ab", "ba"), 1U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(did_you_mean("Holodek", names), "did you mean `Holodeck`?");
}

TEST(Text, NaturalOrderCountsLayers) {
  EXPECT_TRUE(natural_less("layers.2.x", "layers.10.x"));
  EXPECT_FALSE(natural_less("layers.10.x", "layers.2.x"));
  EXPECT_TRUE(natural_less("a", "ab"));
  EXPECT_FALSE(natural_less("a", "a"));
  EXPECT_NE(natural_less("a01", "a1"), natural_less("a1", "a01"));
}

TEST(Text, Utf8) {
  for (const char* good :
       {"", "plain", "gr\u00f6\u00dfe", "\u4e2d\uffff", "\U0001f339\U0010ffff"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
  }
  for (const char* bad : {"\x80", "a\xff", "\xc3", "\xc3(", "\xe4\xb8", "\xf0\x9f\x8c", "\xc0\xaf",
                          "\xc1\xbf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe4\xb8\xad\xad"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad;
  }
}

}  // namespace
}  // namespace thorns
