#include "recipe/recipe_file.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace thorns {
namespace {

TEST(RecipeFile, EveryFieldIsRead) {
  const RecipeFile file = read_recipe_file(R"yaml(# A comment.
name: 13B-Thorns
models:
  NousHermes: NousResearch/Nous-Hermes-Llama2-13b
  "odd \" name": ./a b
adapters:
  Kimiko: ./loras/kimiko
let:
  Logic: "{({NousHermes+Chronos}[Kimiko])+Platypus}"
  Imagination: 'Holodeck[LIMA RP]'
key: "(Logic{Imagination})"
dtype: float16
shard_size: 1.5GB
tokenizer: NousHermes
vocabulary: union
prompt: alpaca
license: llama2
)yaml",
                                           "recipes/r.yaml");
  EXPECT_EQ(file.path, "recipes/r.yaml");
  EXPECT_EQ(file.settings.name, "13B-Thorns");
  ASSERT_EQ(file.models.size(), 2U);
  EXPECT_EQ(file.models[0].name, "NousHermes");
  EXPECT_EQ(file.models[0].value, "NousResearch/Nous-Hermes-Llama2-13b");
  EXPECT_EQ(file.models[0].place.line, 4U);
  EXPECT_EQ(file.models[0].place.column, 15U);
  EXPECT_EQ(file.models[1].name, "odd \" name");
  EXPECT_EQ(file.models[1].value, "./a b");
  ASSERT_EQ(file.adapters.size(), 1U);
  EXPECT_EQ(file.adapters[0].value, "./loras/kimiko");
  ASSERT_EQ(file.let.size(), 2U);
  EXPECT_EQ(file.let[1].name, "Imagination");
  EXPECT_EQ(file.let[1].value, "Holodeck[LIMA RP]");
  EXPECT_EQ(file.key.value, "(Logic{Imagination})");
  EXPECT_EQ(file.key.place.line, 11U);
  EXPECT_EQ(file.settings.dtype, Dtype::F16);
  EXPECT_EQ(file.settings.shard_size, 1'500'000'000U);
  EXPECT_EQ(file.settings.tokenizer, "NousHermes");
  EXPECT_EQ(file.settings.vocabulary, "union");
  EXPECT_EQ(file.settings.prompt, "alpaca");
  EXPECT_EQ(file.settings.license, "llama2");
}

TEST(RecipeFile, OnlyTheKeyIsRequired) {
  const RecipeFile file = read_recipe_file("key: A{B}\nmodels:\nlet: ~\n", "r.yaml");
  EXPECT_EQ(file.key.value, "A{B}");
  EXPECT_TRUE(file.models.empty());
  EXPECT_FALSE(file.settings.dtype);
  EXPECT_FALSE(file.settings.shard_size);
  EXPECT_EQ(read_recipe_file("---\nkey: A\n...\n", "r.yaml").key.value, "A");
  EXPECT_EQ(read_recipe_file("key: >\n  {A+\n  B}\n", "r.yaml").key.value, "{A+ B}\n");
  EXPECT_EQ(read_recipe_file("name: &x A\nkey: *x\n", "r.yaml").key.value, "A");
}

struct FileErrorCase {
  const char* text;
  std::size_t line;  // 0: the file as a whole
  std::size_t column;
  const char* message;
  const char* hint;
};

const FileErrorCase kFileErrorCases[] = {
    {"", 0, 0, "`r.yaml` is empty", "key: \"{A+B}\""},
    {"# nothing\n", 0, 0, "`r.yaml` is empty", ""},
    {"{A+B}\n", 1, 2, "unknown field `A+B`", ""},
    {"just text\n", 1, 1, "`r.yaml` does not hold fields", "key:"},
    {"- key: A\n", 1, 1, "`r.yaml` does not hold fields", ""},
    {"name: x\n", 0, 0, "`r.yaml` has no `key`", "key: \"{A+B}\""},
    {"key: A\nmodel:\n  A: x\n", 2, 1, "unknown field `model`", "did you mean `models`?"},
    {"kee: A\n", 1, 1, "unknown field `kee`", "did you mean `key`?"},
    {"key: A\nzzzzzzzz: x\n", 2, 1, "unknown field `zzzzzzzz`", "use one of: adapters, dtype, key"},
    {"key: A\n<<: {name: x}\n", 2, 1, "unknown field `<<`", ""},
    {"key: A\nname: x\nkey: B\n", 3, 1, "the field `key` is given twice", "remove one"},
    {"key: A\nmodels:\n  A: x\n  B: y\n  A: z\n", 5, 3, "the models `A` is given twice", ""},
    {"? [a]\n: b\nkey: A\n", 1, 3, "a field name must be text", ""},
    {"key: A\nmodels:\n  [A]: x\n", 3, 3, "a models name must be text", ""},
    {"key: A\nmodels:\n  \"\": x\n", 3, 3, "a models name must be text on one line", ""},
    {"key: A\nmodels:\n  \"a\\nb\": x\n", 3, 3, "a models name must be text on one line", ""},
    {"key: A\nmodels:\n  A: \"x\\0y\"\n", 3, 6, "`models.A` must be text on one line", ""},
    {"key:\n", 1, 1, "`key` has no value", "put keys in quotes"},
    {"key: \"\"\n", 1, 6, "`key` is empty", "put keys in quotes"},
    {"key: {A+B}\n", 1, 6, "`key` must be text, found a mapping", "put keys in quotes"},
    {"key: [A]\n", 1, 6, "`key` must be text, found a list", "put keys in quotes"},
    {"key: {A+B}{C}\n", 1, 11, "is not valid YAML", "put keys in quotes"},
    {"key: A\nlet:\n  L: {A+B}\n", 3, 6, "`let.L` must be text, found a mapping", "in quotes"},
    {"key: A\nname: [x]\n", 2, 7, "`name` must be text, found a list", ""},
    {"key: A\nmodels: x\n", 2, 9, "`models` must map names to values", "Chronos: ./models"},
    {"key: A\nadapters: [x]\n", 2, 11, "`adapters` must map names to values", ""},
    {"key: A\nlet: x\n", 2, 6, "`let` must map names to values", "Logic: \"{A+B}\""},
    {"key: A\nmodels:\n  A: {path: x}\n", 3, 6, "`models.A` must be text, found a mapping", ""},
    {"key: A\nmodels:\n  A:\n", 3, 3, "`models.A` has no value", ""},
    {"key: A\nmodels: {A: x}\nlet: {A: B}\n", 3, 10, "`A` is bound in both `models` and `let`",
     "another name"},
    {"key: A\ndtype: fp16\n", 2, 8, "unknown dtype `fp16`", "use one of: float32, float16"},
    {"key: A\ndtype: floa16\n", 2, 8, "unknown dtype `floa16`", "did you mean `float16`?"},
    {"key: A\ndtype: float64\n", 2, 8, "unknown dtype `float64`", ""},
    {"key: A\nshard_size: big\n", 2, 13, "`shard_size` is not a size: `big`", "5GB"},
    {"key: A\nshard_size: -1\n", 2, 13, "`shard_size` is not a size", ""},
    {"key: A\nvocabulary: unoin\n", 2, 13, "unknown vocabulary rule `unoin`", "`union`"},
    {"key: A\n\tname: x\n", 0, 0, "is not valid YAML", ""},
    {"key: A\n, , ,\n", 2, 1, "is not valid YAML", ""},
    {",\n", 1, 1, "is not valid YAML", ""},
    {"key: *nothing\n", 0, 0, "is not valid YAML", ""},
};

TEST(RecipeFile, ErrorsNameLineAndColumn) {
  for (const FileErrorCase& c : kFileErrorCases) {
    SCOPED_TRACE(c.text);
    const auto error = error_of([&] { read_recipe_file(c.text, "r.yaml"); });
    expect_error(error, ErrorCode::BadRecipe, c.message, c.hint);
    const auto& place = std::get<FilePlace>(error.where());
    EXPECT_EQ(place.path, "r.yaml");
    if (c.line == 0) continue;
    EXPECT_EQ(place.line, c.line);
    EXPECT_EQ(place.column, c.column);
  }
}

TEST(RecipeFile, MergekitConfigurationsAreRefusedByName) {
  for (const char* text :
       {"models:\n  - model: a\nmerge_method: slerp\n", "merge_method: x\nkey: A\n",
        "key: A\n---\nkey: B\n", "name: x\n---\nmerge_method: linear\n"}) {
    SCOPED_TRACE(text);
    expect_error(error_of([&] { read_recipe_file(text, "m.yml"); }), ErrorCode::Unsupported,
                 "mergekit configurations cannot be read yet", "key");
  }
}

std::string repeat(const std::string& text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(RecipeFile, HostileFilesAreErrors) {
  const auto refuse = [](const std::string& text, const char* message = "") {
    expect_error(error_of([&] { read_recipe_file(text, "r.yaml"); }), ErrorCode::BadRecipe,
                 message);
  };
  refuse("key: A\n" + repeat("#", kMaxRecipeBytes), "a recipe has at most 1048576");
  refuse(repeat("[", 100'000));
  refuse(repeat("{a: ", 100'000));
  refuse(repeat("- ", 100'000));
  refuse("key: A\nname: " + repeat("[", 100'000));
  refuse(std::string(1000, '\0'));
  refuse("\xFF\xFE\xFF");
  // Aliases that would be 10^9 items if they were copied out.
  std::string bomb = "name: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    bomb += "models" + std::to_string(i) + ": &a" + std::to_string(i) + " [" +
            repeat("*a" + std::to_string(i - 1) + ", ", 10) + "]\n";
  }
  refuse(bomb + "key: A\n", "`name` must be text, found a list");
}

TEST(RecipeFile, IsToldFromAKeyByContent) {
  for (const char* text : {"key: A\n", "# x\n{A+B}", "---\nkey: A", "name:\n", "\nmerge_method: a",
                           "{A+B}\nkey: x", "models:\r\n", "%YAML 1.2\n"}) {
    EXPECT_TRUE(looks_like_recipe_file(text)) << text;
  }
  for (const char* text :
       {"", "{A+B}", " {A+B}\n", "A", "C:/models/a", "{key: A}", "a:b\n", "A\nB"}) {
    EXPECT_FALSE(looks_like_recipe_file(text)) << text;
  }
}

}  // namespace
}  // namespace thorns
