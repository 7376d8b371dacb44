#include "report/html.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "report/anatomy.h"

namespace thorns {
namespace {

TEST(Html, ReadsAsItself) {
  EXPECT_EQ(html("a < b && c > \"d\" 'e'"), "a &lt; b &amp;&amp; c &gt; &quot;d&quot; &#39;e&#39;");
  EXPECT_EQ(html("&lt;"), "&amp;lt;");
  EXPECT_EQ(html("Rosé \xE2\x9C\xBF \xF0\x9F\x8C\xB9"), "Rosé \xE2\x9C\xBF \xF0\x9F\x8C\xB9");
  EXPECT_EQ(html("two\nlines\t"), "two lines ");
  EXPECT_EQ(html(""), "");
}

TEST(Html, ShowsNothingThatIsNoText) {
  const std::string mark = "\xEF\xBF\xBD";
  EXPECT_EQ(html(std::string("a\0b", 3)), "a" + mark + "b");
  EXPECT_EQ(html("\x1b[31m\x7f"), mark + "[31m" + mark);
  EXPECT_EQ(html("\xC2\x85"), mark);             // a C1 control
  EXPECT_EQ(html("\xE2\x80\xAEx"), mark + "x");  // right to left override
  EXPECT_EQ(html("\xFF<"), mark + "&lt;");
  EXPECT_EQ(html("\xC3<"), mark + "&lt;");  // the start of a character alone
  EXPECT_EQ(html("\xE2\x82"), mark + mark);
  EXPECT_EQ(html("\xC0\xBC"), mark + mark);  // an overlong `<`
}

TEST(Html, Numbers) {
  EXPECT_EQ(number_text(27.0), "27.00");
  EXPECT_EQ(number_text(1234.4), "1234");
  EXPECT_EQ(number_text(std::nullopt), "\xE2\x80\x93");
  EXPECT_EQ(number_text(std::numeric_limits<double>::infinity()), "\xE2\x80\x93");
  EXPECT_EQ(percent_text(0.125), "12.5");
  EXPECT_EQ(percent_text(0.0999), "9.99");
  EXPECT_EQ(percent_text(0.09999), "10.0");
  EXPECT_EQ(degrees_text(1.5707963267948966), "90.0");
}

// As `openssl dgst -sha256 -binary | base64` has it.
TEST(Html, ScriptHash) {
  EXPECT_EQ(script_hash("x"), "'sha256-LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE='");
}

TEST(Anatomy, NamesWithoutNumbers) {
  EXPECT_EQ(without_numbers("mlp.experts.17.w1"), "mlp.experts.*.w1");
  EXPECT_EQ(without_numbers("conv1.0"), "conv1.*");
  EXPECT_EQ(without_numbers(""), "");
  EXPECT_EQ(without_numbers("a..b"), "a..b");
}

}  // namespace
}  // namespace thorns
