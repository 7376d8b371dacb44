#include "hub/retry.h"

#include <gtest/gtest.h>

namespace thorns {
namespace {

TEST(RetryDelay, DoublesUpToABound) {
  EXPECT_EQ(retry_delay(1, 0.0), 0.25);
  EXPECT_EQ(retry_delay(2, 0.0), 0.5);
  EXPECT_EQ(retry_delay(3, 0.5), 1.5);
  EXPECT_EQ(retry_delay(100, 0.0), 15);
  EXPECT_LE(retry_delay(100, 0.999), 30);
}

TEST(RetryAfter, IsANumberOrADate) {
  const std::string eight = "Sun, 06 Nov 1994 08:00:00 GMT";
  const std::string half_past = "Sun, 06 Nov 1994 08:30:00 GMT";
  constexpr std::time_t kTwentyPast = 784'110'000;
  const auto after = [&](std::map<std::string, std::string> headers, int status = 503) {
    return retry_after({status, std::move(headers)}, kTwentyPast);
  };
  EXPECT_EQ(after({}), 0);
  EXPECT_EQ(after({{"retry-after", "7"}}), 7);
  EXPECT_EQ(after({{"retry-after", half_past}}), 600);
  EXPECT_EQ(after({{"retry-after", "Sunday, 06-Nov-94 08:30:00 GMT"}}), 600);  // the older form
  // The server's clock is the one that counts.
  EXPECT_EQ(after({{"retry-after", half_past}, {"date", eight}}), 1800);
  EXPECT_EQ(after({{"retry-after", eight}, {"date", half_past}}), 0);
  for (const char* text : {"soon", "7 s", "-7", "", "Sun, 99 Nov 1994"}) {
    EXPECT_EQ(after({{"retry-after", text}}), 0) << text;
  }
  // What the Hub itself sends.
  EXPECT_EQ(after({{"ratelimit", "\"api\";r=0;t=37"}}, 429), 37);
  EXPECT_EQ(after({{"ratelimit", "\"api\"; r=0; t=37"}, {"retry-after", "5"}}, 429), 5);
  EXPECT_EQ(after({{"ratelimit", "\"api\";r=3;t=37"}}, 429), 0);
  EXPECT_EQ(after({{"ratelimit", "\"api\";r=0;t=37"}}, 503), 0);
  for (const char* text : {"", ";", "r=0", "r=;t=37", "r=0;t=x"}) {
    EXPECT_EQ(after({{"ratelimit", text}}, 429), 0) << text;
  }
}

}  // namespace
}  // namespace thorns
