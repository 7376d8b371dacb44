#include "cli/progress.h"

#include <gtest/gtest.h>

#include "cli/columns.h"

namespace thorns::cli {
namespace {

Progress at(std::uint64_t done) {
  return {done, 130'200'000'000, 100, 363, "model.layers.17.self_attn.q_proj.weight"};
}

// One second of 650 MB/s before `done`.
Pace steady(std::uint64_t done) {
  Pace pace;
  pace.add(10.0, done - 650'000'000);
  pace.add(11.0, done);
  return pace;
}

TEST(CliProgress, PaceIsTheRateOfTheLastThreeSeconds) {
  Pace pace;
  EXPECT_EQ(pace.rate(), std::nullopt);
  pace.add(0.0, 0);
  EXPECT_EQ(pace.rate(), std::nullopt);
  pace.add(0.1, 1000);
  EXPECT_EQ(pace.rate(), std::nullopt) << "a tenth of a second says nothing";
  pace.add(1.0, 1000);
  EXPECT_DOUBLE_EQ(pace.rate().value(), 1000.0);
  for (int second = 2; second <= 20; ++second) {
    pace.add(second, 1000 + 50 * static_cast<std::uint64_t>(second - 1));
  }
  EXPECT_DOUBLE_EQ(pace.rate().value(), 50.0) << "the fast start is forgotten";
}

TEST(CliProgress, PaceSurvivesManySamplesAndStalls) {
  Pace pace;
  for (int i = 0; i <= 100'000; ++i) pace.add(i * 1e-4, static_cast<std::uint64_t>(i) * 100);
  EXPECT_NEAR(pace.rate().value(), 1e6, 2e4);
  pace.add(100.0, 10'000'000);
  EXPECT_DOUBLE_EQ(pace.rate().value(), 0.0);
  EXPECT_EQ(pace.left(at(10'000'000)), std::nullopt);
}

TEST(CliProgress, TimeLeftFollowsThePace) {
  const Pace pace = steady(65'200'000'000);
  EXPECT_DOUBLE_EQ(pace.left(at(65'200'000'000)).value(), 100.0);
  EXPECT_DOUBLE_EQ(pace.left(at(131'000'000'000)).value(), 0.0);
}

TEST(CliProgress, ClockReadsLikeAClock) {
  EXPECT_EQ(clock_text(0.0), "0:00");
  EXPECT_EQ(clock_text(6.2), "0:07");
  EXPECT_EQ(clock_text(754), "12:34");
  EXPECT_EQ(clock_text(3723), "1:02:03");
  EXPECT_EQ(clock_text(std::nullopt), "--:--");
  EXPECT_EQ(clock_text(1e12), "--:--");
}

TEST(CliProgress, PartsShareTheUnitOfTheTotal) {
  EXPECT_EQ(part_text(58'600'000'000, 130'200'000'000), "58.6 of 130.2 GB");
  EXPECT_EQ(part_text(600'000, 2'000'000'000), "0.0 of 2.0 GB");
  EXPECT_EQ(part_text(12, 999), "12 of 999 B");
  EXPECT_EQ(part_text(500, 999'999), "0.0 of 1.0 MB");
  EXPECT_EQ(part_text(0, 0), "0 of 0 B");
}

TEST(CliProgress, LineLosesPiecesInOrder) {
  const Progress now = at(58'600'000'000);
  const Pace pace = steady(58'600'000'000);
  struct Case {
    std::size_t width;
    const char* line;
  };
  const Case cases[] = {
      {120,
       "[#############-----------------]   58.6 of 130.2 GB  650.0 MB/s   1:51 left"
       "  model.layers.17.self_attn.q_proj.weight"},
      {80, "[####------]   58.6 of 130.2 GB  650.0 MB/s   1:51 left  17.self_attn.q_proj"},
      {60, "[####------]   58.6 of 130.2 GB  650.0 MB/s   1:51 left"},
      {40, "[####------]  650.0 MB/s   1:51 left"},
      {30, " 45%  650.0 MB/s   1:51 left"},
      {20, " 45%   1:51 left"},
      {10, " 45%"},
      {4, ""},
      {0, ""},
  };
  for (const Case& test : cases) {
    EXPECT_EQ(progress_line(now, pace, test.width), test.line) << test.width;
  }
}

TEST(CliProgress, LineNeverReachesTheLastColumn) {
  std::vector<Progress> moments = {at(0), at(1), at(58'600'000'000), at(130'200'000'000),
                                   at(999'000'000'000)};
  moments.push_back({0, 0, 0, 0, ""});
  moments.push_back({1, 18'000'000'000'000'000'000U, 0, 1, std::string(300, 'x')});
  std::string wide;
  for (int i = 0; i < 50; ++i) wide += "\xE6\xA8\xA1.";
  moments.push_back({5, 10, 0, 1, wide});
  moments.push_back({5, 10, 0, 1, "a\nb\x1b[2J"});
  for (const Progress& now : moments) {
    for (const Pace& pace : {Pace(), steady(700'000'000), steady(58'600'000'000)}) {
      for (std::size_t width = 1; width <= 200; ++width) {
        const std::string line = progress_line(now, pace, width);
        ASSERT_LT(display_width(line), width) << line;
        ASSERT_EQ(line.find('\n'), std::string::npos);
        ASSERT_EQ(line.find('\x1b'), std::string::npos);
      }
    }
  }
}

TEST(CliProgress, PiecesStandStillWhileNumbersChange) {
  const auto gap = [](const std::string& line) { return line.find("left"); };
  const std::size_t place = gap(progress_line(at(700'000'000), steady(700'000'000), 80));
  EXPECT_NE(place, std::string::npos);
  EXPECT_EQ(gap(progress_line(at(130'100'000'000), steady(130'100'000'000), 80)), place);
  EXPECT_EQ(gap(progress_line(at(700'000'000), Pace(), 80)), place);
}

TEST(CliProgress, ReportHasAllPieces) {
  EXPECT_EQ(progress_report(at(58'600'000'000), steady(58'600'000'000)),
            "45%, 58.6 of 130.2 GB, 650.0 MB/s, 1:51 left, "
            "model.layers.17.self_attn.q_proj.weight");
  EXPECT_EQ(progress_report({0, 0, 0, 0, ""}, Pace()), "0%, 0 of 0 B, - MB/s, --:-- left");
}

TEST(CliProgress, FirstLineFitsTheTerminal) {
  Started job{"{A+B}", "13B-Thorns", 5, 3, 363, 130'200'000'000, 26'000'000'000, 498'000'000};
  EXPECT_EQ(started_line(job, "out", 80),
            "13B-Thorns from 5 models, 3 adapters: 130.2 GB in, 26.0 GB out, 498.0 MB memory");
  job.title = "A very long title that does not fit";
  EXPECT_EQ(display_width(started_line(job, "out", 80)), 80U);
  job.title.clear();
  job.leaves = 1;
  job.adapters = 0;
  EXPECT_EQ(started_line(job, "out", 80).substr(0, 17), "out from 1 model:");
  EXPECT_EQ(started_line(job, "", 80).substr(0, 11), "{A+B} from ");
}

TEST(CliProgress, CountsAreSingularForOne) {
  EXPECT_EQ(count_text(0, "file"), "0 files");
  EXPECT_EQ(count_text(1, "file"), "1 file");
  EXPECT_EQ(count_text(2, "file"), "2 files");
}

}  // namespace
}  // namespace thorns::cli
