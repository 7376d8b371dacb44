#include <gtest/gtest.h>

#include "recipe/key_map_file.h"
#include "recipe/recipe.h"
#include "support/expect_error.h"
#include "support/memory_disk.h"

namespace thorns {
namespace {

// "from=to", "from" for what is left out.
std::string text_of(const KeyMap& map) {
  std::string text;
  for (const KeyRule& rule : map) {
    text += (text.empty() ? "" : " ") + rule.from + (rule.to ? "=" + *rule.to : "");
  }
  return text;
}

TEST(KeyMap, IsYamlOrJson) {
  for (const char* text : {"layers: model.layers\nhead: ~\n\"\": \"x.\"\n",
                           R"({"layers": "model.layers", "head": null, "": "x."})",
                           "base_model.model.layers: model.layers\nhead:\n'': x.\n"}) {
    EXPECT_EQ(text_of(parse_key_map(text, "k")), "layers=model.layers head =x.") << text;
  }
}

TEST(KeyMap, WhatIsNoneIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "is empty"},
      {"{}", "is empty"},
      {"- a\n- b\n", "is no mapping"},
      {"a: [b]\n", "maps `a` to what is no name"},
      {R"({"a": 1})", "maps `a` to what is no name"},
      {"a: b\na: c\n", "has `a` twice"},
      {"a: b\nbase_model.model.a: c\n", "has `a` twice"},
      {"a: [b\n", "is not valid YAML"},
  };
  for (const auto& [text, message] : cases) {
    SCOPED_TRACE(text);
    expect_error(error_of([&, text = text] { parse_key_map(text, "k"); }), ErrorCode::BadRecipe,
                 message);
  }
}

class KeyMapOfARecipe : public ::testing::Test {
 protected:
  KeyMapOfARecipe() {
    disk_.add_model("A");
    for (const char* name : {"L", "K"}) disk_.add_adapter(name);
    disk_.add_file("l.yaml", "a: b\n");
    disk_.add_file("all.yaml", "c: d\n");
  }
  Recipe bind(const std::string& key) { return bind_recipe(disk_, key, bindings_); }

  MemoryDisk disk_;
  Bindings bindings_;
};

TEST_F(KeyMapOfARecipe, BelongsToOneAdapterOrToTheRest) {
  bindings_.key_maps = {{"", "all.yaml"}, {"L", "l.yaml"}};
  const Recipe recipe = bind("A[L+K]");
  EXPECT_EQ(text_of(recipe.adapters[0].key_map), "a=b");
  EXPECT_EQ(recipe.adapters[0].key_map_where, "l.yaml");
  EXPECT_EQ(text_of(recipe.adapters[1].key_map), "c=d");
}

TEST_F(KeyMapOfARecipe, StandsInARecipeFile) {
  disk_.add_file("r/recipe.yaml",
                 "key_maps: {L: ../l.yaml}\nkey: \"../A[L]\"\n"
                 "adapters: {L: ../L}\n");
  const Recipe recipe = bind("r/recipe.yaml");
  EXPECT_EQ(text_of(recipe.adapters[0].key_map), "a=b");
  EXPECT_EQ(recipe.adapters[0].key_map_where, "../l.yaml");
}

TEST_F(KeyMapOfARecipe, ErrorsNameTheAdapter) {
  bindings_.key_maps = {{"Elsewhere", "l.yaml"}};
  expect_error(error_of([&] { bind("A[L]"); }), ErrorCode::BadRecipe,
               "given for `Elsewhere`, which the key does not fold", "adapters of the key: L");
  bindings_.key_maps = {{"L", "l.yaml"}, {"L", "all.yaml"}};
  expect_error(error_of([&] { bind("A[L]"); }), ErrorCode::BadRecipe, "is given two key maps");
  bindings_.key_maps = {{"", "all.yaml"}};
  expect_error(error_of([&] { bind("A"); }), ErrorCode::BadRecipe, "folds no adapter");
  bindings_.key_maps = {{"", "none.yaml"}};
  expect_error(error_of([&] { bind("A[L]"); }), ErrorCode::NotFound, "there is no key map");
}

}  // namespace
}  // namespace thorns
