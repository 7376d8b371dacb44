#include "cli/arguments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/columns.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

using Words = std::vector<std::string>;

template <typename Arguments>
Arguments read_arguments(const Words& words, const std::string& path = {}) {
  return std::get<Arguments>(parse_arguments(words, path));
}

std::string help(const Words& words) { return read_arguments<ShowText>(words).text; }

TEST(CliArguments, MergeReadsEveryOption) {
  const auto merge = read_arguments<MergeArguments>(
      {"merge",       "{A+B}",    "-o",           "out",
       "--dtype",     "bfloat16", "--shard-size", "2GB",
       "--memory",    "1.5GB",    "-j",           "7",
       "--tokenizer", "A",        "--force",      "--allow-nonfinite",
       "-m",          "A=x",      "-m",           "B=y=z",
       "-a",          "L M=l",    "--path",       "p",
       "--path=q",    "-v",       "--progress",   "always",
       "--json"},
      "r::s");
  const MergeOptions& options = merge.options;
  EXPECT_EQ(options.recipe, "{A+B}");
  EXPECT_EQ(options.output, "out");
  EXPECT_EQ(options.dtype, Dtype::BF16);
  EXPECT_EQ(options.shard_size, 2'000'000'000U);
  EXPECT_EQ(options.memory, 1'500'000'000U);
  EXPECT_EQ(options.threads, 7U);
  EXPECT_EQ(options.tokenizer, "A");
  EXPECT_TRUE(options.force);
  EXPECT_TRUE(options.allow_nonfinite);
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(options.inputs.models, (Pairs{{"A", "x"}, {"B", "y=z"}}));
  EXPECT_EQ(options.inputs.adapters, (Pairs{{"L M", "l"}}));
  EXPECT_EQ(options.inputs.paths, (Words{"p", "q"}));
  EXPECT_EQ(options.inputs.fallback_paths, (Words{"r", "s"}));
  EXPECT_TRUE(merge.talk.verbose);
  EXPECT_FALSE(merge.talk.quiet);
  EXPECT_TRUE(merge.talk.json);
  EXPECT_EQ(merge.talk.progress, ProgressMode::Always);
}

TEST(CliArguments, DefaultsAreThoseOfTheHelp) {
  const auto merge = read_arguments<MergeArguments>({"merge", "x", "-o", "out"});
  const MergeOptions standard;
  EXPECT_EQ(merge.options.memory, standard.memory);
  EXPECT_EQ(merge.options.memory, parse_size("512MB"));
  EXPECT_EQ(merge.options.threads, 0U);
  EXPECT_EQ(merge.options.dtype, std::nullopt);
  EXPECT_EQ(merge.options.shard_size, std::nullopt);
  EXPECT_FALSE(merge.options.force);
  EXPECT_FALSE(merge.options.allow_nonfinite);
  EXPECT_TRUE(merge.options.inputs.paths.empty());
  EXPECT_EQ(merge.talk.progress, ProgressMode::Auto);
  EXPECT_FALSE(merge.talk.json);
}

TEST(CliArguments, OtherVerbs) {
  const auto plan =
      read_arguments<PlanArguments>({"plan", "-", "--explain", "lm_head.weight"}, "here");
  EXPECT_EQ(plan.options.recipe, "-");
  EXPECT_EQ(plan.explain, "lm_head.weight");
  EXPECT_EQ(plan.options.inputs.fallback_paths, Words{"here"});
  EXPECT_EQ(read_arguments<KeyArguments>({"key", "[A]"}).key, "[A]");
  EXPECT_EQ(read_arguments<KeyArguments>({"key", "merge"}).key, "merge");
  EXPECT_EQ(read_arguments<KeyArguments>({"key", ""}).key, "");
  EXPECT_TRUE(read_arguments<KeyArguments>({"key", "--json", "A"}).talk.json);
  EXPECT_EQ(read_arguments<KeyArguments>({"key", "--", "--json"}).key, "--json");
  EXPECT_EQ(read_arguments<MethodsArguments>({"methods"}).name, "");
  EXPECT_EQ(read_arguments<MethodsArguments>({"methods", "slerp"}).name, "slerp");
  EXPECT_EQ(read_arguments<CompletionArguments>({"completion", "zsh"}).shell, "zsh");
  EXPECT_EQ(help({"--version"}), std::string("thorns ") + version() + "\n");
}

TEST(CliArguments, BadUsageNamesWhatAndWhatToDo) {
  struct Case {
    Words words;
    const char* message;
    const char* hint;
  };
  const std::vector<Case> cases = {
      {{},
       "expected a verb: merge, plan, check, diff, inspect, report, verify, fetch, key, methods",
       "thorns --help"},
      {{"mrege"}, "unknown verb `mrege`", "did you mean `merge`?"},
      {{"examine"}, "unknown verb `examine`", "thorns --help"},
      {{"inspect"}, "inspect needs a folder or file", "thorns inspect"},
      {{"report"}, "report needs a folder", "thorns report"},
      {{"report", "x", "--json", "-o", "-"}, "both write to standard output", ""},
      {{"verify"}, "verify needs a folder", "thorns verify"},
      {{"--json", "merge"}, "`--json` stands before any verb", "write the verb first"},
      {{"merge"}, "merge needs a recipe", "in quotes"},
      {{"merge", "x"}, "merge needs a folder to write", "add -o DIR"},
      {{"merge", "x", "-o"}, "`-o` needs a value", "thorns merge --help"},
      {{"merge", "x", "--output"}, "`--output` needs a value", "thorns merge --help"},
      {{"merge", "x", "-o", "--force"}, "`--output` needs a value, found `--force`", "./-"},
      {{"merge", "x", "-o", ""}, "`--output` needs a value", ""},
      {{"merge", "x", "--output=", "y"}, "`--output` needs a value", ""},
      {{"merge", "x", "-o", "a", "-o", "b"}, "`--output` is given twice", ""},
      {{"merge", "x", "-o", "a", "--force=1"}, "`--force` takes no value", ""},
      {{"merge", "x", "y", "-o", "a"}, "unexpected argument `y`", "in quotes"},
      {{"merge", "x", "-o", "a", "--shards", "1GB"}, "no option `--shards`", "thorns merge --help"},
      {{"merge", "x", "-o", "a", "--dtyp=x"}, "no option `--dtyp`", "did you mean `--dtype`?"},
      {{"merge", "x", "-o", "a", "-z"}, "no option `-z`", "thorns merge --help"},
      {{"merge", "x", "-o", "a", "--explain", "t"}, "no option `--explain`", ""},
      {{"merge", "x", "-o", "a", "--dtype", "int8"}, "needs float32, float16 or bfloat16", ""},
      {{"merge", "x", "-o", "a", "--dtype", "flaot16"}, "`flaot16`", "did you mean `float16`?"},
      {{"merge", "x", "-o", "a", "--memory", "lots"}, "`--memory` needs a size", "500MB or 5GB"},
      {{"merge", "x", "-o", "a", "--shard-size", "0"}, "`--shard-size` needs a size", "decimal"},
      {{"merge", "x", "-o", "a", "-j", "0"}, "`--threads` needs a number from 1 to", ""},
      {{"merge", "x", "-o", "a", "-j", "2x"}, "found `2x`", ""},
      {{"merge", "x", "-o", "a", "-j", "99999999999999999999"}, "`--threads` needs", ""},
      {{"merge", "x", "-o", "a", "-m", "A"}, "`--model` needs NAME=WHERE, found `A`", "--model"},
      {{"merge", "x", "-o", "a", "-a", "=x"}, "`--adapter` needs NAME=WHERE", "--adapter"},
      {{"merge", "x", "-o", "a", "-m", "A="}, "`--model` needs NAME=WHERE, found `A=`", ""},
      {{"merge", "x", "-o", "a", "--progress", "yes"}, "needs auto, always or never", ""},
      {{"merge", "x", "-o", "a", "-q", "-v"}, "exclude each other", ""},
      {{"plan"}, "plan needs a recipe", "thorns plan --help"},
      {{"plan", "x", "--allow-nonfinite"}, "`thorns plan` has no option", ""},
      {{"plan", "x", "--explain", "t", "--json"}, "excludes `--json`", ""},
      {{"key"}, "key needs a key", "thorns key"},
      {{"key", "A", "B]"}, "unexpected argument `B]`", "in quotes"},
      {{"methods", "a", "b"}, "unexpected argument `b`", ""},
      {{"completion"}, "completion needs a shell", "bash, zsh, fish"},
      {{"completion", "tcsh"}, "no completion for `tcsh`", "bash, zsh, fish"},
  };
  for (const Case& test : cases) {
    std::string line = "thorns";
    for (const std::string& word : test.words) line += " " + word;
    try {
      parse_arguments(test.words, "");
      ADD_FAILURE() << line;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::BadUsage) << line;
      EXPECT_NE(error.message().find(test.message), std::string::npos)
          << line << ": " << error.message();
      EXPECT_NE(error.hint().find(test.hint), std::string::npos) << line << ": " << error.hint();
      EXPECT_FALSE(error.message().ends_with('.')) << line;
    }
  }
}

TEST(CliArguments, JsonIsSeenEvenInNonsense) {
  EXPECT_TRUE(wants_json({"mrege", "--json"}));
  EXPECT_FALSE(wants_json({"key", "--", "--json"}));
  EXPECT_FALSE(wants_json({}));
}

TEST(CliArguments, HelpTeachesWithinEightyColumns) {
  std::vector<Words> calls = {{"--help"}, {"-h"}};
  for (const VerbSketch& verb : sketch_verbs()) {
    calls.push_back({verb.name, "--help"});
    calls.push_back({verb.name, "-h"});
  }
  for (const Words& call : calls) {
    std::istringstream lines(help(call));
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(display_width(line), 80U) << line;
      EXPECT_FALSE(line.ends_with(' ')) << line;
    }
  }
  for (const VerbSketch& verb : sketch_verbs()) {
    EXPECT_NE(help({"--help"}).find("  " + verb.name + " "), std::string::npos);
    const std::string text = help({verb.name, "--help"});
    EXPECT_NE(text.find("Usage: thorns " + verb.name), std::string::npos);
    EXPECT_NE(text.find("Examples:\n"), std::string::npos);
    for (const OptionSketch& option : verb.options) {
      EXPECT_NE(text.find(option.names.back()), std::string::npos) << option.names.back();
    }
  }
}

