#include "recipe/recipe.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/expect_error.h"
#include "support/memory_disk.h"

namespace thorns {
namespace {

constexpr const char* kPublished =
    "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})";
constexpr const char* kPublishedCanonical =
    "({{({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}+Holodeck[LIMA RP]})";

// The published family as folders under models/ and adapters/, and A, B, C, L, K besides.
class RecipeTest : public ::testing::Test {
 protected:
  RecipeTest() {
    for (const char* name :
         {"NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck", "A", "B", "C"}) {
      disk_.add_model(std::string("models/") + name);
    }
    for (const char* name : {"Kimiko", "Janine", "LIMA-RP", "L", "K"}) {
      disk_.add_adapter(std::string("adapters/") + name);
    }
    bindings_.paths = {"models", "adapters"};
  }

  Recipe bind(const std::string& recipe, const std::string& input = {}) {
    Recipe bound = bind_recipe(disk_, recipe, bindings_, input);
    if (!bound.problems.empty()) throw Error(bound.problems.front());
    return bound;
  }
  Error refused(const std::string& recipe) {
    return error_of([&] { bind(recipe); });
  }
  Recipe bind_text(const std::string& yaml) {
    disk_.add_file("recipe.yaml", yaml);
    return bind("recipe.yaml");
  }
  Error refused_text(const std::string& yaml) {
    return error_of([&] { bind_text(yaml); });
  }

