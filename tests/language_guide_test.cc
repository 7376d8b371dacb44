// docs/language.md is read by people who believe it: every key, recipe and error in it is tried.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/disk.h"
#include "key/expression.h"
#include "method/method.h"
#include "recipe/recipe_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

struct Fence {
  std::string kind;
  std::vector<std::string> lines;
};

std::vector<Fence> fences_of(const std::string& text) {
  std::vector<Fence> fences;
  bool inside = false;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("```")) {
      inside = !inside;
      if (inside) fences.push_back({line.substr(3), {}});
    } else if (inside) {
      fences.back().lines.push_back(line);
    }
  }
  EXPECT_FALSE(inside);
  return fences;
}

std::string joined(const std::vector<std::string>& lines, std::size_t from = 0) {
  std::string text;
  for (std::size_t i = from; i < lines.size(); ++i) text += lines[i] + "\n";
  return text;
}

class LanguageGuide : public ::testing::Test {
 protected:
  LanguageGuide()
      : text_(read_text(real_disk(), THORNS_TEST_DATA "/../docs/language.md", 1 << 20)),
        fences_(fences_of(text_)) {}

  std::string text_;
  std::vector<Fence> fences_;
};

TEST_F(LanguageGuide, EveryKeyIsAKey) {
  std::size_t keys = 0;
  std::size_t pairs = 0;
  bool canonical_section = false;
  for (const Fence& fence : fences_) {
    if (fence.kind != "key") continue;
    for (const std::string& line : fence.lines) {
      SCOPED_TRACE(line);
      // Two keys that mean the same: "X{Y}   is   {X+Y}".
      const std::size_t is = line.find("  is  ");
      try {
        const auto first = parse_key(line.substr(0, is));
        EXPECT_TRUE(same(*parse_key(to_string(*first)), *first));
        ++keys;
        if (is == std::string::npos) continue;
        const std::string second = line.substr(line.find_first_not_of(' ', is + 5));
        EXPECT_TRUE(same(*first, *parse_key(second)));
        // The last section of pairs shows canonical forms.
        canonical_section = canonical_section || line.starts_with(" A { B }");
        if (canonical_section) {
          EXPECT_EQ(to_string(*first), second);
        }
        ++pairs;
      } catch (const Error& error) {
        ADD_FAILURE() << to_string(error);
      }
    }
  }
  EXPECT_GT(keys, 30U);
  EXPECT_GT(pairs, 8U);
  EXPECT_TRUE(canonical_section);
}

TEST_F(LanguageGuide, EveryErrorIsShownAsItIs) {
  std::size_t errors = 0;
  for (const Fence& fence : fences_) {
    if (fence.kind != "key-error") continue;
    ASSERT_GE(fence.lines.size(), 2U);
    SCOPED_TRACE(fence.lines[0]);
    try {
      parse_key(fence.lines[0]);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(to_string(error), joined(fence.lines, 1));
      ++errors;
    }
  }
  EXPECT_GE(errors, 3U);
}

TEST_F(LanguageGuide, EveryRecipeIsARecipe) {
  std::size_t recipes = 0;
  for (const Fence& fence : fences_) {
    if (fence.kind != "yaml") continue;
    try {
      const RecipeFile file = read_recipe_file(joined(fence.lines), "recipe.yaml");
      parse_key(file.key.value);
      for (const FileEntry& entry : file.let) parse_key(entry.value);
      ++recipes;
    } catch (const Error& error) {
      ADD_FAILURE() << to_string(error);
    }
  }
  EXPECT_GE(recipes, 2U);
}

TEST_F(LanguageGuide, EveryFenceIsTried) {
  for (const Fence& fence : fences_) {
    EXPECT_TRUE(fence.kind == "key" || fence.kind == "key-error" || fence.kind == "yaml")
        << fence.kind;
  }
}

// The methods that its keys use are in the catalogue, with those parameters.
void expect_known(const Expression& expression) {
  if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    expect_known(*fold->model);
  } else if (const auto* part = std::get_if<CompositeExpression>(&expression.node)) {
    expect_known(*part->inside);
  } else if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    for (const KeyTerm& term : blend->terms) expect_known(*term.model);
    const auto& named = blend->options.method;
    const SpanMethod* method = find_method(named ? named->text : "slerp");
    ASSERT_NE(method, nullptr) << named->text;
    EXPECT_GE(blend->terms.size(), method->least_models());
    EXPECT_LE(blend->terms.size(), method->most_models());
    for (const KeySetting& setting : blend->options.settings) {
      const auto& parameters = method->parameters();
      EXPECT_TRUE(std::any_of(parameters.begin(), parameters.end(), [&](const Parameter& one) {
        return one.name == setting.name.text;
      })) << setting.name.text;
    }
  }
}

TEST_F(LanguageGuide, KeysUseMethodsThatExist) {
  for (const Fence& fence : fences_) {
    if (fence.kind != "key") continue;
    for (const std::string& line : fence.lines) {
      SCOPED_TRACE(line);
      expect_known(*parse_key(line.substr(0, line.find("  is  "))));
    }
  }
}

}  // namespace
}  // namespace thorns
