// Models of one merge that do not hold the same tensors: a test for each row of the table in
// docs/checkpoints.md.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine.h"
#include "output/config_files.h"
#include "support/memory_model.h"
#include "support/oracle.h"

namespace thorns {
namespace {

using namespace testing_support;

const std::string kQuery = "layers.0.self_attn.q_proj";
const Json kLlama = Json::parse(
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1})");

struct Model {
  std::vector<MemoryTensor> tensors;
  Json config = kLlama;

  Model& add(const std::string& name, std::vector<std::uint64_t> shape, std::uint64_t seed,
             Dtype dtype = Dtype::F32) {
    std::uint64_t elements = 1;
    for (const std::uint64_t extent : shape) elements *= extent;
    tensors.push_back(tensor(name, dtype, std::move(shape), normal_values(elements, seed)));
    return *this;
  }
  Model& set(const std::string& field, const Json& value) {
    config[field] = value;
    return *this;
  }
  const MemoryTensor& at(const std::string& name) const {
    return *std::find_if(tensors.begin(), tensors.end(),
                         [&](const MemoryTensor& t) { return t.name == name; });
  }
  std::vector<double> values(const std::string& name) const { return at(name).values(); }
};

// The body alone, every name under `prefix`.
Model body(const std::string& prefix, std::uint64_t seed) {
  Model model;
  model.add(prefix + "embed_tokens.weight", {8, 4}, seed)
      .add(prefix + kQuery + ".weight", {4, 4}, seed + 1)
      .add(prefix + "norm.weight", {4}, seed + 2);
  return model;
}
Model whole(std::uint64_t seed) {
  return body("model.", seed).add("lm_head.weight", {8, 4}, seed + 3);
}

struct MergedSet {
  PlanResult result;
  std::map<std::string, std::vector<double>> values;

  explicit MergedSet(const std::string& key, const std::vector<Model>& models,
                     std::vector<std::unique_ptr<Adapter>> adapters = {}) {
    const std::vector<std::string> names = {"A", "B", "C"};
    const KeyBinder binder(names, {"L"});
    std::vector<std::unique_ptr<Checkpoint>> leaves;
    for (std::size_t i = 0; i < models.size(); ++i) {
      leaves.push_back(
          std::make_unique<MemoryCheckpoint>(names[i], models[i].tensors, models[i].config));
    }
    result = make_plan(binder.bind(key), std::move(leaves), std::move(adapters), {});
    if (!result.problems.empty()) return;
    MemorySink sink(result.plan);
    Observer silent;
    run(result.plan, sink, silent, {});
    for (std::size_t i = 0; i < sink.bytes.size(); ++i) {
      const Program& program = result.plan.programs[i];
      values[program.tensor] =
          reference::load_all(program.dtype, sink.bytes[i].data(), program.elements);
    }
  }

  std::string problem() const {
    if (result.problems.empty()) return "";
    return std::string(result.problems[0].message()) + " | " + result.problems[0].hint();
  }
  std::string warning(const std::string& part) const {
    for (const std::string& line : result.plan.warnings) {
      if (line.find(part) != std::string::npos) return line;
    }
    return "";
  }
  Json config() const { return edited_config(kLlama, config_facts(result.plan)); }
};

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-8) << i;
}

std::vector<double> mixed(double a, const std::vector<double>& x, double b,
                          const std::vector<double>& y) {
  std::vector<double> sum(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) sum[i] = a * x[i] + b * y[i];
  return sum;
}

