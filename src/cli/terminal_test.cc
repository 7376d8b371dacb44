#include "cli/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "cli/testing.h"

namespace thorns::cli {
namespace {

const Started kJob{"{A+B}", "", 2, 0, 10, 2'000'000'000, 1'000'000'000, 400'000'000};

class CliObserver : public testing::Test {
 protected:
  std::unique_ptr<TerminalObserver> observer(const Talk& talk = {}) {
    return std::make_unique<TerminalObserver>(
        err, talk, "out", [this] { return seconds; }, stop);
  }
  // `count` calls, `step` seconds apart.
  void run(TerminalObserver& observer, int count, double step) {
    for (int i = 0; i < count; ++i) {
      seconds += step;
      done += 1'000'000;
      observer.progress({done, 3'000'000'000, 1, 10, "model.layers.3.mlp.up_proj.weight"});
    }
  }
  std::size_t lines() const {
    return static_cast<std::size_t>(std::count(err.written.begin(), err.written.end(), '\n'));
  }

  RecordingChannel err;
  std::atomic<bool> stop = false;
  double seconds = 100.0;
  std::uint64_t done = 0;
};

TEST_F(CliObserver, RedrawsOneLineAtMostTenTimesASecond) {
  err.terminal = true;
  const auto watch = observer();
  watch->started(kJob);
  EXPECT_EQ(err.written, "out from 2 models: 2.0 GB in, 1.0 GB out, 400.0 MB memory\n");
  err.writes = 0;
  run(*watch, 1000, 0.001);
  EXPECT_GE(err.writes, 9);
  EXPECT_LE(err.writes, 11);
  EXPECT_EQ(lines(), 1U) << "one line is drawn over";
  EXPECT_NE(err.written.find("up_proj"), std::string::npos);
  EXPECT_LT(err.screen().widest, 80U);
}

TEST_F(CliObserver, LineIsGoneBeforeAnythingElse) {
  err.terminal = true;
  auto watch = observer();
  watch->started(kJob);
  run(*watch, 10, 0.2);
  watch->warning("look out");
  run(*watch, 10, 0.2);
  watch.reset();
  err.write("end\n");
  EXPECT_EQ(err.screen().lines,
            (std::vector<std::string>{"out from 2 models: 2.0 GB in, 1.0 GB out, 400.0 MB memory",
                                      "thorns: warning: look out", "end"}));
}

TEST_F(CliObserver, ResizeIsRespected) {
  err.terminal = true;
  const auto watch = observer();
  watch->started(kJob);
  run(*watch, 5, 0.2);
  const std::size_t before = err.written.size();
  err.columns = 40;
  run(*watch, 5, 0.2);
  RecordingChannel after;
  after.written = err.written.substr(before);
  EXPECT_LT(after.screen().widest, 40U);
  EXPECT_GT(after.screen().widest, 20U);
}

TEST_F(CliObserver, OffTerminalALineEveryTenSeconds) {
  const auto watch = observer();
  watch->started(kJob);
  run(*watch, 95, 0.1);
  EXPECT_EQ(lines(), 1U);
  run(*watch, 255, 0.1);
  EXPECT_EQ(lines(), 4U) << err.written;
  EXPECT_EQ(err.written.find('\r'), std::string::npos);
  EXPECT_EQ(err.written.find('\x1b'), std::string::npos);
  EXPECT_NE(err.written.find("3%, 0.1 of 3.0 GB, 10.0 MB/s, "), std::string::npos) << err.written;
}

TEST_F(CliObserver, ModesDecideWhatIsShown) {
  struct Case {
    ProgressMode mode;
    bool quiet;
    bool terminal;
    bool first_line;
    bool redrawn;
    bool logged;
  };
  const Case cases[] = {
      {ProgressMode::Auto, false, true, true, true, false},
      {ProgressMode::Auto, false, false, true, false, true},
      {ProgressMode::Always, false, false, true, true, false},
      {ProgressMode::Never, false, true, true, false, false},
      {ProgressMode::Never, false, false, true, false, false},
      {ProgressMode::Auto, true, true, false, false, false},
      {ProgressMode::Auto, true, false, false, false, false},
      {ProgressMode::Always, true, true, false, true, false},
  };
  for (const Case& test : cases) {
    err = RecordingChannel();
    err.terminal = test.terminal;
    const auto watch = observer({.progress = test.mode, .quiet = test.quiet});
    watch->started(kJob);
    EXPECT_EQ(err.written.starts_with("out from"), test.first_line);
    run(*watch, 150, 0.1);
    EXPECT_EQ(err.written.find('\r') != std::string::npos, test.redrawn);
    EXPECT_EQ(err.written.find(" left, ") != std::string::npos, test.logged);
    watch->warning("always");
    EXPECT_NE(err.written.find("thorns: warning: always\n"), std::string::npos);
  }
}

TEST_F(CliObserver, StopIsToldOnceAndSeenByTheLibrary) {
  err.terminal = true;
  const auto watch = observer();
  EXPECT_FALSE(watch->cancelled());
  stop = true;
  EXPECT_TRUE(watch->cancelled());
  run(*watch, 20, 0.2);
  const std::size_t first = err.written.find("thorns: stopping");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(err.written.find("thorns: stopping", first + 1), std::string::npos);
}

TEST_F(CliObserver, WarningsAreToldOnce) {
  const auto watch = observer();
  watch->warning("one");
  EXPECT_EQ(watch->untold({"one", "two"}), std::vector<std::string>{"two"});
}

TEST(CliTerminal, ErrorsReadTheSameWithAndWithoutColour) {
  const Error error(ErrorCode::BadRecipe, "expected `}`", KeySpan{"{A+B", 4, 4}, "close it");
  RecordingChannel err;
  tell(err, error);
  EXPECT_EQ(err.written, "thorns: " + to_string(error));
  EXPECT_EQ(err.written, "thorns: error: expected `}`\n  {A+B\n      ^\nhint: close it\n");
  err = RecordingChannel();
  err.colour = true;
  tell(err, error);
  EXPECT_NE(err.written.find("\x1b[1;31merror:\x1b[0m expected"), std::string::npos);
  EXPECT_NE(err.written.find("\x1b[1;36mhint:\x1b[0m close"), std::string::npos);
}

TEST(CliTerminal, ErrorsFromStrangersAreMadeHarmless) {
  RecordingChannel err;
  tell(err, Error(ErrorCode::Corrupt, "bad name `\x1b]0;x\x07`"));
  EXPECT_EQ(err.written, "thorns: error: bad name `?]0;x?`\n");
}

TEST(CliTerminal, AnswerTellsClosedFromFailed) {
  RecordingChannel out;
  RecordingChannel err;
  Console console{out, err};
  EXPECT_EQ(answer(console, "text"), 0);
  EXPECT_EQ(out.written, "text");
  out.result = WriteResult::Closed;
  EXPECT_EQ(answer(console, "text"), 1);
  EXPECT_EQ(err.written, "");
  out.result = WriteResult::Failed;
  try {
    answer(console, "text");
    FAIL() << "a full disk is not silent";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Io);
    EXPECT_NE(error.message().find("standard output cannot be written"), std::string::npos);
  }
}

TEST(CliTerminal, FileChannelKnowsClosedAndFull) {
  int ends[2] = {};
  ASSERT_EQ(pipe(ends), 0);
  FileChannel channel(ends[1]);
  EXPECT_FALSE(channel.is_terminal());
  EXPECT_FALSE(channel.has_colour());
  EXPECT_EQ(channel.width(), 80U);
  EXPECT_EQ(channel.write("abc"), WriteResult::Done);
  char text[3] = {};
  EXPECT_EQ(read(ends[0], text, 3), 3);
  EXPECT_EQ(std::string(text, 3), "abc");
  close(ends[0]);
  close(ends[1]);
  EXPECT_EQ(channel.write("abc"), WriteResult::Closed);

  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  EXPECT_EQ(FileChannel(full).write("abc"), WriteResult::Failed);
  close(full);
}

}  // namespace
}  // namespace thorns::cli
