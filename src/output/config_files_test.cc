#include "output/config_files.h"

#include <gtest/gtest.h>

#include "support/output_plan.h"

namespace thorns {
namespace {

struct Case {
  const char* what;
  const char* base;
  ConfigFacts facts;
  const char* expected;
};

const ConfigFacts kPlain{"bfloat16", 32001, false, false, true};

TEST(ConfigFiles, Edits) {
  const std::vector<Case> cases = {
      {"order and unknown fields stay",
       R"({"z":1,"torch_dtype":"float32","a":[1e-05,10000.0],)"
       R"("vocab_size":5,"tie_word_embeddings":true})",
       kPlain,
       R"({"z":1,"torch_dtype":"bfloat16","a":[1e-05,10000.0],"vocab_size":32001,)"
       R"("tie_word_embeddings":false})"},
      {"dtype as transformers 5 spells it",
       R"({"dtype":"float32","vocab_size":5,"tie_word_embeddings":false})", kPlain,
       R"({"dtype":"bfloat16","vocab_size":32001,"tie_word_embeddings":false})"},
      {"dtype added where there is none", R"({"vocab_size":5,"tie_word_embeddings":false})", kPlain,
       R"({"vocab_size":32001,"tie_word_embeddings":false,"torch_dtype":"bfloat16"})"},
      {"nested dtypes of all parts, vocabulary of the text part",
       R"({"torch_dtype":"float32","text_config":{"torch_dtype":"float32","vocab_size":5,)"
       R"("tie_word_embeddings":true},"vision_config":{"torch_dtype":null,"vocab_size":9}})",
       kPlain,
       R"({"torch_dtype":"bfloat16","text_config":{"torch_dtype":"bfloat16","vocab_size":32001,)"
       R"("tie_word_embeddings":false},"vision_config":{"torch_dtype":"bfloat16","vocab_size":9}})"},
      {"only nested dtype",
       R"({"text_config":{"dtype":"float32"}})",
       {"float16", std::nullopt, false, false, false},
       R"({"text_config":{"dtype":"float16"}})"},
      {"quantisation and names go",
       R"({"_name_or_path":"/home/x","dtype":"float16","quantization_config":{"bits":4},)"
       R"("text_config":{"_name_or_path":"y","hidden_size":2}})",
       {"float16", std::nullopt, false, false, false},
       R"({"dtype":"float16","text_config":{"hidden_size":2}})"},
      {"a missing vocab_size stays missing while the default holds",
       R"({"dtype":"float16"})",
       {"float16", 32000, false, false, false},
       R"({"dtype":"float16"})"},
      {"and is added when rows change",
       R"({"dtype":"float16"})",
       {"float16", 32000, true, false, false},
       R"({"dtype":"float16","vocab_size":32000})"},
      {"to the text part where there is one",
       R"({"dtype":"float16","text_config":{"a":1}})",
       {"float16", 32000, true, true, true},
       R"({"dtype":"float16","text_config":{"a":1,"vocab_size":32000,"tie_word_embeddings":true}})"},
      {"a missing tie field is spelled out where a head is stored",
       R"({"dtype":"float16"})",
       {"float16", std::nullopt, false, false, true},
       R"({"dtype":"float16","tie_word_embeddings":false})"},
      {"without a head the class's default stays",
       R"({"dtype":"float16"})",
       {"float16", std::nullopt, false, true, false},
       R"({"dtype":"float16"})"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    EXPECT_EQ(edited_config(Json::parse(c.base), c.facts).dump(), c.expected);
  }
}

struct EmbeddingCase {
  const char* name;
  bool counts;
};

TEST(ConfigFiles, KnowsEmbeddingsByName) {
  for (const EmbeddingCase& c : std::vector<EmbeddingCase>{
           {"model.embed_tokens.weight", true},
           {"transformer.wte.weight", true},
           {"wte.weight", true},
           {"bert.embeddings.word_embeddings.weight", true},
           {"model.no_embed_tokens.weight", false},
           {"model.embed_tokens.weight.scale", false},
           {"transformer.wpe.weight", false},
       }) {
    SCOPED_TRACE(c.name);
    Plan plan;
    plan.programs = {
        test::program(ProgramKind::Copy, test::info(c.name, Dtype::F16, {7, 2}), {"A"})};
    EXPECT_EQ(config_facts(plan).vocabulary.has_value(), c.counts);
    if (c.counts) {
      EXPECT_EQ(*config_facts(plan).vocabulary, 7U);
    }
  }
}

TEST(ConfigFiles, LeavesTheVocabularyAloneWhereEmbeddingsDiffer) {
  Plan plan;
  plan.programs = {
      test::program(ProgramKind::Copy, test::info("a.embed_tokens.weight", Dtype::F16, {7, 2}), {}),
      test::program(ProgramKind::Copy, test::info("b.embed_tokens.weight", Dtype::F16, {8, 2}),
                    {})};
  EXPECT_EQ(config_facts(plan).vocabulary, std::nullopt);
}

TEST(ConfigFiles, TextOfAPlan) {
  EXPECT_EQ(config_text(test::small_plan("/models")), R"({
  "architectures": [
    "LlamaForCausalLM"
  ],
  "model_type": "llama",
  "vocab_size": 3,
  "torch_dtype": "bfloat16",
  "tie_word_embeddings": false,
  "odd": [
    1e-05
  ]
}
)");
}

TEST(ConfigFiles, NoneForASingleWeightsFile) {
  Plan plan = test::small_plan("/models");
  static_cast<test::FakeCheckpoint&>(*plan.leaves.front()).config_ = nullptr;
  EXPECT_EQ(config_text(plan), std::nullopt);
}

}  // namespace
}  // namespace thorns
