#include "plan/plan.h"

#include <gtest/gtest.h>

#include <set>

#include "plan/layout.h"
#include "plan/match.h"
#include "plan/memory.h"
#include "plan/part.h"
#include "support/memory_model.h"
#include "support/oracle.h"

namespace thorns {
namespace {

using namespace testing_support;

Program sized(const std::string& name, std::uint64_t elements, Dtype dtype = Dtype::F16) {
  Program program;
  program.tensor = name;
  program.shape = {elements};
  program.elements = elements;
  program.dtype = dtype;
  return program;
}

std::string drawn(const std::vector<Program>& programs, const std::vector<Shard>& shards) {
  std::string text;
  for (const Shard& shard : shards) {
    text += shard.file + ":";
    for (std::size_t i = 0; i < shard.count; ++i) text += " " + programs[shard.first + i].tensor;
    text += "\n";
  }
  return text;
}

TEST(Layout, OneShardHasThePlainNameAndTheReferenceOrder) {
  std::vector<Program> programs = {sized("b", 4), sized("a", 4), sized("z", 1, Dtype::F32),
                                   sized("i", 1, Dtype::I64)};
  const auto shards = lay_out(programs, 1000);
  EXPECT_EQ(drawn(programs, shards), "model.safetensors: i z a b\n");
  EXPECT_EQ(shards[0].data_bytes, 8U + 4U + 8U + 8U);
}

TEST(Layout, ShardsAreFilledInTheOrderOfCountingAndLargeTensorsStandAlone) {
  std::vector<Program> programs = {sized("l.10.w", 40), sized("l.2.w", 40), sized("l.1.w", 40),
                                   sized("e", 300)};
  const auto shards = lay_out(programs, 160);
  EXPECT_EQ(drawn(programs, shards),
            "model-00001-of-00003.safetensors: e\n"
            "model-00002-of-00003.safetensors: l.1.w l.2.w\n"
            "model-00003-of-00003.safetensors: l.10.w\n");
}

TEST(Layout, NoTensorIsLostWhateverTheLimit) {
  for (const std::uint64_t limit : {1, 7, 8, 9, 50, 100000}) {
    std::vector<Program> programs;
    for (std::uint64_t i = 0; i < 20; ++i)
      programs.push_back(sized("t" + std::to_string(i), i + 1));
    const auto shards = lay_out(programs, limit);
    std::size_t count = 0;
    for (const Shard& shard : shards) {
      EXPECT_EQ(shard.first, count);
      count += shard.count;
      EXPECT_TRUE(shard.count == 1 || shard.data_bytes <= limit);
    }
    EXPECT_EQ(count, 20U);
  }
}

TEST(Match, BuffersThatAreComputedAnewAreDropped) {
  const auto dropped = [](const std::string& name, std::vector<std::uint64_t> shape) {
    return recomputed_buffer({name, Dtype::F32, std::move(shape), 1}).has_value();
  };
  EXPECT_TRUE(dropped("model.layers.0.self_attn.rotary_emb.inv_freq", {64}));
  EXPECT_TRUE(dropped("h.0.attn.masked_bias", {}));
  EXPECT_TRUE(dropped("h.0.attn.bias", {1, 1, 1024, 1024}));
  EXPECT_FALSE(dropped("h.0.attn.bias", {768})) << "a bias of that name is a weight";
  EXPECT_FALSE(dropped("model.layers.0.self_attn.q_proj.weight", {4, 4}));
}

// A model of `rows` tokens with an embedding and, if `head`, an output head.
std::vector<MemoryTensor> model(std::uint64_t rows, std::uint64_t seed, bool head,
                                bool equal_head = false) {
  const auto embedding = normal_values(rows * 4, seed);
  std::vector<MemoryTensor> tensors = {
      tensor("model.embed_tokens.weight", Dtype::F16, {rows, 4}, embedding),
      tensor("model.layers.0.mlp.up_proj.weight", Dtype::F16, {6, 4}, normal_values(24, seed + 1)),
      tensor("model.norm.weight", Dtype::F32, {4}, normal_values(4, seed + 2))};
  if (head) {
    tensors.push_back(tensor("lm_head.weight", Dtype::F16, {rows, 4},
                             equal_head ? embedding : normal_values(rows * 4, seed + 3)));
  }
  return tensors;
}

Json config(const std::string& type, bool tied) {
  return Json{{"model_type", type}, {"tie_word_embeddings", tied}};
}

struct Planned {
  PlanResult result;
  Planned(const std::string& key, std::vector<std::pair<std::vector<MemoryTensor>, Json>> models,
          PlanOptions options = {}, std::vector<std::unique_ptr<Adapter>> adapters = {}) {
    const KeyBinder binder({"A", "B", "C"}, {"L", "K"});
    std::vector<std::unique_ptr<Checkpoint>> leaves;
    const std::vector<std::string> names = {"A", "B", "C"};
    for (std::size_t i = 0; i < models.size(); ++i) {
      leaves.push_back(
          std::make_unique<MemoryCheckpoint>(names[i], models[i].first, models[i].second));
    }
    result = make_plan(binder.bind(key), std::move(leaves), std::move(adapters), options);
  }
  std::string problem() const {
    return result.problems.empty() ? "" : result.problems[0].message();
  }
  const Program* program(const std::string& name) const {
    for (const Program& p : result.plan.programs) {
      if (p.tensor == name) return &p;
    }
    return nullptr;
  }
};

TEST(Plan, TypesFollowTheFirstLeafTensorByTensor) {
  const Planned planned("{A+B}", {{model(8, 1, true), Json()}, {model(8, 2, true), Json()}});
  ASSERT_EQ(planned.problem(), "");
  EXPECT_EQ(planned.program("model.norm.weight")->dtype, Dtype::F32);
  EXPECT_EQ(planned.program("lm_head.weight")->dtype, Dtype::F16);
  EXPECT_EQ(planned.result.plan.base_dtype, "float16");
  PlanOptions options;
  options.dtype = Dtype::BF16;
  const Planned cast("A", {{model(8, 1, true), Json()}}, options);
  EXPECT_EQ(cast.program("model.norm.weight")->dtype, Dtype::BF16);
  EXPECT_EQ(cast.program("model.norm.weight")->kind, ProgramKind::Cast);
}

TEST(Plan, TiedHeads) {
  const Json tied = config("llama", true);
  const Json untied = config("llama", false);
  {  // All tied, none stored: no head in the output.
    const Planned planned("{A+B}", {{model(8, 1, false), tied}, {model(8, 2, false), tied}});
    ASSERT_EQ(planned.problem(), "");
    EXPECT_TRUE(planned.result.plan.tied);
    EXPECT_EQ(planned.program("lm_head.weight"), nullptr);
  }
  {  // Stored although tied, and equal: left out and said.
    const Planned planned("{A+B}", {{model(8, 1, true, true), tied}, {model(8, 2, false), tied}});
    ASSERT_EQ(planned.problem(), "");
    EXPECT_TRUE(planned.result.plan.tied);
    ASSERT_EQ(planned.result.plan.dropped.size(), 1U);
    EXPECT_EQ(planned.result.plan.dropped[0].tensor, "lm_head.weight");
    EXPECT_TRUE(planned.result.plan.warnings.empty());
  }
  {  // Stored although tied, and another one: kept, untied, and said.
    const Planned planned("{A+B}", {{model(8, 1, true), tied}, {model(8, 2, false), tied}});
    ASSERT_EQ(planned.problem(), "");
    EXPECT_FALSE(planned.result.plan.tied);
    EXPECT_NE(planned.program("lm_head.weight"), nullptr);
    ASSERT_EQ(planned.result.plan.warnings.size(), 2U);
    EXPECT_TRUE(planned.result.plan.warnings[0].starts_with("`A` says"))
        << planned.result.plan.warnings[0];
    EXPECT_TRUE(planned.result.plan.warnings[1].starts_with("the output head of `B`"))
        << planned.result.plan.warnings[1];
  }
  {  // One tied, one not: the tied one's embedding is its head, and the output is untied.
    const Planned planned("{A+B}", {{model(8, 1, false), tied}, {model(8, 2, true), untied}});
    ASSERT_EQ(planned.problem(), "");
    EXPECT_FALSE(planned.result.plan.tied);
    const Program* const head = planned.program("lm_head.weight");
    ASSERT_NE(head, nullptr);
    EXPECT_EQ(head->operands[0].source->tensors()[head->operands[0].tensor].name,
              "model.embed_tokens.weight");
  }
  {  // An adapter that changes the head of a tied model unties it.
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(lora("L", "lm_head", 8, 4, 2, 1.0, 5));
    const Planned planned("A[L]", {{model(8, 1, false), tied}}, {}, std::move(adapters));
    ASSERT_EQ(planned.problem(), "");
    EXPECT_FALSE(planned.result.plan.tied);
    ASSERT_NE(planned.program("lm_head.weight"), nullptr);
    EXPECT_EQ(planned.program("lm_head.weight")->kind, ProgramKind::Blend);
    EXPECT_EQ(planned.program("model.embed_tokens.weight")->kind, ProgramKind::Copy);
  }
}

TEST(Plan, ModelsThatDoNotFitAreRefusedInOneSentenceEach) {
  const auto message = [](std::vector<MemoryTensor> b, Json config_b) {
    PlanOptions options;
    options.vocabulary = "strict";
    const Planned planned(
        "{A+B}", {{model(8, 1, true), config("llama", false)}, {std::move(b), std::move(config_b)}},
        options);
    EXPECT_EQ(planned.result.problems.size(), 1U);
    return planned.problem();
  };
  EXPECT_EQ(message(model(9, 2, true), config("llama", false)),
            "`lm_head.weight` is [8, 4] in `A` and [9, 4] in `B`, and 1 more differ in shape");
  EXPECT_EQ(message(model(8, 2, true), config("mistral", false)),
            "`A` is a llama model, `B` is a mistral model");
  auto incomplete = model(8, 2, true);
  incomplete.erase(incomplete.begin() + 2);
  EXPECT_EQ(message(incomplete, config("llama", false)),
            "`A` and `B` do not hold the same tensors; only `A` has 1: model.norm.weight");
  auto extra = model(8, 2, true);
  extra.push_back(
      tensor("model.layers.1.mlp.up_proj.weight", Dtype::F16, {6, 4}, normal_values(24, 9)));
  EXPECT_EQ(message(extra, config("llama", false)),
            "`A` and `B` do not hold the same tensors; only `B` has 1: "
            "model.layers.1.mlp.up_proj.weight");
}

TEST(Plan, AllProblemsAreCollected) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  adapters.push_back(lora("L", "no.such.module", 8, 4, 2, 1.0, 5));
  PlanOptions options;
  options.tokenizer = "Z";
  options.vocabulary = "gradual";
  const Planned planned("{A[L]+B}", {{model(8, 1, true), Json()}, {model(9, 2, true), Json()}},
                        options, std::move(adapters));
  EXPECT_EQ(planned.result.problems.size(), 4U);
}

TEST(Plan, AReplacementCutsOffWhatItReplaces) {
  Update replace;
  replace.kind = UpdateKind::Replace;
  replace.module = "model.norm";
  replace.parameter = "weight";
  const auto adapter = [&] {
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(std::make_unique<MemoryAdapter>(
        "L", std::vector<Update>{replace},
        std::vector<MemoryTensor>{tensor("model.norm.weight", Dtype::F32, {4}, {1, 2, 3, 4})}));
    return adapters;
  };
  const std::vector<std::pair<std::vector<MemoryTensor>, Json>> models = {
      {model(8, 1, true), Json()}, {model(8, 2, true), Json()}};
  const Planned whole("{A+B}[L]", models, {}, adapter());
  ASSERT_EQ(whole.problem(), "");
  EXPECT_EQ(whole.program("model.norm.weight")->kind, ProgramKind::Copy);
  EXPECT_EQ(whole.program("model.norm.weight")->operands.size(), 1U);
  const Planned half("{A+B}[0.5*L]", models, {}, adapter());
  EXPECT_EQ(half.program("model.norm.weight")->operands.size(), 3U)
      << "half of the way to the replacement";
}

std::unique_ptr<Adapter> replacing(const std::string& name, const std::string& module,
                                   const MemoryTensor& with, bool saved_module = false) {
  Update replace;
  replace.saved_module = saved_module;
  replace.kind = UpdateKind::Replace;
  replace.module = module;
  replace.parameter = "weight";
  return std::make_unique<MemoryAdapter>(name, std::vector<Update>{replace},
                                         std::vector<MemoryTensor>{with});
}

TEST(Plan, WhatALaterReplacementUndoesIsSaid) {
  const auto plan = [](const std::string& key) {
    const auto head = tensor("lm_head.weight", Dtype::F16, {8, 4}, normal_values(32, 9));
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(lora("K", "lm_head", 8, 4, 2, 1.0, 5));
    adapters.push_back(replacing("L", "lm_head", head));
    if (key.find('L') < key.find('K')) std::swap(adapters[0], adapters[1]);
    const Planned planned(key, {{model(8, 1, true), Json()}}, {}, std::move(adapters));
    EXPECT_EQ(planned.problem(), "");
    return planned.result.plan.warnings;
  };
  ASSERT_EQ(plan("A[K][L]").size(), 1U);
  EXPECT_NE(plan("A[K+L]")[0].find("what `K` changes is replaced"), std::string::npos);
  EXPECT_TRUE(plan("A[L][K]").empty());
}

// Each of two adapters of a head holds what it lies on, as PEFT writes them.
TEST(Plan, WhatAnAdapterLiesOnIsExchangedBelowTheOthers) {
  const auto on_a_head = [](const std::string& name) {
    Update below;
    below.kind = UpdateKind::Replace;
    below.below = true;
    below.first = 2;
    below.module = "lm_head";
    below.parameter = "weight";
    Update product;
    product.kind = UpdateKind::LowRank;
    product.module = "lm_head";
    product.parameter = "weight";
    product.rank = 2;
    product.first = 0;
    product.second = 1;
    return std::make_unique<MemoryAdapter>(
        name, std::vector<Update>{below, product},
        std::vector<MemoryTensor>{tensor("below", Dtype::F16, {8, 4}, normal_values(32, 9)),
                                  tensor("A", Dtype::F32, {2, 4}, normal_values(8, 5)),
                                  tensor("B", Dtype::F32, {8, 2}, normal_values(16, 6))});
  };
  for (const char* key : {"A[K][L]", "A[K+L]"}) {
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(on_a_head("K"));
    adapters.push_back(on_a_head("L"));
    const Planned planned(key, {{model(8, 1, true), Json()}}, {}, std::move(adapters));
    ASSERT_EQ(planned.problem(), "");
    EXPECT_TRUE(planned.result.plan.warnings.empty()) << planned.result.plan.warnings[0];
    const Program& head = *planned.program("lm_head.weight");
    std::size_t products = 0;
    for (const Operand& operand : head.operands) products += operand.is_stored() ? 0U : 1U;
    EXPECT_EQ(products, 2U) << key;
  }
}

TEST(Plan, AReplacedEmbeddingOfATiedModelIsItsHeadEverywhere) {
  const Json tied = config("llama", true);
  const auto embedding =
      tensor("model.embed_tokens.weight", Dtype::F16, {8, 4}, normal_values(32, 9));
  std::vector<std::unique_ptr<Adapter>> adapters;
  adapters.push_back(replacing("L", "model.embed_tokens", embedding));
  const Planned planned("{A[L]+B}",
                        {{model(8, 1, false), tied}, {model(8, 2, true), config("llama", false)}},
                        {}, std::move(adapters));
  ASSERT_EQ(planned.problem(), "");
  const Program* const head = planned.program("lm_head.weight");
  ASSERT_NE(head, nullptr);
  ASSERT_EQ(head->operands.size(), 2U);
  EXPECT_NE(head->operands[0].adapter, nullptr);
}

// An embedding of modules_to_save is a module of its own while it is trained.
TEST(Plan, ASavedEmbeddingPartsATiedHeadFromIt) {
  const auto head_rows = [](std::uint64_t rows) {
    const auto embedding =
        tensor("model.embed_tokens.weight", Dtype::F16, {rows, 4}, normal_values(rows * 4, 9));
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(replacing("L", "model.embed_tokens", embedding, true));
    const Planned planned("A[L]", {{model(8, 1, false), config("llama", true)}}, {},
                          std::move(adapters));
    EXPECT_EQ(planned.problem(), "");
    const Program* const head = planned.program("lm_head.weight");
    EXPECT_EQ(planned.result.plan.tied, head == nullptr);
    EXPECT_NE(planned.program("model.embed_tokens.weight")->operands[0].adapter, nullptr);
    if (head != nullptr) {
      EXPECT_EQ(head->kind, ProgramKind::Copy);
    }
    return head == nullptr ? 0 : head->shape[0];
  };
  EXPECT_EQ(head_rows(8), 8U);
  EXPECT_EQ(head_rows(9), 0U) << "nothing says what the head's new rows are";
}

TEST(Plan, APartedHeadIsCalledAsItsModelCallsIt) {
  const MemoryTensor embedding =
      tensor("model.decoder.embed_tokens.weight", Dtype::F16, {8, 4}, normal_values(32, 1));
  for (const bool saved : {false, true}) {
    std::vector<std::unique_ptr<Adapter>> adapters;
    if (saved) {
      adapters.push_back(replacing("L", "model.decoder.embed_tokens", embedding, true));
    } else {
      adapters.push_back(lora("L", "proj_out", 8, 4, 2, 1.0, 5));
    }
    const Planned planned("A[L]", {{{embedding}, config("whisper", true)}}, {},
                          std::move(adapters));
    ASSERT_EQ(planned.problem(), "");
    EXPECT_FALSE(planned.result.plan.tied);
    EXPECT_NE(planned.program("proj_out.weight"), nullptr);
    EXPECT_EQ(planned.program("lm_head.weight"), nullptr);
  }
}

TEST(Plan, WhatAPartedHeadOfT5IsGivenStaysScaled) {
  const auto planned = [](Json config) {
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(lora("L", "lm_head", 8, 4, 2, 1.0, 5));
    return Planned(
        "A[L]",
        {{{tensor("shared.weight", Dtype::F16, {8, 4}, normal_values(32, 1))}, std::move(config)}},
        {}, std::move(adapters));
  };
  const Planned t5 = planned(config("t5", true));
  ASSERT_EQ(t5.problem(), "");
  EXPECT_EQ(t5.result.plan.config["scale_decoder_outputs"], true);
  EXPECT_NE(t5.result.plan.warnings.at(0).find("scale_decoder_outputs"), std::string::npos);
  Json says_so = config("t5", true);
  says_so["scale_decoder_outputs"] = true;
  EXPECT_FALSE(planned(says_so).result.plan.config.contains("scale_decoder_outputs"));
  EXPECT_NE(planned(config("udop", true)).problem().find("a model of type udop scales"),
            std::string::npos);
}

TEST(Plan, AChangeOfOneSidesEmbeddingIsSaidToBeOneOfBoth) {
  const auto warnings = [](const std::string& other) {
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(lora("L", "encoder.embed_tokens", 8, 4, 2, 1.0, 5));
    const Planned planned(
        "A[L]",
        {{{tensor("shared.weight", Dtype::F16, {8, 4}, normal_values(32, 1)),
           tensor("encoder.block.0.q.weight", Dtype::F16, {4, 4}, normal_values(16, 2)),
           tensor(other, Dtype::F16, {4, 4}, normal_values(16, 3))},
          config("t5", true)}},
        {}, std::move(adapters));
    EXPECT_EQ(planned.problem(), "");
    return planned.result.plan.warnings;
  };
  EXPECT_TRUE(warnings("encoder.block.1.q.weight").empty());
  ASSERT_EQ(warnings("decoder.block.0.q.weight").size(), 1U);
  EXPECT_NE(warnings("decoder.block.0.q.weight")[0].find("for encoder and decoder"),
            std::string::npos);
}

TEST(Plan, AnEmbeddingSavedForOneSideIsNotGivenToBoth) {
  const MemoryTensor saved = tensor("embedding", Dtype::F16, {8, 4}, normal_values(32, 5));
  std::vector<std::unique_ptr<Adapter>> adapters;
  adapters.push_back(replacing("L", "encoder.embed_tokens", saved, true));
  const Planned planned(
      "A[L]",
      {{{tensor("shared.weight", Dtype::F16, {8, 4}, normal_values(32, 1)),
         tensor("encoder.block.0.q.weight", Dtype::F16, {4, 4}, normal_values(16, 2)),
         tensor("decoder.block.0.q.weight", Dtype::F16, {4, 4}, normal_values(16, 3))},
        config("t5", true)}},
      {}, std::move(adapters));
  EXPECT_NE(planned.problem().find("an embedding for `encoder.embed_tokens` alone"),
            std::string::npos)
      << planned.problem();
}

TEST(Plan, AHeadOfATiedModelThatAnAdapterChangesByItselfChangesByNothingElse) {
  Update embedding;
  embedding.kind = UpdateKind::Add;
  embedding.module = "model.embed_tokens";
  embedding.parameter = "weight";
  Update head = embedding;
  head.module = "lm_head";
  head.first = 1;
  for (const bool alike : {false, true}) {
    std::vector<std::unique_ptr<Adapter>> adapters;
    adapters.push_back(std::make_unique<MemoryAdapter>(
        "L", std::vector<Update>{embedding, head},
        std::vector<MemoryTensor>{
            tensor("0", Dtype::F16, {8, 4}, normal_values(32, 9)),
            tensor("1", Dtype::F16, {8, 4}, normal_values(32, alike ? 9 : 10))}));
    const Planned planned("A[L]", {{model(8, 1, false), config("llama", true)}}, {},
                          std::move(adapters));
    ASSERT_EQ(planned.problem(), "");
    const Program* const program = planned.program("lm_head.weight");
    EXPECT_EQ(planned.result.plan.tied, alike);
    ASSERT_EQ(program == nullptr, alike) << "what is done to both alike is done once";
    if (alike) continue;
    ASSERT_EQ(program->operands.size(), 2U);
    EXPECT_EQ(program->operands[1].tensor, 1U);
  }
}

TEST(Memory, APlanThatCannotKeepTheCeilingIsRefused) {
  PlanOptions options;
  options.memory = 1'000'000;
  const Planned refused("{A+B}", {{model(8, 1, true), Json()}, {model(8, 2, true), Json()}},
                        options);
  ASSERT_EQ(refused.result.problems.size(), 1U);
  EXPECT_EQ(refused.result.problems[0].code(), ErrorCode::NoSpace);
  options.memory = least_memory(refused.result.plan, 1);
  const Planned accepted("{A+B}", {{model(8, 1, true), Json()}, {model(8, 2, true), Json()}},
                         options);
  EXPECT_EQ(accepted.problem(), "");
  EXPECT_LE(accepted.result.plan.memory.total(), options.memory);
}

TEST(Memory, TilesCoverEveryTensorAndSlotsHoldThem) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  PlanOptions options;
  options.memory = 60'000'000;
  std::vector<MemoryTensor> large = {
      tensor("w", Dtype::F16, {1000, 700}, normal_values(700'000, 4))};
  const Planned planned("{A+B}", {{large, Json()}, {large, Json()}}, options);
  ASSERT_EQ(planned.problem(), "");
  const Plan& plan = planned.result.plan;
  for (const Program& program : plan.programs) {
    const std::uint64_t tile = tile_elements(program, plan.memory);
    EXPECT_EQ(tile % grain_elements(program), 0U);
    EXPECT_LE(tile * program.stored_width(), plan.memory.slot_bytes);
    EXPECT_LE(tile * size_of(program.dtype), plan.memory.output_slot_bytes);
    std::uint64_t covered = 0;
    for (const TileSpan& span : written_tiles(program, plan.memory)) {
      EXPECT_EQ(span.first, covered);
      covered += span.count;
    }
    EXPECT_EQ(covered, program.elements);
  }
}

// A grain of an odd number of columns is a little smaller than the largest one, and every run in a
// slot is aligned: both must be counted.
TEST(Memory, RunsOfOddTensorsFitTheirSlots) {
  for (const std::uint64_t columns : {1, 3, 7, 127, 4095, 65535, 65537}) {
    std::vector<MemoryTensor> odd = {tensor("w", Dtype::F16, {140'000 / columns + 2, columns},
                                            normal_values((140'000 / columns + 2) * columns, 4))};
    PlanOptions options;
    options.threads = 2;
    options.memory = 10'000'000'000;
    const std::uint64_t least =
        least_memory(Planned("{A+B}", {{odd, Json()}, {odd, Json()}}, options).result.plan, 2);
    for (const std::uint64_t memory : {least, least + 500'000, least + 5'000'000}) {
      options.memory = memory;
      const Planned planned("{A+B}", {{odd, Json()}, {odd, Json()}}, options);
      ASSERT_EQ(planned.problem(), "");
      const Plan& plan = planned.result.plan;
      const Program& program = plan.programs[0];
      const std::uint64_t tile = std::min(tile_elements(program, plan.memory), program.elements);
      std::uint64_t bytes = 0;
      for (const Operand& operand : program.operands)
        bytes += (tile * size_of(operand.dtype) + 63) / 64 * 64;
      EXPECT_LE(bytes, plan.memory.slot_bytes) << columns << " columns, " << memory << " bytes";
    }
  }
}

TEST(Part, IsSpreadOverTheWhole) {
  EXPECT_EQ(spread(5, 3), (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_TRUE(spread(4, 0).empty());
  const std::vector<std::size_t> some = spread(30, 300);
  ASSERT_EQ(some.size(), 30U);
  for (std::size_t i = 1; i < some.size(); ++i) {
    EXPECT_GT(some[i], some[i - 1]);
    EXPECT_LT(some[i] - some[i - 1], 20U);
  }
  std::set<std::size_t> kinds;  // of ten tensors in a layer
  for (const std::size_t index : some) kinds.insert(index % 10);
  EXPECT_GE(kinds.size(), 8U);
}

TEST(Explain, TellsWhereEachNumberComesFrom) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  adapters.push_back(lora("L", "model.layers.0.mlp.up_proj", 6, 4, 2, 0.25, 5));
  const Planned planned("{A[0.5*L]+3*B}",
                        {{model(8, 1, true), Json()}, {model(8, 2, true), Json()}}, {},
                        std::move(adapters));
  ASSERT_EQ(planned.problem(), "");
  const std::string text = explain(planned.result.plan, "model.layers.0.mlp.up_proj.weight");
  for (const char* part : {"F16 [6, 4] in model.safetensors", "v1 = A", "B A, rank 2", "v3 = B",
                           "x1 + 0.125 v2", "slerp(x2, x3; weights 1 3", "read once"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  try {
    explain(planned.result.plan, "model.layers.0.mlp.up_proj.wieght");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::NotFound);
    EXPECT_NE(error.hint().find("up_proj.weight"), std::string::npos);
  }
}

}  // namespace
}  // namespace thorns