  MemoryDisk disk_;
  Bindings bindings_;
};

// A recipe as text: leaves, then one node after the other.
std::string describe(const Recipe& recipe) {
  std::string text;
  for (std::size_t i = 0; i < recipe.nodes.size(); ++i) {
    const auto& node = recipe.nodes[i].node;
    text += fmt::format("{}{}=", i == 0 ? "" : " ", i);
    if (const auto* leaf = std::get_if<LeafNode>(&node)) {
      text += recipe.leaves.at(leaf->leaf).name;
    } else if (const auto* fold = std::get_if<FoldNode>(&node)) {
      text += fmt::format("{}[", fold->model);
      const char* between = "";
      for (const FoldNode::Share& share : fold->adapters) {
        text += fmt::format("{}{}*{}", std::exchange(between, "+"), share.weight,
                            recipe.adapters.at(share.adapter).name);
      }
      if (fold->combination) {
        const Combination& how = *fold->combination;
        text += fmt::format("; {} {} {} {} {}", how.rule.name, how.density, how.by_frequency,
                            how.svd_rank.value_or(0), how.seed);
      }
      text += "]";
    } else {
      const auto& blend = std::get<BlendNode>(node);
      text += blend.method->name() + "(";
      for (std::size_t m = 0; m < blend.models.size(); ++m) {
        text += fmt::format("{}{}{}", m == 0 ? "" : ",",
                            blend.weighted ? fmt::format("{}*", blend.weights[m]) : "",
                            blend.models[m]);
      }
      for (const Setting& setting : blend.settings) {
        text += fmt::format(";{}<{}>={}", blend.method->parameters().at(setting.parameter).name,
                            setting.filter, fmt::join(setting.values, ":"));
      }
      text += ")";
    }
  }
  return text + fmt::format(" root={}", recipe.root);
}

TEST_F(RecipeTest, ThePublishedKeyIsBound) {
  const Recipe recipe = bind(kPublished);
  ASSERT_EQ(recipe.leaves.size(), 5U);
  EXPECT_EQ(recipe.leaves[0].name, "NousHermes");
  EXPECT_EQ(recipe.leaves[0].path, "models/NousHermes");
  EXPECT_EQ(recipe.leaves[4].name, "Holodeck");
  ASSERT_EQ(recipe.adapters.size(), 3U);
  EXPECT_EQ(recipe.adapters[2].name, "LIMA RP");
  EXPECT_EQ(recipe.adapters[2].path, "adapters/LIMA-RP");
  EXPECT_EQ(describe(recipe),
            "0=NousHermes 1=Chronos 2=slerp(0,1) 3=2[1*Kimiko] 4=Platypus 5=AiroborosM2.0 "
            "6=slerp(4,5) 7=6[1*Janine] 8=slerp(3,7) 9=Holodeck 10=9[1*LIMA RP] 11=slerp(8,10) "
            "root=11");
  EXPECT_EQ(recipe.published, kPublished);
  EXPECT_EQ(recipe.key, kPublishedCanonical);
  EXPECT_EQ(recipe.nodes[3].key, "{NousHermes+Chronos}[Kimiko]");
  EXPECT_EQ(recipe.nodes[11].key,
            "{{({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}+"
            "Holodeck[LIMA RP]}");
  EXPECT_EQ(recipe.leaves[1].span.text.substr(recipe.leaves[1].span.begin, 7), "Chronos");
  const auto& span = recipe.nodes[2].span;
  EXPECT_EQ(span.text.substr(span.begin, span.end - span.begin), "{NousHermes+Chronos}");
  EXPECT_TRUE(disk_.opened().empty());  // names are looked up; nothing is read
}

TEST_F(RecipeTest, ThePublishedRecipeFileSaysTheSame) {
  const std::string yaml = R"yaml(
name: 13B-Thorns
models:
  NousHermes: models/NousHermes
  Chronos: ./models/Chronos
adapters:
  Kimiko: adapters/Kimiko
let:
  Logic: "{({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}"
  Imagination: "Holodeck[LIMA RP]"
key: "(Logic{Imagination})"
dtype: bfloat16
tokenizer: Chronos
prompt: alpaca
)yaml";
  const Recipe recipe = bind_text(yaml);
  EXPECT_EQ(describe(recipe), describe(bind(kPublished)));
  EXPECT_EQ(recipe.key, kPublishedCanonical);
  EXPECT_EQ(recipe.published, "(Logic{Imagination})");
  EXPECT_EQ(recipe.settings.name, "13B-Thorns");
  EXPECT_EQ(recipe.settings.dtype, Dtype::BF16);
  EXPECT_EQ(recipe.settings.tokenizer, "Chronos");
  EXPECT_EQ(recipe.nodes[8].name, "Logic");
  EXPECT_EQ(recipe.nodes[10].name, "Imagination");
  EXPECT_EQ(recipe.nodes[11].name, "");
  EXPECT_EQ(recipe.leaves[1].path, "./models/Chronos");
  EXPECT_EQ(recipe.leaves[1].where, "./models/Chronos");
}

struct BindCase {
  const char* key;
  const char* nodes;
  const char* canonical;
};

const BindCase kBindCases[] = {
    {"A", "0=A root=0", "A"},
    {"(A)", "0=A root=0", "(A)"},
    {"{A+A}", "0=A 1=slerp(0,0) root=1", "{A+A}"},
    {"{{A+B}+({A+B})}", "0=A 1=B 2=slerp(0,1) 3=slerp(2,2) root=3", "{{A+B}+({A+B})}"},
    {"{{A+B}+{B+A}}", "0=A 1=B 2=slerp(0,1) 3=slerp(1,0) 4=slerp(2,3) root=4", "{A+B}{B+A}"},
    {"{{A+B}+{A+B;slerp}}", "0=A 1=B 2=slerp(0,1) 3=slerp(2,2) root=3", "{{A+B}+{A+B;slerp}}"},
    {"{{A+B}+{1*A+B}}", "0=A 1=B 2=slerp(0,1) 3=slerp(1*0,1*1) 4=slerp(2,3) root=4",
     "{A+B}{1*A+B}"},
    {"A[L][0.5*K]", "0=A 1=0[1*L] 2=1[0.5*K] root=2", "A[L+0.5*K]"},
    {"{A[L]+A[L+K]}", "0=A 1=0[1*L] 2=1[1*K] 3=slerp(1,2) root=3", "{A[L]+A[L+K]}"},
    {"{A[L]+A[0.5*L]}", "0=A 1=0[1*L] 2=0[0.5*L] 3=slerp(1,2) root=3", "{A[L]+A[0.5*L]}"},
    {"{A+3*B}", "0=A 1=B 2=slerp(1*0,3*1) root=2", "{A+3*B}"},
    {"{A+B; t(self_attn)=0.3, t=[0,1]}", "0=A 1=B 2=slerp(0,1;t<self_attn>=0.3;t<>=0:1) root=2",
     "{A+B;t(self_attn)=0.3,t=[0,1]}"},
    {"{{A+B;t=0.3}+{A+B;t(x)=0.3}}",
     "0=A 1=B 2=slerp(0,1;t<>=0.3) 3=slerp(0,1;t<x>=0.3) 4=slerp(2,3) root=4",
     "{{A+B;t=0.3}+{A+B;t(x)=0.3}}"},
    {"{A+B+C; linear, normalize(mlp)=true, normalize=false}",
     "0=A 1=B 2=C 3=linear(0,1,2;normalize<mlp>=1;normalize<>=0) root=3",
     "{A+B+C;linear,normalize(mlp)=true,normalize=false}"},
};

TEST_F(RecipeTest, EqualPartsAreOneNode) {
  for (const BindCase& c : kBindCases) {
    SCOPED_TRACE(c.key);
    try {
      const Recipe recipe = bind(c.key);
      EXPECT_EQ(describe(recipe), c.nodes);
      EXPECT_EQ(recipe.key, c.canonical);
      EXPECT_TRUE(same(*parse_key(recipe.key), *parse_key(c.key)));
    } catch (const Error& error) {
      ADD_FAILURE() << to_string(error);
    }
  }
}

TEST_F(RecipeTest, OneFolderIsOneLeaf) {
  bindings_.models = {{"X", "models/A"}, {"Y", "./models/../models/A/"}};
  const Recipe recipe = bind("{{A+X}+{Y+models/A}}");
  ASSERT_EQ(recipe.leaves.size(), 1U);
  EXPECT_EQ(recipe.leaves[0].name, "A");
  EXPECT_EQ(describe(recipe), "0=A 1=slerp(0,0) 2=slerp(1,1) root=2");
  bindings_.adapters = {{"Z", "adapters/L"}};
  EXPECT_EQ(bind("A[Z+L]").adapters.size(), 1U);
}

struct ErrorCase {
  const char* key;
  ErrorCode code;
  const char* marked;
  const char* message;
  const char* hint;
};

const ErrorCase kErrorCases[] = {
    // The table of docs/language.md.
    {"{A+B+C}", ErrorCode::BadRecipe, "{A+B+C}", "SLERP merges exactly two", "karcher"},
    {"({NousHermes+Platupus})", ErrorCode::BadRecipe, "Platupus", "unknown model `Platupus`",
     "did you mean `Platypus`?"},
    {"A[Chronos]", ErrorCode::BadRecipe, "Chronos", "`Chronos` is a model, not an adapter",
     "`{A+Chronos}`"},
    {"{A+B; tt=1}", ErrorCode::BadRecipe, "tt", "unknown parameter `tt` of slerp",
     "did you mean `t`?"},
    {"{0.3*A+B; t=0.3}", ErrorCode::BadRecipe, "t=0.3", "both weights and `t`", "keep one"},
    // Options.
    {"{A+B; linaer}", ErrorCode::BadRecipe, "linaer", "unknown method `linaer`", "`linear`"},
    {"{A+B; quux}", ErrorCode::BadRecipe, "quux", "unknown method `quux`",
     "methods: linear, slerp"},
    {"{A+B; t}", ErrorCode::BadRecipe, "t", "unknown method `t`", "needs a value"},
    {"{A+B; density=1}", ErrorCode::BadRecipe, "density", "unknown parameter `density` of slerp",
     "parameters of slerp: t"},
    {"{A+B; linear, t=1}", ErrorCode::BadRecipe, "t", "unknown parameter `t` of linear",
     "normalize"},
    {"{A+B; t=1.5}", ErrorCode::BadRecipe, "1.5", "`t` is 1.5 here; allowed: between 0 and 1", ""},
    {"{A+B; t=[0,-1]}", ErrorCode::BadRecipe, "[0,-1]", "`t` is -1 here", ""},
    {"{A+B; t=half}", ErrorCode::BadRecipe, "half", "`t` takes a number or a list of numbers",
     "between 0 and 1"},
    {"{A+B; linear, normalize=1}", ErrorCode::BadRecipe, "1", "`normalize` takes true or false",
     "`normalize=true`"},
    {"{A+B; linear, normalize=[1,0]}", ErrorCode::BadRecipe, "[1,0]", "takes true or false", ""},
    {"{A+B; linear, normalize=yes}", ErrorCode::BadRecipe, "yes", "takes true or false", ""},
    {"{A+B; t=0.5, t(mlp)=0.3}", ErrorCode::BadRecipe, "t(mlp)=0.3",
     "this never counts: `t=0.5` before it matches first", "longer filters first"},
    {"{A+B; t(mlp)=0.5, t(x)=0, t(mlp.down)=0.3}", ErrorCode::BadRecipe, "t(mlp.down)=0.3",
     "this never counts: `t(mlp)=0.5`", ""},
    {"{-1*A+B}", ErrorCode::BadRecipe, "{-1*A+B}", "outside the arc", "`linear`"},
    {"{A+{1*B+-1*C;linear}}", ErrorCode::BadRecipe, "{1*B+-1*C;linear}", "sum to 0",
     "normalize=false"},
    {"A[L+K; density=1]", ErrorCode::BadRecipe, "; density=1", "how the adapters are combined",
     "magnitude_prune_svd"},
    {"A[L+K; linaer]", ErrorCode::BadRecipe, "linaer", "unknown combination",
     "did you mean `linear`?"},
    {"A[L+K; ties]", ErrorCode::BadRecipe, "ties", "`ties` needs a density",
     "`; ties, density=0.5`"},
    {"A[L; linear]", ErrorCode::BadRecipe, "; linear", "this is one", "`A[0.7*L]`"},
    {"A[L+K; cat, density=1]", ErrorCode::BadRecipe, "density",
     "unknown parameter `density` of cat", "cat has no parameters"},
    {"A[L+K; svd, rank=8]", ErrorCode::BadRecipe, "rank", "unknown parameter `rank` of svd",
     "svd_rank"},
    {"A[L+K; ties, density=1.5]", ErrorCode::BadRecipe, "1.5", "`density=1.5` has no such value",
     "more than 0, at most 1"},
    {"A[L+K; ties, density=0]", ErrorCode::BadRecipe, "0", "`density=0`", "more than 0"},
    {"A[L+K; ties, density=[0,1]]", ErrorCode::BadRecipe, "[0,1]", "no such value", "more than 0"},
    {"A[L+K; ties, density(mlp)=1]", ErrorCode::BadRecipe, "mlp", "the same for all tensors",
     "without a filter"},
    {"A[L+K; ties, density=1, density=0.5]", ErrorCode::BadRecipe, "density", "given twice",
     "keep one"},
    {"A[L+K; ties, density=1, majority_sign_method=sum]", ErrorCode::BadRecipe, "sum",
     "no such value", "total or frequency"},
    {"A[L+K; svd, svd_rank=1.5]", ErrorCode::BadRecipe, "1.5", "no such value",
     "a whole number from 1"},
    {"A[L+K; dare_ties, density=1, seed=-1]", ErrorCode::BadRecipe, "-1", "no such value",
     "a whole number from 0"},
    // Names.
    {"{A+Quux}", ErrorCode::BadRecipe, "Quux", "unknown model `Quux`", "--model \"Quux=FOLDER\""},
    {"A[Kimko]", ErrorCode::BadRecipe, "Kimko", "unknown adapter `Kimko`", "`Kimiko`"},
    {"A[LIMARP]", ErrorCode::BadRecipe, "LIMARP", "unknown adapter `LIMARP`", "`LIMA-RP`"},
    {"A[Quux]", ErrorCode::BadRecipe, "Quux", "unknown adapter `Quux`",
     "--adapter \"Quux=FOLDER\""},
    {"{A+Kimiko}", ErrorCode::BadRecipe, "Kimiko", "`Kimiko` is an adapter, not a model",
     "`A[Kimiko]`"},
    {"{A+adapters/Kimiko}", ErrorCode::BadRecipe, "adapters/Kimiko", "is an adapter, not a model",
     ""},
    {"A[models/Chronos]", ErrorCode::BadRecipe, "models/Chronos", "is a model, not an adapter", ""},
    {"{A+NousResearch/Nous-Hermes@main}", ErrorCode::NotFound, "NousResearch/Nous-Hermes@main",
     "`NousResearch/Nous-Hermes` is no folder here, and not in the Hub cache",
     "thorns fetch NousResearch/Nous-Hermes"},
    {"A[owner/lora]", ErrorCode::NotFound, "owner/lora", "not in the Hub cache", ""},
    {"{A+./nowhere}", ErrorCode::NotFound, "./nowhere", "there is no model at `./nowhere`", ""},
    {"{A+/no/where/at/all}", ErrorCode::NotFound, "/no/where/at/all", "there is no model at", ""},
    {"{A+../models}", ErrorCode::NotFound, "../models", "there is no model at", ""},
    {"A[models]", ErrorCode::NotFound, "models", "`models` is there, but it is no adapter",
     "adapter_config.json"},
    // Text.
    {"{A+B", ErrorCode::BadRecipe, "<end>", "expected `}` or `+`", ""},
    {"", ErrorCode::BadRecipe, "<end>", "empty key", ""},
};

TEST_F(RecipeTest, ErrorsStandUnderWhatIsWrong) {
  for (const ErrorCase& c : kErrorCases) {
    SCOPED_TRACE(c.key);
    const auto error = refused(c.key);
    expect_error(error, c.code, c.message, c.hint);
    EXPECT_EQ(marked(error), c.marked);
  }
}

TEST_F(RecipeTest, AllNamesThatLeadNowhereAreSaidAtOnce) {
  const Recipe bound = bind_recipe(disk_, "{{Nowhere+A[Gone]}+{./there+Nowhere}}", bindings_);
  std::vector<std::string> places;
  for (const Error& problem : bound.problems) places.push_back(marked(problem));
  EXPECT_EQ(places, (std::vector<std::string>{"Nowhere", "Gone", "./there"}));
  ASSERT_EQ(bound.leaves.size(), 3U);
  EXPECT_EQ(bound.leaves[0].path, "");
  EXPECT_EQ(bound.leaves[1].path, "models/A");
}

TEST_F(RecipeTest, LookupGoesLevelByLevel) {
  disk_.add_model("own/A");
  disk_.add_model("bound/A");
  disk_.add_model("A");
  disk_.add_model("Only");
  EXPECT_EQ(bind("A").leaves[0].path, "models/A");  // a search path before the file system
  EXPECT_EQ(bind("Only").leaves[0].path, "Only");
  bindings_.models = {{"A", "bound/A"}};
  EXPECT_EQ(bind("A").leaves[0].path, "bound/A");
  EXPECT_EQ(bind_text("models: {A: own/A}\nkey: A\n").leaves[0].path, "own/A");
  EXPECT_EQ(bind_text("key: A\n").leaves[0].path, "bound/A");
}

TEST_F(RecipeTest, TheHubsCacheIsTheLastPlace) {
  const std::string commit(40, 'c');
  const auto add = [&](const std::string& folder, const std::string& config) {
    disk_.add_file("hub/" + folder + "/refs/main", commit);
    disk_.add_file("hub/" + folder + "/snapshots/" + commit + "/" + config, "{}");
    disk_.add_file("hub/" + folder + "/snapshots/" + commit + "/x.safetensors");
    return "hub/" + folder + "/snapshots/" + commit;
  };
  const std::string model = add("models--o--model", "config.json");
  const std::string lora = add("models--o--lora", "adapter_config.json");
  ASSERT_EQ(::setenv("HF_HUB_CACHE", "hub", 1), 0);
  EXPECT_EQ(bind("o/model").leaves[0].path, model);
  EXPECT_EQ(bind("\"o/model@main\"").leaves[0].path, model);
  EXPECT_EQ(bind("models--o--model").leaves[0].path, model);
  EXPECT_EQ(bind("models--o--model").leaves[0].where, "o/model");
  EXPECT_EQ(bind("A[o/lora]").adapters[0].path, lora);
  EXPECT_EQ(bind_text("models: {M: o/model}\nkey: \"M[o/lora]\"\n").leaves[0].where, "o/model");
  bindings_.models = {{"N", "o/model@" + commit}};
  EXPECT_EQ(bind("N").leaves[0].path, model);
  EXPECT_EQ(bind("N").leaves[0].where, "o/model@" + commit);
  expect_error(refused("o/lora"), ErrorCode::BadRecipe, "`o/lora` is an adapter, not a model");
  expect_error(refused("A[o/model]"), ErrorCode::BadRecipe, "`o/model` is a model, not an adapter");
  disk_.add_model("o/model");
  EXPECT_EQ(bind("o/model").leaves[0].path, "o/model");
  ::unsetenv("HF_HUB_CACHE");
}

TEST_F(RecipeTest, NamesOfModelsAndAdaptersAreSeparate) {
  disk_.add_model("models/Both");
  disk_.add_adapter("adapters/Both");
  const Recipe recipe = bind("Both[Both]");
  EXPECT_EQ(recipe.leaves[0].path, "models/Both");
  EXPECT_EQ(recipe.adapters[0].path, "adapters/Both");
  EXPECT_EQ(bind_text("let: {L: A}\nkey: \"L[L]\"\n").adapters[0].path, "adapters/L");
}

TEST_F(RecipeTest, ABlankMatchesDashAndUnderscore) {
  disk_.add_model("models/two_words_here");
  disk_.add_adapter("adapters/my lora");
  EXPECT_EQ(bind("two words here").leaves[0].path, "models/two_words_here");
  EXPECT_EQ(bind("A[my lora]").adapters[0].path, "adapters/my lora");
  expect_error(refused("two-words-here"), ErrorCode::BadRecipe, "unknown model",
               "did you mean `two_words_here`?");
}

TEST_F(RecipeTest, TwoCandidatesAtOneLevelAreAnError) {
  disk_.add_model("models/x-y");
  disk_.add_model("models/x_y");
  const auto error = refused("{A+x y}");
  expect_error(error, ErrorCode::BadRecipe, "model `x y` could be any of: models/x-y, models/x_y",
               "--model \"x y=models/x-y\"");
  EXPECT_EQ(marked(error), "x y");
  disk_.add_model("more/A");
  bindings_.paths.emplace_back("more");
  expect_error(refused("A"), ErrorCode::BadRecipe, "could be any of: models/A, more/A");
  // The same folder twice is one candidate.
  bindings_.paths = {"models", "./models/"};
  EXPECT_EQ(bind("A").leaves.size(), 1U);
  bindings_.models = {{"A", "models/B"}, {"A", "models/C"}};
  expect_error(refused("A"), ErrorCode::BadRecipe,
               "model `A` is bound twice: to `models/B` and to `models/C`", "bind it once");
  bindings_.models = {{"A", "models/B"}, {"A", "./models/B"}};
  EXPECT_EQ(bind("A").leaves[0].path, "models/B");
}

TEST_F(RecipeTest, SingleFilesAreModelsAndAdapters) {
  disk_.add_file("files/m.safetensors");
  disk_.add_file("models/n.gguf");
  disk_.add_file("loras/k/adapter_model.safetensors");
  disk_.add_adapter("loras/k");
  EXPECT_EQ(bind("files/m.safetensors").leaves[0].path, "files/m.safetensors");
  EXPECT_EQ(bind("{A+n.gguf}").leaves[1].path, "models/n.gguf");
  EXPECT_EQ(bind("A[loras/k/adapter_model.safetensors]").adapters[0].path,
            "loras/k/adapter_model.safetensors");
  expect_error(refused("{A+loras/k/adapter_model.safetensors}"), ErrorCode::BadRecipe,
               "is an adapter, not a model");
  // Without a configuration of either beside it a file may be both; with a model's it is that.
  EXPECT_EQ(bind("A[files/m.safetensors]").adapters[0].path, "files/m.safetensors");
  disk_.add_file("models/A/model.safetensors");
  expect_error(refused("A[models/A/model.safetensors]"), ErrorCode::BadRecipe,
               "is a model, not an adapter");
  disk_.add_file("pipeline/pytorch_lora_weights.safetensors");
  EXPECT_EQ(bind("A[pipeline]").adapters[0].path, "pipeline");
  disk_.add_file("notes.txt");
  expect_error(refused("{A+notes.txt}"), ErrorCode::NotFound, "is there, but it is no model");
}

TEST_F(RecipeTest, GgufIsFoundByItsName) {
  disk_.add_file("models/llama-2.Q4_K_M.gguf");
  disk_.add_file("models/parts-00001-of-00002.gguf");
  disk_.add_file("models/parts-00002-of-00002.gguf");
  disk_.add_file("models/folder/ggml-model-q8_0.gguf");
  disk_.add_file("models/A.gguf");
  EXPECT_EQ(bind("{A+llama-2.Q4_K_M}").leaves[1].path, "models/llama-2.Q4_K_M.gguf");
  EXPECT_EQ(bind("{A+parts}").leaves[1].path, "models/parts-00001-of-00002.gguf");
  EXPECT_EQ(bind("{A+folder}").leaves[1].path, "models/folder");
  EXPECT_EQ(bind("{A+B}").leaves[0].path, "models/A");  // a folder of the very name goes before
  expect_error(refused("A[folder]"), ErrorCode::BadRecipe, "`folder` is a model, not an adapter");
  expect_error(refused("{A+llama-2.Q4_K}"), ErrorCode::BadRecipe, "unknown model",
               "did you mean `llama-2.Q4_K_M`?");
  disk_.add_file("models/lora/adapter.gguf");
  disk_.add_file("models/lora/adapter_config.json", "{}");
  expect_error(refused("{A+lora}"), ErrorCode::BadRecipe, "`lora` is an adapter, not a model");
}

TEST_F(RecipeTest, BindingsThatLeadNowhereAreNamed) {
  bindings_.models = {{"M", "gone"}, {"R", "owner/repo@v1"}, {"L", "adapters/L"}, {"F", "notes"}};
  bindings_.adapters = {{"M", "gone"}, {"A", "models/A"}, {"E", "empty"}};
  disk_.add_folder("empty");
  disk_.add_file("notes", "x");
  expect_error(refused("M"), ErrorCode::NotFound,
               "model `M` is bound to `gone`, which does not exist");
  expect_error(refused("A[M]"), ErrorCode::NotFound, "adapter `M` is bound to `gone`");
  expect_error(refused("R"), ErrorCode::NotFound,
               "model `R`: `owner/repo@v1` is no folder here, and not in the Hub cache",
               "thorns fetch owner/repo@v1");
  expect_error(refused("L"), ErrorCode::BadRecipe, "which is an adapter, not a model");
  expect_error(refused("F"), ErrorCode::BadRecipe, "which is no model");
  expect_error(refused("C[A]"), ErrorCode::BadRecipe, "which is a model, not an adapter");
  expect_error(refused("C[E]"), ErrorCode::BadRecipe, "there is no adapter_config.json");
  bindings_.models = {{"M", "empty"}};
  EXPECT_EQ(bind("M").leaves[0].path, "empty");  // its weights are looked for later
  bindings_.paths = {"nowhere"};
  expect_error(refused("A"), ErrorCode::NotFound, "search path: cannot list `nowhere`", "--path");
}

TEST_F(RecipeTest, PathsOfARecipeFileAreRelativeToIt) {
  disk_.add_model("project/models/M");
  disk_.add_adapter("project/loras/K");
  disk_.add_model("project/self");
  disk_.add_file("project/r.yaml",
                 "models: {M: ./models/M}\nadapters: {K: loras/K}\nkey: \"{M[K]+./self}\"\n");
  const Recipe recipe = bind("project/r.yaml");
  EXPECT_EQ(recipe.leaves[0].path, "project/./models/M");
  EXPECT_EQ(recipe.leaves[0].where, "./models/M");
  EXPECT_EQ(recipe.leaves[1].path, "project/./self");
  EXPECT_EQ(recipe.adapters[0].path, "project/loras/K");
  // Bindings of the command line are relative to where it runs.
  bindings_.models = {{"A", "models/A"}};
  disk_.add_file("project/s.yaml", "key: A\n");
  EXPECT_EQ(bind("project/s.yaml").leaves[0].path, "models/A");
  disk_.add_file("project/t.yaml", "name: t\nmodels:\n  M: ./gone\nkey: M\n");
  const auto error = refused("project/t.yaml");
  expect_error(error, ErrorCode::NotFound, "model `M` is bound to `./gone`", "project/./gone");
  const auto& place = std::get<FilePlace>(error.where());
  EXPECT_EQ(place.path, "project/t.yaml");
  EXPECT_EQ(place.line, 3U);
  EXPECT_EQ(place.column, 6U);
}

TEST_F(RecipeTest, ATildeIsTheHomeFolder) {
  const char* const home = std::getenv("HOME");
  ASSERT_NE(home, nullptr);
  disk_.add_model(join_path(home, "m"));
  EXPECT_EQ(bind("{A+~/m}").leaves[1].path, join_path(home, "m"));
  EXPECT_EQ(bind_text("models: {M: ~/m}\nkey: M\n").leaves[0].path, join_path(home, "m"));
}

TEST_F(RecipeTest, LetNamesAreExpanded) {
  const Recipe recipe = bind_text(
      "let:\n  P: \"A[L]\"\n  Q: \"{P+B}\"\n  unused: \"{A+Nobody}\"\n"
      "key: \"{Q+{P[K]+C;t=0.3}}\"\n");
  EXPECT_EQ(recipe.key, "{{A[L]+B}+{A[L+K]+C;t=0.3}}");
  EXPECT_EQ(describe(recipe),
            "0=A 1=0[1*L] 2=B 3=slerp(1,2) 4=1[1*K] 5=C 6=slerp(4,5;t<>=0.3) 7=slerp(3,6) root=7");
  EXPECT_EQ(recipe.nodes[4].key, "A[L+K]");
  EXPECT_EQ(recipe.nodes[1].name, "P");
  EXPECT_EQ(recipe.nodes[3].name, "Q");
  EXPECT_EQ(recipe.published, "{Q+{P[K]+C;t=0.3}}");
  // The place of a part is in the text where it was written.
  EXPECT_EQ(recipe.nodes[1].span.text, "A[L]");
  for (const RecipeNode& node : recipe.nodes) {
    EXPECT_EQ(to_string(*parse_key(node.key)), node.key);
  }
  // A let name wins over folders of that name.
  EXPECT_EQ(bind_text("let: {B: \"A[L]\"}\nkey: B\n").key, "A[L]");
}

TEST_F(RecipeTest, LetErrorsSayWhere) {
  const auto self = refused_text("let:\n  P: \"{P+A}\"\nkey: P\n");
  expect_error(self, ErrorCode::BadRecipe,
               "`P` is defined by itself in `P` of `let` (recipe.yaml:2)", "another one");
  EXPECT_EQ(marked(self), "P");
  expect_error(refused_text("let:\n  P: \"{Q+A}\"\n  Q: \"{A+B}\"\nkey: P\n"), ErrorCode::BadRecipe,
               "`Q` is used before it is defined", "move `Q` above `P`");
  expect_error(refused_text("let:\n  P: \"{Q+A}\"\n  Q: \"{R+B}\"\n  R: \"(P)\"\nkey: A\n"),
               ErrorCode::BadRecipe, "`P` and `Q` are defined by each other", "write one of them");
  expect_error(refused_text("let:\n  P: \"{A+\"\nkey: A\n"), ErrorCode::BadRecipe,
               "expected a model after `+`, found the end of the key in `P` of `let`");
  expect_error(refused_text("key: \"{A+Nobody}\"\n"), ErrorCode::BadRecipe,
               "unknown model `Nobody` in the key of recipe.yaml:1");
  expect_error(refused_text("let: {P: \"{A+Nobody}\"}\nkey: \"(P)\"\n"), ErrorCode::BadRecipe,
               "unknown model `Nobody` in `P` of `let` (recipe.yaml:1)");
  expect_error(refused_text("let: {Logic: A}\nkey: \"B[Logic]\"\n"), ErrorCode::BadRecipe,
               "`Logic` is a part of this recipe (`let`), not an adapter", "`{A+Logic}`");
  expect_error(refused_text("let: {Logic: A}\nkey: Logc\n"), ErrorCode::BadRecipe,
               "unknown model `Logc`", "`Logic`");
}

TEST_F(RecipeTest, LetCannotGrowWithoutLimit) {
  std::string doubling = "let:\n  P0: \"{A+B}\"\n";
  for (int i = 1; i <= 60; ++i) {
    doubling += fmt::format("  P{}: \"{{P{}+P{};t=0.{}}}\"\n", i, i - 1, i - 1, i);
  }
  expect_error(refused_text(doubling + "key: P60\n"), ErrorCode::BadRecipe,
               "the key grows beyond 65536 bytes");
  // Twelve doublings fit, and each is one node.
  const Recipe recipe = bind_text(doubling.substr(0, doubling.find("  P10:")) + "key: P9\n");
  EXPECT_EQ(recipe.nodes.size(), 12U);
  EXPECT_TRUE(same(*parse_key(recipe.key), *parse_key(to_string(*parse_key(recipe.key)))));

  std::string deep = "let:\n  P0: A\n";
  for (int i = 1; i <= 65; ++i) deep += fmt::format("  P{}: \"(P{})\"\n", i, i - 1);
  EXPECT_EQ(bind_text(deep + "key: P64\n").nodes.size(), 1U);
  expect_error(refused_text(deep + "key: P65\n"), ErrorCode::BadRecipe,
               "brackets nest more than 64 deep once `let` names are expanded");

  std::string chain = "let:\n  P0: A\n";
  for (int i = 1; i <= 20'000; ++i) chain += fmt::format("  P{}: P{}\n", i, i - 1);
  EXPECT_EQ(bind_text(chain + "key: P20000\n").key, "A");
}

TEST_F(RecipeTest, AKeyOfTooManyPartsIsRefused) {
  std::string key = "A";
  for (int i = 0; i < 16'000; ++i) key += "[L]";
  expect_error(refused(key), ErrorCode::BadRecipe, "too many parts");
  std::string sum = "{A";
  for (int i = 0; i < 16'000; ++i) sum += "+B";
  EXPECT_EQ(bind(sum + ";linear}").nodes.size(), 3U);
}

TEST_F(RecipeTest, TheTokenizerIsALeaf) {
  EXPECT_EQ(bind_text("key: \"{A+B}\"\ntokenizer: B\n").settings.tokenizer, "B");
  bindings_.models = {{"X", "models/A"}};
  EXPECT_EQ(bind_text("key: \"{A+X}\"\ntokenizer: X\n").settings.tokenizer, "A");
  const auto error = refused_text("key: \"{A+Platypus}\"\ntokenizer: Platupus\n");
  expect_error(error, ErrorCode::BadRecipe, "`Platupus` is not part of the key", "`Platypus`");
  EXPECT_EQ(std::get<FilePlace>(error.where()).line, 2U);
  expect_error(refused_text("key: \"{A+B}\"\ntokenizer: Chronos\n"), ErrorCode::BadRecipe,
               "not part of the key", "models of the key: A, B");
}

TEST_F(RecipeTest, TheArgumentIsAFileAKeyOrStandardInput) {
  disk_.add_file("r.yaml", "key: \"{A+B}\"\n");
  disk_.add_file("named", "key: \"{A+C}\"\n");
  EXPECT_EQ(bind("r.yaml").key, "{A+B}");
  EXPECT_EQ(bind("named").key, "{A+C}");
  EXPECT_EQ(bind("models/A").key, "models/A");
  EXPECT_EQ(bind("-", "{A+B}\n").key, "{A+B}");
  EXPECT_EQ(bind("-", "{A+B}\n").published, "{A+B}");
  EXPECT_EQ(bind("-", "name: x\nkey: \"{A+B}\"\n").settings.name, "x");
  expect_error(error_of([&] { bind("-", ""); }), ErrorCode::BadRecipe, "empty key");
  expect_error(error_of([&] { bind("-", "nmae: x\n"); }), ErrorCode::BadRecipe,
               "unknown field `nmae`", "`name`");
  expect_error(refused("gone.yaml"), ErrorCode::NotFound, "there is no recipe file `gone.yaml`");
  disk_.add_file("big.yaml", std::string((1 << 20) + 1, '#'));
  expect_error(refused("big.yaml"), ErrorCode::BadRecipe, "a recipe has at most 1048576");
  disk_.add_file("merge.yml", "merge_method: slerp\n");
  expect_error(refused("merge.yml"), ErrorCode::Unsupported, "mergekit configurations");
  // Anything with a bracket is a key, also where a file of that name is there.
  disk_.add_file("{A+B}", "key: C\n");
  EXPECT_EQ(bind("{A+B}").key, "{A+B}");
}

}  // namespace
}  // namespace thorns
