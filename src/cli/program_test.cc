#include "cli/program.h"

#include <gtest/gtest.h>

#include "cli/testing.h"

namespace thorns::cli {
namespace {

struct Ran {
  explicit Ran(const std::vector<std::string>& words, WriteResult result = WriteResult::Done) {
    out.result = result;
    Console console{out, err};
    code = run_program(words, "", console);
  }
  RecordingChannel out;
  RecordingChannel err;
  int code = -1;
};

TEST(CliProgram, AnswersGoToStandardOutput) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"--version"},
                                             {"merge", "--help"},
                                             {"methods"},
                                             {"methods", "--json"},
                                             {"completion", "bash"},
                                             {"completion", "zsh"},
                                             {"completion", "fish"}}) {
    const Ran run(words);
    EXPECT_EQ(run.code, 0) << words[0];
    EXPECT_FALSE(run.out.written.empty()) << words[0];
    EXPECT_TRUE(run.out.written.ends_with('\n')) << words[0];
    EXPECT_EQ(run.err.written, "") << words[0];
  }
}

TEST(CliProgram, BadUsageIsTalkAndExitCodeTwo) {
  const Ran run({"mrege"});
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.out.written, "");
  EXPECT_EQ(run.err.written, "thorns: error: unknown verb `mrege`\nhint: did you mean `merge`?\n");
}

TEST(CliProgram, WithJsonAnErrorIsADocumentToo) {
  const Ran run({"merge", "--json"});
  EXPECT_EQ(run.code, 2);
  EXPECT_TRUE(run.out.written.starts_with("{\n  \"schema\": \"thorns/error/1\""));
  EXPECT_TRUE(run.out.written.ends_with("}\n"));
  EXPECT_TRUE(run.err.written.starts_with("thorns: error: merge needs a recipe\n"));
}

TEST(CliProgram, UnknownMethodIsBadUsage) {
  const Ran run({"methods", "slrep"});
  EXPECT_EQ(run.code, 2);
  EXPECT_NE(run.err.written.find("did you mean `slerp`?"), std::string::npos);
}

TEST(CliProgram, StandardOutputThatCannotBeWritten) {
  const Ran closed({"--help"}, WriteResult::Closed);
  EXPECT_EQ(closed.code, 1);
  EXPECT_EQ(closed.err.written, "");
  const Ran full({"--help"}, WriteResult::Failed);
  EXPECT_EQ(full.code, 1);
  EXPECT_TRUE(full.err.written.starts_with("thorns: error: standard output cannot be written"));
}

TEST(CliProgram, CompletionKnowsVerbsOptionsAndMethods) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = Ran({"completion", shell}).out.written;
    for (const char* word : {"merge", "plan", "shard-size", "bfloat16", "slerp", "always"}) {
      EXPECT_NE(script.find(word), std::string::npos) << shell << " " << word;
    }
  }
}

}  // namespace
}  // namespace thorns::cli
