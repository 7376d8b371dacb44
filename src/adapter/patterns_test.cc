#include "adapter/patterns.h"

#include <gtest/gtest.h>

#include <string>

#include "support/error_of.h"

namespace thorns {
namespace {

std::optional<std::size_t> match(const std::vector<std::string>& keys, const std::string& module) {
  return PatternList(keys, "rank_pattern").first_match(module);
}

TEST(Patterns, KeysMatchAsTheReferenceMatchesThem) {
  struct Case {
    const char* key;
    const char* module;
    bool matches;
  };
  const Case cases[] = {
      {"q_proj", "model.layers.0.q_proj", true},
      {"q_proj", "q_proj", true},
      {"q_proj", "model.my_q_proj", false},
      {"q_proj", "model.q_proj.x", false},
      {"layers.0.q_proj", "model.layers.0.q_proj", true},
      {"layers.0.q_proj", "model.xlayers.0.q_proj", false},
      {"layers.1.q", "layers.11q", true},  // an unescaped dot is any character
      {"layers.1.q", "layers.1.q", true},
      {"layers\\.1\\.q", "layers.11q", false},
      {"layers\\.1\\.q", "model.layers.1.q", true},
      {"^layers.0.q", "layers.0.q", true},
      {"^layers.0.q", "model.layers.0.q", false},
      {"^model\\.layers\\.0\\.q$", "model.layers.0.q", true},
      {"^model\\.layers\\.0\\.q$", "x.model.layers.0.q", false},
      {"layers.[01].attn.q_proj", "model.layers.1.attn.q_proj", true},
      {"layers.[01].attn.q_proj", "model.layers.2.attn.q_proj", false},
      {"(q|v)_proj", "m.v_proj", true},
      {"q_proj|v_proj", "m.q_proj", true},
      {"q_proj|v_proj", "m.k_proj", false},
      {".*\\.(1|12)\\.mlp\\.up", "model.layers.12.mlp.up", true},
      {"layers\\.\\d+\\.q", "model.layers.10.q", true},
      {"layers\\.\\d+\\.q", "model.layers.x.q", false},
      {"", "a.", true},
      {"", "a", false},
  };
  for (const Case& test : cases) {
    EXPECT_EQ(match({test.key}, test.module).has_value(), test.matches)
        << test.key << " on " << test.module;
  }
}

TEST(Patterns, TheFirstKeyOfTheFileWins) {
  EXPECT_EQ(match({"v", "q", "layers.0.q"}, "layers.0.q"), 1U);
  EXPECT_EQ(match({"layers.0.q", "q"}, "layers.0.q"), 0U);
  EXPECT_EQ(match({}, "q"), std::nullopt);
}

TEST(Patterns, UnusedKeysAreKnown) {
  PatternList list({"q", "v", "[kx]"}, "rank_pattern");
  list.first_match("m.v");
  EXPECT_EQ(list.unused(), (std::vector<std::string>{"q", "[kx]"}));
}

TEST(Patterns, KeysThatCannotBeUsedAreRefused) {
  const std::pair<std::string, const char*> cases[] = {
      {"(q", "not a regular expression"},
      {"q[", "not a regular expression"},
      {"(?P<name>q)", "not a regular expression"},
      {"(?<=a)q", "not a regular expression"},
      {"(a)\\1", "not a regular expression"},
      {"*q", "not a regular expression"},
      {"q{2}", "counted repetition"},
      {".*(?=.*(?=.*(?=.*x)a)a)", "looks ahead"},
      {"(?!k)[a-z]_proj", "looks ahead"},
      {std::string(513, 'q'), "513 characters, at most 512"},
  };
  for (const auto& [key, why] : cases) {
    SCOPED_TRACE(key);
    const Error error =
        test::error_of([&, key = key] { PatternList({key}, "rank_pattern of `x`"); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(why), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("rank_pattern of `x`"), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find("names of the modules in full"), std::string::npos);
  }
  const Error many =
      test::error_of([] { PatternList(std::vector<std::string>(257, "q[0]"), "rank_pattern"); });
  EXPECT_NE(many.message().find("more than 256"), std::string::npos);
}

// Expressions that take a backtracking matcher exponential time or unbounded stack.
TEST(Patterns, HostileExpressionsEndSoon) {
  const std::string name = std::string(1000, 'a');
  for (const char* key : {"(a*)*b", "(a|a)*b", "(a|aa)+$x", "(.*)*(.*)*(.*)*x", "((a+)+)+b"}) {
    EXPECT_EQ(match({key}, name), std::nullopt) << key;
  }
  EXPECT_EQ(match({".*[b]?"}, std::string(1'000'000, 'a')), std::nullopt);
}

}  // namespace
}  // namespace thorns
