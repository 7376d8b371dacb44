#include "output/markdown.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <array>
#include <cstdio>
#include <memory>
#include <vector>

namespace thorns {
namespace {

TEST(Markdown, Text) {
  EXPECT_EQ(markdown_text("13B-Thorns v1.0"), "13B-Thorns v1.0");
  EXPECT_EQ(markdown_text("a|b\n# <img> [x](y) `c` *d* _e_ &amp;"),
            "a\\|b \\# \\<img\\> \\[x\\](y) \\`c\\` \\*d\\* \\_e\\_ \\&amp;");
}

TEST(Markdown, Code) {
  EXPECT_EQ(markdown_code("{A+B}"), "`{A+B}`");
  EXPECT_EQ(markdown_code("a`b``c\nd"), "```a`b``c d```");
  EXPECT_EQ(markdown_code("`a"), "`` `a ``");
  EXPECT_EQ(markdown_code(""), "`  `");
  EXPECT_EQ(markdown_code("a|b"), "`a|b`");
  EXPECT_EQ(markdown_code("a|b", true), "`a\\|b`");
}

TEST(Markdown, BlockIsNotClosedFromInside) {
  EXPECT_EQ(markdown_block("x", "sh"), "```sh\nx\n```\n");
  EXPECT_EQ(markdown_block("x\n````\ny\n", ""), "`````\nx\n````\ny\n`````\n");
}

TEST(Markdown, YamlStringsReadBackAsStrings) {
  EXPECT_EQ(yaml_string("llama2"), "llama2");
  EXPECT_EQ(yaml_string("garden/Rose-7b"), "garden/Rose-7b");
  for (const char* text : {"", "no", "Yes", "null", "1.0", "1/2", "a: b", "a # b", "- a", "\"q\"",
                           "back\\slash", "{x}", "r\xc3\xb6se", " a", "'"}) {
    const std::string yaml = yaml_string(text);
    EXPECT_EQ(YAML::Load("key: " + yaml)["key"].Scalar(), text) << yaml;
    if (*text != '\0' && std::string_view(text) != "garden/Rose-7b") {
      EXPECT_EQ(yaml.front(), '"') << yaml;
    }
  }
  EXPECT_EQ(yaml_string("a\nlicense: mit"), "\"a license: mit\"");
}

TEST(Markdown, ShellWordsReadBackAsThemselves) {
  EXPECT_EQ(shell_word("owner/repo@main"), "owner/repo@main");
  for (const char* text :
       {"", "LIMA RP", "it's", "$HOME `id` \\ \"", "({A+B}[C])", "a;b", "~", "#"}) {
    const std::string command = "printf %s " + shell_word(text);
    const std::unique_ptr<FILE, int (*)(FILE*)> shell(::popen(command.c_str(), "r"), ::pclose);
    ASSERT_NE(shell, nullptr);
    std::array<char, 64> answer{};
    const std::size_t got = std::fread(answer.data(), 1, answer.size(), shell.get());
    EXPECT_EQ(std::string(answer.data(), got), text) << command;
  }
}

}  // namespace
}  // namespace thorns
