#include "output/tokenizer_files.h"

#include <gtest/gtest.h>

#include "plan/vocabulary.h"
#include "support/output_plan.h"
#include "support/temp_folder_out.h"
#include "thorns/error.h"

namespace thorns {
namespace {

TEST(TokenizerFiles, NamesMustStayInside) {
  for (const char* name : {"tokenizer.json", "additional_chat_templates/tool.jinja", "..a", "a..b"})
    EXPECT_TRUE(stays_inside(name)) << name;
  for (const char* name :
       {"", "/etc/passwd", "../x", "a/../../x", "a/..", "./a", "a//b", "a/", ".."})
    EXPECT_FALSE(stays_inside(name)) << name;
  EXPECT_FALSE(stays_inside(std::string_view("a\0b", 3)));
}

TEST(TokenizerFiles, RefusesANameThatLeavesItsFolder) {
  const test::OutFolder folder;
  Plan plan = test::small_plan(folder.path());
  plan.has_tokenizer = true;
  static_cast<test::FakeCheckpoint&>(*plan.leaves.front()).tokenizer_ = {"../secret"};
  test::spill(folder / "secret", "x");
  try {
    tokenizer_files(real_disk(), plan);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_NE(error.message().find("`../secret`"), std::string::npos);
    EXPECT_EQ(std::get<FilePlace>(error.where()).path, folder / "rose");
    EXPECT_NE(error.hint().find("--tokenizer"), std::string::npos);
  }
}

TEST(TokenizerFiles, ComeFromTheChosenLeaf) {
  const test::OutFolder folder;
  Plan plan = test::small_plan(folder.path());
  static_cast<test::FakeCheckpoint&>(*plan.leaves[1]).tokenizer_ = {"a/b/c.jinja",
                                                                    "tokenizer.json"};
  test::spill(folder / "thorn/a/b/c.jinja", "12345");
  test::spill(folder / "thorn/tokenizer.json", "{}");
  EXPECT_TRUE(tokenizer_files(real_disk(), plan).empty());
  plan.has_tokenizer = true;
  plan.tokenizer_leaf = 1;
  const auto files = tokenizer_files(real_disk(), plan);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].from, folder / "thorn/a/b/c.jinja");
  EXPECT_EQ(files[0].name, "a/b/c.jinja");
  EXPECT_EQ(files[0].size, 5U);
  EXPECT_EQ(folders_of(files), (std::vector<std::string>{"a", "a/b"}));
}

// Of two files of the base that give `<u>` different ids the first is believed. The other would
// have the id 3 twice.
TEST(TokenizerFiles, ThatDisagreeTakeNoTokens) {
  const test::OutFolder folder;
  Plan plan = test::small_plan(folder.path());
  plan.has_tokenizer = true;
  static_cast<test::FakeCheckpoint&>(*plan.leaves.front()).tokenizer_ = {"tokenizer.json",
                                                                         "added_tokens.json"};
  test::spill(folder / "rose/tokenizer.json",
              R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
                  "added_tokens": [{"id": 2, "content": "<u>"}]})");
  Vocabulary vocabulary;
  vocabulary.base_end = 3;
  vocabulary.added.push_back({{"<t>", 3, true}, 1, 2});
  plan.vocabulary = std::make_shared<Vocabulary>(vocabulary);
  for (const char* stale : {R"({"<u>": 3})", R"({"<t>": 1})"}) {
    test::spill(folder / "rose/added_tokens.json", stale);
    try {
      tokenizer_files(real_disk(), plan);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Unsupported);
      EXPECT_NE(error.message().find("disagrees with other files on the token `<t>` or the id 3"),
                std::string::npos)
          << error.message();
    }
  }
  test::spill(folder / "rose/added_tokens.json", R"({"<u>": 2})");
  EXPECT_EQ(tokenizer_files(real_disk(), plan).size(), 2U);
}

TEST(TokenizerFiles, GoneSinceThePlan) {
  Plan plan = test::small_plan("/nowhere");
  plan.has_tokenizer = true;
  static_cast<test::FakeCheckpoint&>(*plan.leaves.front()).tokenizer_ = {"tokenizer.json"};
  try {
    tokenizer_files(real_disk(), plan);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::NotFound);
    EXPECT_EQ(std::get<FilePlace>(error.where()).path, "/nowhere/rose/tokenizer.json");
  }
}

}  // namespace
}  // namespace thorns