// But for --help and --output of merge, which has to be given, each option says what happens
// without it.
TEST(CliArguments, EveryOptionTellsItsDefault) {
  for (const VerbSketch& verb : sketch_verbs()) {
    std::istringstream lines(help({verb.name, "--help"}));
    std::string option;
    std::string text;
    int options = 0;
    const auto check = [&] {
      const bool exempt = option.find("--help") != std::string::npos ||
                          (verb.name == "merge" && option.find("--output") != std::string::npos);
      if (!option.empty() && !exempt) {
        EXPECT_NE(text.find("Default:"), std::string::npos) << verb.name << option;
      }
      options += option.empty() ? 0 : 1;
      option.clear();
      text.clear();
    };
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(std::string(10, ' '))) {
        text += line.substr(9);
        continue;
      }
      check();
      if (line.starts_with("  -") || line.starts_with("      --")) option = line;
    }
    check();
    EXPECT_EQ(options, static_cast<int>(verb.options.size())) << verb.name;
  }
}

TEST(CliArguments, SketchHasValuesAndChoices) {
  const auto verbs = sketch_verbs();
  ASSERT_EQ(verbs.front().name, "merge");
  const auto& options = verbs.front().options;
  const auto dtype = std::find_if(options.begin(), options.end(), [](const OptionSketch& option) {
    return option.names.back() == "--dtype";
  });
  ASSERT_NE(dtype, options.end());
  EXPECT_EQ(dtype->choices, (Words{"float32", "float16", "bfloat16"}));
  EXPECT_EQ(dtype->summary, "Type of the output's floating tensors");
  const auto force = std::find_if(options.begin(), options.end(), [](const OptionSketch& option) {
    return option.names.back() == "--force";
  });
  ASSERT_NE(force, options.end());
  EXPECT_EQ(force->value, "");
}

}  // namespace
}  // namespace thorns::cli