TEST(TensorSets, BuffersThatAreComputedAnewAreLeftOut) {
  const MergedSet merged("{A+B; linear}",
                         {whole(1).add("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, 9),
                          whole(5).add("model.layers.0.self_attn.maybe_rotary.inv_freq", {2}, 9)});
  ASSERT_EQ(merged.problem(), "");
  EXPECT_EQ(merged.values.size(), 4U);
  EXPECT_EQ(merged.result.plan.dropped.size(), 2U);
}

TEST(TensorSets, WrappersOfTrainersAreTakenOffTheNames) {
  Model compiled;
  Model peft;
  for (const MemoryTensor& t : whole(5).tensors) {
    compiled.tensors.push_back(t);
    compiled.tensors.back().name = "_orig_mod." + t.name;
    peft.tensors.push_back(t);
    peft.tensors.back().name = "base_model.model." + t.name;
  }
  compiled.tensors[1].name =
      "_orig_mod.model.layers.0._checkpoint_wrapped_module.self_attn."
      "_fsdp_wrapped_module.q_proj.weight";
  const MergedSet plain("{A+B; linear}", {whole(1), whole(5)});
  for (const Model& wrapped : {compiled, peft}) {
    const MergedSet merged("{A+B; linear}", {whole(1), wrapped});
    ASSERT_EQ(merged.problem(), "");
    EXPECT_EQ(merged.values, plain.values);
    EXPECT_NE(merged.warning("4 tensors of `B` are taken under another name"), "");
  }
}

TEST(TensorSets, PrefixesFollowTheFirstModelThatHasOne) {
  const MergedSet plain("{A+B; linear}", {body("model.", 1), body("model.", 5)});
  ASSERT_EQ(plain.problem(), "");
  for (const char* prefix :
       {"", "language_model.model.", "model.language_model.", "transformer."}) {
    const MergedSet merged("{A+B; linear}", {body("model.", 1), body(prefix, 5)});
    ASSERT_EQ(merged.problem(), "") << prefix;
    EXPECT_EQ(merged.values, plain.values) << prefix;
    EXPECT_NE(merged.warning("3 tensors of `B` are taken under another name"), "") << prefix;
  }
  // An adapter finds its modules under the common names, too.
  std::vector<std::unique_ptr<Adapter>> adapters;
  adapters.push_back(lora("L", "model." + kQuery, 4, 4, 2, 1.0, 9));
  const MergedSet folded("{A+B[L]; linear}", {body("model.", 1), body("", 5)}, std::move(adapters));
  EXPECT_EQ(folded.problem(), "");
}

TEST(TensorSets, AHeadComesFromTheModelsThatHaveOne) {
  const Model bare = body("", 1).set("architectures", {"LlamaModel"});
  const Model full = whole(5);
  for (const bool bare_first : {true, false}) {
    const MergedSet merged("{A+B; linear}", bare_first ? std::vector<Model>{bare, full}
                                                       : std::vector<Model>{full, bare});
    ASSERT_EQ(merged.problem(), "");
    EXPECT_EQ(merged.values.at("lm_head.weight"), full.values("lm_head.weight"));
    expect_near(merged.values.at("model.norm.weight"),
                mixed(0.5, bare.values("norm.weight"), 0.5, full.values("model.norm.weight")));
    EXPECT_NE(merged.warning(bare_first ? "`A` lacks 1 tensor that others have, and no part in "
                                          "them: the others are merged alone (lm_head.weight)"
                                        : "`B` lacks 1 tensor"),
              "");
    EXPECT_EQ(merged.config()["architectures"], kLlama["architectures"]);
  }
}

TEST(TensorSets, ThoseThatHaveATensorShareItByTheirWeights) {
  const Model b = whole(5);
  const Model c = whole(9);
  const MergedSet merged("{2*A+B+3*C; linear}", {body("model.", 1), b, c});
  ASSERT_EQ(merged.problem(), "");
  expect_near(merged.values.at("lm_head.weight"),
              mixed(0.25, b.values("lm_head.weight"), 0.75, c.values("lm_head.weight")));
  const MergedSet nested("{{A+B}+C; t=0.25}", {body("model.", 1), body("model.", 5), c});
  ASSERT_EQ(nested.problem(), "");
  EXPECT_EQ(nested.values.at("lm_head.weight"), c.values("lm_head.weight"));
}

TEST(TensorSets, ABiasThatIsNotThereIsZero) {
  const std::string bias = "model." + kQuery + ".bias";
  const Model without = whole(1);
  const Model with = whole(5).add(bias, {4}, 9).set("attention_bias", true);
  const MergedSet merged("{A+3*B}", {without, with});
  ASSERT_EQ(merged.problem(), "");
  expect_near(merged.values.at(bias), mixed(0.75, with.values(bias), 0, with.values(bias)));
  EXPECT_NE(merged.warning("`A` lacks 1 tensor that others have: a bias"), "");
  EXPECT_EQ(merged.config()["attention_bias"], true);
  EXPECT_NE(explain(merged.result.plan, bias).find("x1 = 0, as its model lacks"),
            std::string::npos);
  const MergedSet unsaid("{A+3*B}", {without, whole(5).add(bias, {4}, 9)});
  EXPECT_NE(unsaid.warning("no config.json says that the model has these biases"), "");
  // Without a weight beside it, nothing says what it would be added to.
  const MergedSet alone("{A+B}", {without, whole(5).add("model.layers.0.gate.bias", {4}, 9)});
  EXPECT_NE(alone.problem().find("do not hold the same tensors"), std::string::npos);
}

TEST(TensorSets, ABiasOfZerosThatOthersDoWithoutIsLeftOut) {
  const std::string bias = "model." + kQuery + ".bias";
  Model zeros = whole(5);
  zeros.tensors.push_back(tensor(bias, Dtype::F16, {4}, {0, 0, 0, 0}));
  for (const auto& models : {std::vector{whole(1), zeros}, std::vector{zeros, whole(1)}}) {
    const MergedSet merged("{A+B}", models);
    ASSERT_EQ(merged.problem(), "");
    EXPECT_FALSE(merged.values.contains(bias));
    ASSERT_EQ(merged.result.plan.dropped.size(), 1U);
    EXPECT_EQ(merged.result.plan.dropped[0].reason, "a bias of zeros that others do without");
    EXPECT_EQ(merged.warning("bias"), "");
  }
  // It stays where the configuration has it, and where it is more than zeros in one of them.
  zeros.set("attention_bias", true);
  EXPECT_TRUE(MergedSet("{A+B}", {zeros, whole(1)}).values.contains(bias));
  const MergedSet two("{{A+B}+C}", {whole(1), zeros, whole(9).add(bias, {4}, 9)});
  EXPECT_TRUE(two.values.contains(bias));
}

TEST(TensorSets, CopiesThatAreTiedAreLeftOut) {
  // As PyTorch files hold BERT's head and an encoder's embedding, and safetensors do not.
  const auto bert = [](std::uint64_t seed) {
    return Model()
        .add("bert.embeddings.word_embeddings.weight", {8, 4}, seed)
        .add("bert.encoder.layer.0.output.dense.weight", {4, 4}, seed + 1)
        .add("cls.predictions.bias", {8}, seed + 2)
        .set("tie_word_embeddings", true);
  };
  const auto copied = [](Model model, const std::string& from, const std::string& to) {
    model.tensors.push_back(model.at(from));
    model.tensors.back().name = to;
    return model;
  };
  const Model whole_bert = copied(
      copied(bert(5), "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
      "cls.predictions.bias", "cls.predictions.decoder.bias");
  const MergedSet plain("{A+B}", {bert(1), bert(5)});
  ASSERT_EQ(plain.problem(), "");
  const MergedSet merged("{A+B}", {bert(1), whole_bert});
  ASSERT_EQ(merged.problem(), "");
  EXPECT_EQ(merged.values, plain.values);
  ASSERT_EQ(merged.result.plan.dropped.size(), 2U);
  EXPECT_EQ(merged.result.plan.dropped[1].reason,
            "tied to `bert.embeddings.word_embeddings.weight` and equal to it");
  // The class of the first model decides, and the numbers.
  Model untied = whole_bert;
  EXPECT_NE(MergedSet("{A+B}", {untied.set("tie_word_embeddings", false), bert(1)}).problem(), "");
  EXPECT_NE(MergedSet("{A+B}", {bert(1), bert(5).add("cls.predictions.decoder.weight", {8, 4}, 9)})
                .problem(),
            "");
  const auto encoder_decoder = [](std::uint64_t seed) {
    return Model()
        .add("shared.weight", {8, 4}, seed)
        .add("lm_head.weight", {8, 4}, seed + 1)
        .set("tie_word_embeddings", false);
  };
  const MergedSet t5("{A+B}",
                     {copied(encoder_decoder(1), "shared.weight", "encoder.embed_tokens.weight"),
                      encoder_decoder(5)});
  ASSERT_EQ(t5.problem(), "");
  EXPECT_EQ(t5.values.size(), 2U);
}

TEST(TensorSets, HeadsAreTiedToEmbeddingsByAnyName) {
  for (const char* name : {"backbone.embeddings.weight", "model.tok_embeddings.weight"}) {
    const Model tied = Model().add(name, {8, 4}, 1).set("tie_word_embeddings", true);
    Model stored = Model().add(name, {8, 4}, 5).set("tie_word_embeddings", true);
    stored.tensors.push_back(stored.tensors[0]);
    stored.tensors.back().name = "lm_head.weight";
    const MergedSet merged("{A+B}", {tied, stored});
    ASSERT_EQ(merged.problem(), "") << name;
    EXPECT_EQ(merged.values.size(), 1U) << name;
    EXPECT_TRUE(merged.result.plan.tied);
  }
}

TEST(TensorSets, ChangesOfWhatIsLeftOutAreSaid) {
  const std::string part = "vision_tower.q_proj";
  const Model with = whole(5).add(part + ".weight", {4, 4}, 9);
  std::vector<std::unique_ptr<Adapter>> adapters;
  adapters.push_back(lora("L", part, 4, 4, 2, 1.0, 9));
  const MergedSet merged("{A+B[L]}", {whole(1), with}, std::move(adapters));
  ASSERT_EQ(merged.problem(), "");
  EXPECT_NE(merged.warning("what `L` changes is no part of the output: " + part + ".weight"), "");
}

TEST(TensorSets, APartIsKeptOrLeftOutAsTheFirstModelHasIt) {
  for (const char* part : {"v_head.summary.weight", "vision_tower.blocks.0.weight",
                           "model.mm_projector.0.weight", "model.layers.1.eh_proj.weight"}) {
    const Model with = whole(5).add(part, {4, 4}, 9);
    const MergedSet kept("{A+B}", {with, whole(1)});
    ASSERT_EQ(kept.problem(), "") << part;
    EXPECT_EQ(kept.values.at(part), with.values(part));
    EXPECT_NE(kept.warning("`B` lacks 1 tensor"), "");
    const MergedSet left("{A+B}", {whole(1), with});
    ASSERT_EQ(left.problem(), "") << part;
    EXPECT_FALSE(left.values.contains(part));
    ASSERT_EQ(left.result.plan.dropped.size(), 1U);
    EXPECT_EQ(left.result.plan.dropped[0].tensor, part);
    EXPECT_EQ(left.result.plan.dropped[0].leaf, "B");
    EXPECT_EQ(left.config()["num_hidden_layers"], 1);
  }
  // A head for the next token is such a part where the first model is of another class.
  const Model judge = body("model.", 1)
                          .add("score.weight", {1, 4}, 9)
                          .set("architectures", {"LlamaForSequenceClassification"});
  const MergedSet judged("{A+B}", {judge, whole(5)});
  ASSERT_EQ(judged.problem(), "");
  EXPECT_TRUE(judged.values.contains("score.weight"));
  EXPECT_FALSE(judged.values.contains("lm_head.weight"));
}

TEST(TensorSets, TypesAreRoundedToTheFirstModels) {
  Model half = whole(1);
  for (MemoryTensor& t : half.tensors) t = tensor(t.name, Dtype::F16, t.shape, t.values());
  Model brain = whole(5);
  for (MemoryTensor& t : brain.tensors) t = tensor(t.name, Dtype::BF16, t.shape, t.values());
  const MergedSet merged("{{A+B; linear}+C; linear}", {half, brain, whole(9)});
  ASSERT_EQ(merged.problem(), "");
  for (const Program& program : merged.result.plan.programs) EXPECT_EQ(program.dtype, Dtype::F16);
  EXPECT_NE(merged.warning("4 tensors of `B` are BF16, the output's F16"), "");
  EXPECT_NE(merged.warning("4 tensors of `C` are F32, the output's F16"), "");
}

TEST(TensorSets, WhatNoRuleMakesSafeIsRefusedWithAWayOut) {
  const auto refused = [](const Model& b) { return MergedSet("{A+B}", {whole(1), b}).problem(); };
  EXPECT_EQ(refused(whole(5).add("model.layers.0.self_attn.q_norm.weight", {4}, 9)),
            "`A` and `B` do not hold the same tensors; only `B` has 1: "
            "model.layers.0.self_attn.q_norm.weight | if `A` is a fine-tune of the same base "
            "model, it is not complete");
  Model incomplete = whole(5);
  incomplete.tensors.erase(incomplete.tensors.begin() + 2);
  EXPECT_EQ(refused(incomplete),
            "`A` and `B` do not hold the same tensors; only `A` has 1: model.norm.weight | if `B` "
            "is a fine-tune of the same base model, it is not complete");
  EXPECT_NE(refused(whole(5)
                        .add("model.layers.1.self_attn.q_proj.weight", {4, 4}, 9)
                        .set("num_hidden_layers", 2))
                .find("`A` has 1 layers and `B` 2"),
            std::string::npos);
  EXPECT_NE(
      refused(whole(5).add("model.layers.0.self_attn.q_proj.lora_A.default.weight", {2, 4}, 9))
          .find("adapters that are not merged into it | save it after merge_and_unload()"),
      std::string::npos);
  Model emptied = whole(5);
  emptied.tensors[1] = tensor(emptied.tensors[1].name, Dtype::F32, {0}, {});
  EXPECT_NE(refused(emptied).find("zero_to_fp32.py"), std::string::npos);
  // Of two parts of one name that are not the same, neither is the other's.
  const Model a = whole(1).add("vision_tower.a", {2}, 9).add("vision_tower.b", {2}, 9);
  EXPECT_NE(MergedSet("{A+B}", {a, whole(5).add("vision_tower.a", {2}, 9)})
                .problem()
                .find("only `A` has 1: vision_tower.b"),
            std::string::npos);
}

}  // namespace
}  // namespace thorns
