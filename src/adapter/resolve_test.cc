#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "adapter/adapter.h"
#include "adapter/refit.h"
#include "adapter/replication.h"
#include "checkpoint/token_rows.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::SafetensorsBuilder;

using Shapes = std::vector<std::pair<std::string, std::vector<std::uint64_t>>>;

// An adapter and a model, both given by names and shapes; rank 2 everywhere.
class Fold {
 public:
  // LoRA for modules of shape (out, in).
  Fold& lora(const std::string& module, std::uint64_t out, std::uint64_t in) {
    weights_.add(module + ".lora_A.weight", Dtype::F32, {2, in}, std::vector<double>(2 * in));
    weights_.add(module + ".lora_B.weight", Dtype::F32, {out, 2}, std::vector<double>(2 * out));
    return *this;
  }
  // The same with small whole numbers that differ from module to module.
  Fold& counted(const std::string& module, std::uint64_t out, std::uint64_t in) {
    std::vector<double> a(2 * in);
    std::vector<double> b(2 * out);
    for (double& number : a) number = next_ = 1.0 + std::fmod(next_ * 5.0 + 3.0, 13.0);
    for (double& number : b) number = next_ = 1.0 + std::fmod(next_ * 7.0 + 2.0, 11.0);
    weights_.add(module + ".lora_A.weight", Dtype::F32, {2, in}, a);
    weights_.add(module + ".lora_B.weight", Dtype::F32, {out, 2}, b);
    return *this;
  }
  Fold& tensor(const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t count = 1;
    for (const std::uint64_t dim : shape) count *= dim;
    weights_.add(name, Dtype::F32, std::move(shape), std::vector<double>(count));
    return *this;
  }
  Fold& numbers(const std::string& name, const std::vector<double>& values) {
    weights_.add(name, Dtype::F32, {values.size()}, values);
    return *this;
  }
  Fold& base(const Shapes& tensors, Dtype dtype = Dtype::BF16) {
    for (const auto& [name, shape] : tensors) {
      TensorInfo info{name, dtype, shape, 1};
      for (const std::uint64_t dim : shape) info.elements *= dim;
      base_.push_back(std::move(info));
    }
    std::sort(base_.begin(), base_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
    return *this;
  }
  Fold& model_type(const std::string& type) { return target_.model_type = type, *this; }
  Fold& tied() { return target_.tied_head = kOutputHead, *this; }
  Fold& map(KeyMap map) { return map_ = std::move(map), *this; }
  Fold& config(const std::string& fields) { return config_ += fields, *this; }

  std::vector<ResolvedUpdate> run() {
    disk_.files["a/adapter_config.json"] = R"({"peft_type":"LORA","r":2)" + config_ + "}";
    disk_.files["a/adapter_model.safetensors"] = weights_.bytes();
    adapter_ = rename_modules(open_adapter(disk_, "a"), map_);
    target_.tensors = base_;
    recut(adapter_, target_);
    return resolve(*adapter_, target_);
  }
  const TensorSource& source() const { return adapter_->source(); }
  // The change of a model's tensor by row and column, after run().
  std::vector<double> change(const ResolvedUpdate& resolved) const {
    const std::size_t rows = resolved.base.rows();
    const std::size_t columns = resolved.base.columns();
    const std::size_t rank = resolved.update->rank;
    std::vector<float> u(rows * rank);
    std::vector<float> v(rank * columns);
    load_factors(*adapter_, *resolved.update, resolved.base, u, v);
    std::vector<double> sum(rows * columns);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      for (std::size_t k = 0; k < rank; ++k) {
        sum[i] += resolved.update->scale * static_cast<double>(u[i / columns * rank + k]) *
                  static_cast<double>(v[k * columns + i % columns]);
      }
    }
    return sum;
  }
  // "name" or "name^T" of each resolved update, in order.
  std::vector<std::string> names() {
    std::vector<std::string> result;
    for (const ResolvedUpdate& resolved : run()) {
      result.push_back(resolved.tensor + (resolved.base.transposed ? "^T" : ""));
    }
    return result;
  }

 private:
  SafetensorsBuilder weights_;
  std::string config_;
  KeyMap map_;
  double next_ = 1.0;
  ByteDisk disk_;
  std::vector<TensorInfo> base_;
  FoldTarget target_;
  std::unique_ptr<Adapter> adapter_;
};

using Names = std::vector<std::string>;

TEST(Resolve, EmbeddingsAreStoredTheOtherWayRoundWhateverTheirShape) {
  for (const std::uint64_t vocabulary : {9U, 5U}) {  // 5: square
    Fold fold;
    fold.tensor("emb.lora_embedding_A", {2, vocabulary}).tensor("emb.lora_embedding_B", {5, 2});
    fold.base({{"emb.weight", {vocabulary, 5}}});
    EXPECT_EQ(fold.names(), (std::vector<std::string>{"emb.weight^T"}));
  }
  Fold other;
  other.tensor("emb.lora_embedding_A", {2, 9}).tensor("emb.lora_embedding_B", {5, 2});
  other.base({{"emb.weight", {5, 9}}});
  const Error error = error_of([&] { other.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("emb.weight is [5, 9], the adapter's is [9, 5]"),
            std::string::npos)
      << error.message();
}

TEST(Resolve, ConvolutionsFitByTheirWholeShape) {
  Fold fold;
  fold.tensor("c.lora_A.weight", {2, 4, 3, 1}).tensor("c.lora_B.weight", {6, 2, 1, 1});
  fold.base({{"c.weight", {6, 4, 3, 1}}});
  EXPECT_EQ(fold.names(), (std::vector<std::string>{"c.weight"}));
  // As many elements, another kernel; and one of two groups, which has no such update.
  for (const std::vector<std::uint64_t>& shape :
       {std::vector<std::uint64_t>{6, 4, 1, 3}, std::vector<std::uint64_t>{6, 2, 3, 1}}) {
    Fold other;
    other.tensor("c.lora_A.weight", {2, 4, 3, 1}).tensor("c.lora_B.weight", {6, 2, 1, 1});
    other.base({{"c.weight", shape}});
    const Error error = error_of([&] { other.run(); });
    EXPECT_EQ(error.code(), ErrorCode::Mismatch);
    EXPECT_NE(error.message().find("the adapter's is [6, 4, 3, 1]"), std::string::npos)
        << error.message();
  }
}

TEST(Resolve, AttentionOfTorchHasOneWeightForItsInputs) {
  Fold fold;
  fold.lora("block.mha", 12, 4).lora("block.mha.base_layer.out_proj", 4, 4);
  fold.base(
      {{"model.block.mha.in_proj_weight", {12, 4}}, {"model.block.mha.out_proj.weight", {4, 4}}});
  EXPECT_EQ(fold.names(), (std::vector<std::string>{"model.block.mha.in_proj_weight",
                                                    "model.block.mha.out_proj.weight"}));
}

TEST(Resolve, NamesThatFitAreTakenAsTheyAre) {
  Fold fold;
  fold.lora("model.layers.1.q", 3, 4).lora("model.layers.0.q", 3, 4);
  fold.base({{"model.layers.0.q.weight", {3, 4}},
             {"model.layers.1.q.weight", {3, 4}},
             {"language_model.model.layers.0.q.weight", {3, 4}},
             {"language_model.model.layers.1.q.weight", {3, 4}}});
  EXPECT_EQ(fold.names(), (Names{"model.layers.0.q.weight", "model.layers.1.q.weight"}));
}

TEST(Resolve, OnePrefixMayBeAddedOrTakenAway) {
  for (const std::string prefix :
       {"model.", "transformer.", "language_model.", "model.language_model.",
        "language_model.model.", "text_model.", "base_model.", "backbone.", "my.own.wrapper."}) {
    SCOPED_TRACE(prefix);
    Fold adding;
    adding.lora("layers.0.q", 3, 4).lora("layers.1.q", 3, 4);
    adding.base({{prefix + "layers.0.q.weight", {3, 4}}, {prefix + "layers.1.q.weight", {3, 4}}});
    EXPECT_EQ(adding.names(), (Names{prefix + "layers.0.q.weight", prefix + "layers.1.q.weight"}));

    Fold removing;
    removing.lora(prefix + "layers.0.q", 3, 4).lora(prefix + "layers.1.q", 3, 4);
    removing.base({{"layers.0.q.weight", {3, 4}}, {"layers.1.q.weight", {3, 4}}});
    if (prefix == "base_model.") continue;  // PEFT's own prefix: gone before
    EXPECT_EQ(removing.names(), (Names{"layers.0.q.weight", "layers.1.q.weight"}));
  }
}

TEST(Resolve, AHeadOutsideThePrefixKeepsItsName) {
  Fold fold;
  fold.lora("model.layers.0.q", 3, 4).lora("lm_head", 9, 4);
  fold.base({{"layers.0.q.weight", {3, 4}}, {"lm_head.weight", {9, 4}}});
  EXPECT_EQ(fold.names(), (Names{"layers.0.q.weight", "lm_head.weight"}));
}

TEST(Resolve, OneRewritingMustServeAll) {
  Fold fold;
  fold.lora("layers.0.q", 3, 4).lora("layers.1.q", 3, 4);
  fold.base({{"model.layers.0.q.weight", {3, 4}}, {"transformer.layers.1.q.weight", {3, 4}}});
  const Error error = error_of([&] { fold.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("1 of its 2 updates find no tensor (layers.1.q.weight)"),
            std::string::npos)
      << error.message();
  EXPECT_NE(error.message().find("nearest with `model.` put before the names"), std::string::npos)
      << error.message();
}

TEST(Resolve, CompetingRewritingsAreShown) {
  {
    Fold fold;
    fold.lora("layers.0.q", 3, 4);
    fold.base({{"model.layers.0.q.weight", {3, 4}}, {"text_model.layers.0.q.weight", {3, 4}}});
    const Error error = error_of([&] { fold.run(); });
    EXPECT_EQ(error.code(), ErrorCode::Mismatch);
    EXPECT_NE(error.message().find("fits the model in 2 ways"), std::string::npos)
        << error.message();
    for (const char* part :
         {"as in model.layers.0.q.weight", "as in text_model.layers.0.q.weight"}) {
      EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
    }
    EXPECT_NE(error.hint().find("--key-map, in a file with a line such as  layers: model.layers"),
              std::string::npos)
        << error.hint();
  }
  {
    Fold fold;
    fold.lora("layers.0.q", 3, 4);
    fold.base({{"vision.tower.layers.0.q.weight", {3, 4}}, {"audio.layers.0.q.weight", {3, 4}}});
    const Error error = error_of([&] { fold.run(); });
    EXPECT_NE(error.message().find("fits the model in 2 ways"), std::string::npos)
        << error.message();
  }
  {
    // A shape that only one of them has decides.
    Fold fold;
    fold.lora("layers.0.q", 3, 4);
    fold.base({{"vision.tower.layers.0.q.weight", {5, 4}}, {"audio.layers.0.q.weight", {3, 4}}});
    EXPECT_EQ(fold.names(), Names{"audio.layers.0.q.weight"});
  }
}

TEST(Resolve, ModelsThatSeeAreRenamedInAllTheirParts) {
  // Names as checkpoints have them, and as transformers has them since 4.52.
  struct Case {
    const char* old_language;
    const char* old_sight;
    const char* new_language;
    const char* new_sight;
  };
  for (const Case& c : {Case{"model.layers.0.q", "visual.blocks.0.qkv",
                             "model.language_model.layers.0.q", "model.visual.blocks.0.qkv"},
                        Case{"language_model.model.layers.0.q", "vision_tower.layers.0.q",
                             "model.language_model.layers.0.q", "model.vision_tower.layers.0.q"}}) {
    for (const bool forward : {true, false}) {
      SCOPED_TRACE(c.old_language);
      Fold fold;
      fold.lora(forward ? c.old_language : c.new_language, 3, 4);
      fold.lora(forward ? c.old_sight : c.new_sight, 5, 4);
      const std::string language = forward ? c.new_language : c.old_language;
      const std::string sight = forward ? c.new_sight : c.old_sight;
      fold.base({{language + ".weight", {3, 4}}, {sight + ".weight", {5, 4}}});
      EXPECT_EQ(fold.names(), (Names{language + ".weight", sight + ".weight"}));
    }
  }
}

TEST(Resolve, UnderscoresMayStandForDots) {
  for (const std::string prefix : {"", "model.", "my.own.wrapper."}) {
    SCOPED_TRACE(prefix);
    Fold fold;
    fold.lora("layers_0_self_attn_q_proj", 3, 4).lora("layers_1_self_attn_q_proj", 3, 4);
    fold.base({{prefix + "layers.0.self_attn.q_proj.weight", {3, 4}},
               {prefix + "layers.1.self_attn.q_proj.weight", {3, 4}}});
    EXPECT_EQ(fold.names(), (Names{prefix + "layers.0.self_attn.q_proj.weight",
                                   prefix + "layers.1.self_attn.q_proj.weight"}));
  }
  Fold longer;
  longer.lora("text_model_layers_0_q_proj", 3, 4).base({{"layers.0.q_proj.weight", {3, 4}}});
  EXPECT_EQ(longer.names(), Names{"layers.0.q_proj.weight"});
  Fold doubtful;  // two modules that are spelled alike
  doubtful.lora("a_b_c", 3, 4).base({{"a.b_c.weight", {3, 4}}, {"a_b.c.weight", {3, 4}}});
  EXPECT_EQ(error_of([&] { doubtful.run(); }).code(), ErrorCode::Mismatch);
}

TEST(Resolve, AKeyMapSaysHowModulesAreCalled) {
  const KeyMap map = {{"lm", "model"}, {"lm.sight", "eyes"}, {"lm.head", std::nullopt}};
  Fold fold;
  fold.lora("lm.layers.0.q", 3, 4).lora("lm.sight.0.q", 5, 4).lora("lm.head", 9, 4);
  fold.lora("lmx.q", 2, 4).map(map);
  fold.base(
      {{"model.layers.0.q.weight", {3, 4}}, {"eyes.0.q.weight", {5, 4}}, {"lmx.q.weight", {2, 4}}});
  EXPECT_EQ(fold.names(), (Names{"eyes.0.q.weight", "lmx.q.weight", "model.layers.0.q.weight"}));

  struct Case {
    const char* from;
    const char* to;
    const char* module;
    const char* renamed;
  };
  for (const Case& c : {Case{"", "model", "layers.0.q", "model.layers.0.q"},
                        Case{"", "m.", "q", "m.q"}, Case{"model", "", "model.q", "q"},
                        Case{"a.b", "c", "a.b", "c"}, Case{"te_", "text.", "te_q", "text.q"}}) {
    SCOPED_TRACE(c.module);
    Fold other;
    other.lora(c.module, 3, 4).map({{c.from, c.to}});
    other.base({{std::string(c.renamed) + ".weight", {3, 4}}, {"other.q.weight", {3, 4}}});
    EXPECT_EQ(other.names(), Names{std::string(c.renamed) + ".weight"});
  }
}

TEST(Resolve, AKeyMapThatDoesNothingIsSaid) {
  ByteDisk disk;
  SafetensorsBuilder weights;
  weights.add("a.q.lora_A.weight", Dtype::F32, {2, 4}, std::vector<double>(8));
  weights.add("a.q.lora_B.weight", Dtype::F32, {3, 2}, std::vector<double>(6));
  disk.files["a/adapter_config.json"] = R"({"peft_type":"LORA","r":2})";
  disk.files["a/adapter_model.safetensors"] = weights.bytes();
  const auto adapter = rename_modules(open_adapter(disk, "a"), {{"b", "c"}});
  ASSERT_EQ(adapter->warnings().size(), 1U);
  EXPECT_NE(adapter->warnings()[0].find("applies to none of its modules: `b`"), std::string::npos);
  const Error error = error_of([&] {
    rename_modules(open_adapter(disk, "a"), {{"a", std::nullopt}});
  });
  EXPECT_EQ(error.code(), ErrorCode::BadRecipe);
}

TEST(Resolve, WhatMayBeMeantIsShown) {
  Fold fold;
  fold.lora("tower.layers.7.attn.q", 3, 4).lora("tower.layers.7.attn.q.extra", 3, 4);
  fold.base({{"net.layers.6.attn.q.weight", {3, 4}}, {"net.layers.7.attn.q.weight", {3, 4}}});
  const Error error = error_of([&] { fold.run(); });
  EXPECT_NE(error.hint().find("`tower.layers.7.attn.q` may be `net.layers.7.attn.q`), say which "
                              "are meant with --key-map"),
            std::string::npos)
      << error.hint();
}

TEST(Recut, PartsAreFoldedIntoTheJoinedMatrix) {
  // q of 4 rows, k and v of 2; v has another alpha, and there may be parts without an update.
  for (const std::vector<std::string>& parts :
       {Names{"q_proj", "k_proj", "v_proj"}, Names{"q_proj", "v_proj"}, Names{"k_proj"}}) {
    SCOPED_TRACE(parts.size());
    Fold apart;
    Fold joined;
    for (Fold* fold : {&apart, &joined}) {
      fold->config(R"(,"lora_alpha":3,"alpha_pattern":{"v_proj":5})");
      for (const std::string& part : parts) {
        fold->counted("model.layers.0." + part, part == "q_proj" ? 4 : 2, 3);
      }
    }
    apart.base({{"model.layers.0.q_proj.weight", {4, 3}},
                {"model.layers.0.k_proj.weight", {2, 3}},
                {"model.layers.0.v_proj.weight", {2, 3}}});
    joined.base({{"language_model.layers.0.qkv_proj.weight", {8, 3}}});
    std::vector<double> expected(24);
    for (const ResolvedUpdate& update : apart.run()) {
      const std::vector<double> change = apart.change(update);
      const std::size_t first = update.tensor.find("q_proj") != std::string::npos   ? 0
                                : update.tensor.find("k_proj") != std::string::npos ? 4
                                                                                    : 6;
      std::copy(change.begin(), change.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(first * 3));
    }
    const auto resolved = joined.run();
    ASSERT_EQ(resolved.size(), 1U);
    EXPECT_EQ(resolved[0].tensor, "language_model.layers.0.qkv_proj.weight");
    EXPECT_EQ(resolved[0].update->rank, 2 * parts.size());
    const std::vector<double> change = joined.change(resolved[0]);
    for (std::size_t i = 0; i < 24; ++i) EXPECT_NEAR(change[i], expected[i], 1e-4) << i;
  }
}

TEST(Recut, AJoinedUpdateIsCutIntoParts) {
  Fold joined;
  Fold apart;
  for (Fold* fold : {&joined, &apart}) {
    fold->counted("model.layers.0.qkv_proj", 8, 3).counted("model.layers.0.gate_up_proj", 10, 3);
  }
  joined.base({{"model.layers.0.qkv_proj.weight", {8, 3}},
               {"model.layers.0.gate_up_proj.weight", {10, 3}}});
  apart.base({{"layers.0.q_proj.weight", {4, 3}},
              {"layers.0.k_proj.weight", {2, 3}},
              {"layers.0.v_proj.weight", {2, 3}},
              {"layers.0.gate_proj.weight", {5, 3}},
              {"layers.0.up_proj.weight", {5, 3}}});
  std::vector<double> all;  // by name: gate_up, qkv
  for (const ResolvedUpdate& update : joined.run()) {
    const std::vector<double> change = joined.change(update);
    all.insert(all.end(), change.begin(), change.end());
  }
  std::map<std::string, std::vector<double>> parts;
  for (const ResolvedUpdate& update : apart.run()) parts[update.tensor] = apart.change(update);
  std::vector<double> together;
  for (const char* name : {"gate", "up", "q", "k", "v"}) {
    const std::vector<double>& part = parts[std::string("layers.0.") + name + "_proj.weight"];
    together.insert(together.end(), part.begin(), part.end());
  }
  EXPECT_EQ(together, all);
}

TEST(Recut, APartOfTheModelKeepsItsOwnCut) {
  // The tower has its projections apart, the language model has them joined.
  Fold fold;
  fold.lora("model.layers.0.q_proj", 4, 3).lora("tower.layers.0.q_proj", 5, 3);
  fold.base(
      {{"model.layers.0.qkv_proj.weight", {12, 3}}, {"tower.layers.0.q_proj.weight", {5, 3}}});
  EXPECT_EQ(fold.names(),
            (Names{"model.layers.0.qkv_proj.weight", "tower.layers.0.q_proj.weight"}));
}

TEST(Recut, PartsThatCannotBeSoAreRefused) {
  struct Case {
    const char* part;
    std::uint64_t rows;
    std::uint64_t all;
  };
  for (const Case& c : {Case{"q_proj", 5, 8}, Case{"q_proj", 2, 8}, Case{"q_proj", 8, 8},
                        Case{"v_proj", 3, 8}, Case{"k_proj", 8, 8}}) {
    Fold fold;
    fold.lora(std::string("a.") + c.part, c.rows, 3).base({{"a.qkv_proj.weight", {c.all, 3}}});
    const Error error = error_of([&] { fold.run(); });
    EXPECT_EQ(error.code(), ErrorCode::Mismatch);
    EXPECT_NE(error.message().find("the adapter's is for parts of ["), std::string::npos)
        << error.message();
  }
  Fold half;
  half.lora("a.gate_up_proj", 10, 3);
  half.base({{"a.gate_proj.weight", {4, 3}}, {"a.up_proj.weight", {6, 3}}});
  EXPECT_EQ(error_of([&] { half.run(); }).code(), ErrorCode::Mismatch);

  Fold turned;
  turned.tensor("a.q_proj.lora_embedding_A", {2, 4}).tensor("a.q_proj.lora_embedding_B", {3, 2});
  turned.base({{"a.qkv_proj.weight", {8, 3}}});
  const Error error = error_of([&] { turned.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("`a.q_proj` is `qkv_proj` in the model"), std::string::npos)
      << error.message();
}

// What the updates of a model's tensors hold, line by line, in the order of resolve().
std::vector<std::string> row_by_row(Fold& fold) {
  std::vector<std::string> said;
  for (const ResolvedUpdate& resolved : fold.run()) {
    const Change* const change = resolved.update->change.get();
    const std::size_t rows = resolved.base.shape[0];
    std::string line = resolved.tensor;
    const auto say = [&](double number) { line += " " + std::to_string(std::lround(number)); };
    if (const auto* norms = dynamic_cast<const NormChange*>(change)) {
      for (const auto& norm : norms->load(fold.source(), resolved.base)) say(norm.value_or(-1));
    } else if (const auto* sum = dynamic_cast<const DeltaChange*>(change)) {
      std::vector<double> numbers(rows - 1);
      sum->load(fold.source(), resolved.base)->generate(1, numbers);
      for (const double number : numbers) say(number);
    } else if (const auto* map = dynamic_cast<const MapChange*>(change)) {
      const std::vector<double> ones(rows, 1.0);
      std::vector<double> kept(rows);
      map->load(fold.source(), resolved.base)->apply(0, ones, kept);
      for (const double number : kept) say(number);
    } else {
      continue;  // factors
    }
    said.push_back(line);
  }
  return said;
}

TEST(Recut, NormsAndBiasesGoTheWayOfTheirRows) {
  // DoRA, a bias with the factors' scale, 3, and one that replaces the model's.
  const std::string config = R"(,"use_dora":true,"lora_alpha":6)";
  const Shapes joined = {{"m.qkv_proj.weight", {8, 3}}, {"m.qkv_proj.bias", {8}}};
  const Shapes apart = {{"m.q_proj.weight", {4, 3}}, {"m.q_proj.bias", {4}},
                        {"m.k_proj.weight", {2, 3}}, {"m.k_proj.bias", {2}},
                        {"m.v_proj.weight", {2, 3}}, {"m.v_proj.bias", {2}}};
  Fold parts;
  parts.config(config).base(joined);
  parts.lora("m.q_proj", 4, 3).numbers("m.q_proj.lora_magnitude_vector", {1, 2, 3, 4});
  parts.lora("m.v_proj", 2, 3).numbers("m.v_proj.lora_magnitude_vector", {7, 8});
  parts.numbers("m.q_proj.lora_B.bias", {1, 2, 3, 4}).numbers("m.v_proj.base_layer.bias", {10, 20});
  EXPECT_EQ(row_by_row(parts),
            (Names{"m.qkv_proj.bias 1 1 1 1 1 1 0 0", "m.qkv_proj.bias 6 9 12 0 0 10 20",
                   "m.qkv_proj.weight 1 2 3 4 -1 -1 7 8"}));
  Fold whole;
  whole.config(config).base(apart).lora("m.qkv_proj", 8, 3);
  whole.numbers("m.qkv_proj.lora_magnitude_vector", {1, 2, 3, 4, 5, 6, 7, 8});
  whole.numbers("m.qkv_proj.bias", {1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_EQ(row_by_row(whole),
            (Names{"m.k_proj.bias 0 0", "m.k_proj.bias 6", "m.k_proj.weight 5 6",
                   "m.q_proj.bias 0 0 0 0", "m.q_proj.bias 2 3 4", "m.q_proj.weight 1 2 3 4",
                   "m.v_proj.bias 0 0", "m.v_proj.bias 8", "m.v_proj.weight 7 8"}));
}

TEST(Resolve, EverythingThatFindsNoTensorIsListed) {
  Fold fold;
  fold.config(R"(,"base_model_name_or_path":"org/base")");
  for (int i = 10; i < 30; ++i) fold.lora("layers." + std::to_string(i) + ".q", 3, 4);
  fold.lora("layers.1.q", 3, 4).lora("layers.2.q", 3, 4);
  fold.base({{"layers.1.q.weight", {3, 4}}, {"layers.2.q.weight", {6, 4}}});
  const Error error = error_of([&] { fold.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  for (const char* part :
       {"the adapter `a` does not fit the model", "20 of its 22 updates find no tensor",
        "layers.10.q.weight, layers.11.q.weight", "layers.28.q.weight, layers.29.q.weight",
        "1 of its 22 updates find one that does not fit",
        "layers.2.q.weight is [6, 4], the adapter's is [3, 4]"}) {
    EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
  }
  EXPECT_NE(error.hint().find("org/base"), std::string::npos);
  const auto* place = std::get_if<TensorPlace>(&error.where());
  ASSERT_NE(place, nullptr);
  EXPECT_EQ(place->tensor, "layers.10.q.weight");
  EXPECT_EQ(place->source, "a");
}

TEST(Resolve, TypesWithoutArithmeticDoNotFit) {
  Fold fold;
  fold.lora("q", 3, 4).base({{"q.weight", {3, 4}}}, Dtype::I32);
  const Error error = error_of([&] { fold.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("q.weight is of type I32"), std::string::npos) << error.message();
  EXPECT_NE(error.hint().find("is this the model"), std::string::npos);
}

TEST(Resolve, ShapesTellConv1dApart) {
  Fold fold;
  fold.lora("h.0.attn.c_attn", 12, 4).lora("h.0.mlp.up", 16, 4);
  fold.base({{"h.0.attn.c_attn.weight", {4, 12}}, {"h.0.mlp.up.weight", {16, 4}}});
  EXPECT_EQ(fold.names(), (Names{"h.0.attn.c_attn.weight^T", "h.0.mlp.up.weight"}));
}

TEST(Resolve, SquareWeightsGoByModelThenByFlag) {
  struct Case {
    const char* model_type;
    const char* flag;
    const char* module;
    bool transposed;
  };
  const Case cases[] = {
      {"gpt2", "false", "h.0.attn.c_proj", true},   {"gpt2", "true", "h.0.attn.c_proj", true},
      {"gpt2", "true", "h.0.other", false},         {"openai-gpt", "false", "c_fc", true},
      {"llama", "false", "layers.0.o_proj", false}, {"llama", "true", "layers.0.o_proj", false},
      {"custom", "true", "layers.0.c_proj", true},  {"custom", "true", "layers.0.o_proj", false},
      {"", "true", "h.0.attn.c_proj", true},        {"", "false", "h.0.attn.c_proj", false},
  };
  for (const Case& test : cases) {
    Fold fold;
    fold.config(std::string(R"(,"fan_in_fan_out":)") + test.flag).model_type(test.model_type);
    fold.lora(test.module, 4, 4).base({{std::string(test.module) + ".weight", {4, 4}}});
    EXPECT_EQ(fold.run().at(0).base.transposed, test.transposed)
        << test.model_type << " " << test.flag << " " << test.module;
  }
}

TEST(Resolve, ReplacementsComeBeforeAdditions) {
  Fold fold;
  fold.lora("q", 3, 4)
      .tensor("q.lora_B.bias", {3})
      .tensor("q.base_layer.bias", {3})
      .tensor("q.base_layer.weight", {3, 4});
  fold.base({{"q.weight", {3, 4}}, {"q.bias", {3}}});
  const auto resolved = fold.run();
  ASSERT_EQ(resolved.size(), 4U);
  const std::pair<const char*, UpdateKind> expected[] = {{"q.bias", UpdateKind::Replace},
                                                         {"q.bias", UpdateKind::Add},
                                                         {"q.weight", UpdateKind::Replace},
                                                         {"q.weight", UpdateKind::LowRank}};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(resolved[i].tensor, expected[i].first) << i;
    EXPECT_EQ(resolved[i].update->kind, expected[i].second) << i;
  }
}

TEST(Resolve, ABiasNeedsABias) {
  Fold fold;
  fold.lora("q", 3, 4).tensor("q.lora_B.bias", {3}).base({{"q.weight", {3, 4}}});
  const Error error = error_of([&] { fold.run(); });
  EXPECT_NE(error.message().find("find no tensor (q.bias)"), std::string::npos) << error.message();
}

TEST(Resolve, TwoUpdatesOfOneTensorAreRefused) {
  Fold fold;
  fold.lora("model.q", 3, 4).lora("q", 3, 4).base({{"q.weight", {3, 4}}});
  const Error error = error_of([&] { fold.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("would change the same tensor `q.weight`"), std::string::npos)
      << error.message();
}

TEST(Resolve, TransformersAndCheckpointsCallSomeModulesOtherwise) {
  Fold head;  // of GPT-NeoX
  head.lora("gpt_neox.layers.0.dense", 3, 4).lora("lm_head", 9, 4);
  head.base({{"gpt_neox.layers.0.dense.weight", {3, 4}}, {"embed_out.weight", {9, 4}}});
  EXPECT_EQ(head.names(), (Names{"embed_out.weight", "gpt_neox.layers.0.dense.weight"}));
  Fold router;  // of Mixtral
  router.lora("layers.0.mlp.gate", 3, 4).base({{"layers.0.block_sparse_moe.gate.weight", {3, 4}}});
  EXPECT_EQ(router.names(), Names{"layers.0.block_sparse_moe.gate.weight"});
}

TEST(Resolve, ATiedHeadHasItsEmbeddingsShape) {
  for (const char* embedding :
       {"model.embed_tokens.weight", "transformer.wte.weight", "word_embeddings.weight",
        "backbone.embeddings.weight", "shared.weight"}) {
    SCOPED_TRACE(embedding);
    Fold low_rank;
    low_rank.tied().lora("lm_head", 9, 4).base({{embedding, {9, 4}}});
    EXPECT_EQ(low_rank.names(), Names{"lm_head.weight"});
    Fold replaced;
    replaced.tied().tensor("lm_head.weight", {9, 4}).base({{embedding, {9, 4}}});
    EXPECT_EQ(replaced.names(), Names{"lm_head.weight"});
  }
  Fold rewritten;
  rewritten.tied().lora("lm_head", 9, 4).lora("layers.0.q", 3, 4);
  rewritten.base({{"model.embed_tokens.weight", {9, 4}}, {"model.layers.0.q.weight", {3, 4}}});
  EXPECT_EQ(rewritten.names(), (Names{"lm_head.weight", "model.layers.0.q.weight"}));

  Fold misshapen;
  misshapen.tied().lora("lm_head", 10, 4).base({{"embed_tokens.weight", {9, 4}}});
  EXPECT_NE(error_of([&] { misshapen.run(); }).message().find("lm_head.weight is [9, 4]"),
            std::string::npos);
  Fold untied;
  untied.lora("lm_head", 9, 4).base({{"embed_tokens.weight", {9, 4}}});
  EXPECT_NE(error_of([&] { untied.run(); }).message().find("find no tensor (lm_head.weight)"),
            std::string::npos);
  Fold two;
  two.tied().lora("lm_head", 9, 4);
  two.base({{"a.embed_tokens.weight", {9, 4}}, {"b.embed_tokens.weight", {9, 4}}});
  EXPECT_EQ(error_of([&] { two.run(); }).code(), ErrorCode::Mismatch);
  Fold stored;  // tied by its configuration, yet with a head of its own
  stored.tied().lora("lm_head", 9, 4);
  stored.base({{"embed_tokens.weight", {9, 4}}, {"lm_head.weight", {9, 4}}});
  EXPECT_EQ(stored.names(), Names{"lm_head.weight"});
}

TEST(Resolve, AKeyMapLeavesRepeatedLayersAsTheyAre) {
  SafetensorsBuilder weights;
  weights.add("layers.0.q.lora_A.weight", Dtype::F32, {1, 2}, {1, 2});
  weights.add("layers.0.q.lora_B.weight", Dtype::F32, {2, 1}, {1, 2});
  ByteDisk disk;
  disk.files["a/adapter_config.json"] =
      R"({"peft_type":"LORA","r":1,"layer_replication":[[0,2],[1,2]]})";
  disk.files["a/adapter_model.safetensors"] = weights.bytes();
  const auto adapter = rename_modules(open_adapter(disk, "a"), {{"layers", "model.layers"}});
  EXPECT_EQ(adapter->updates()[0].module, "model.layers.0.q");
  EXPECT_EQ(layer_replication(*adapter).size(), 2U);
}

TEST(Resolve, EncoderAndDecoderShareAnEmbedding) {
  const Shapes t5 = {{"shared.weight", {9, 4}},
                     {"encoder.block.0.q.weight", {4, 4}},
                     {"decoder.block.0.q.weight", {4, 4}}};
  Fold alike;
  alike.lora("encoder.embed_tokens", 9, 4).lora("decoder.embed_tokens", 9, 4).base(t5);
  EXPECT_EQ(alike.names(), Names{"shared.weight"});
  Fold one;
  one.lora("text_encoder.embed_tokens", 9, 4).base(t5);
  EXPECT_EQ(one.names(), Names{"shared.weight"});
  Fold bart;
  bart.lora("model.decoder.embed_tokens", 9, 4).base({{"model.shared.weight", {9, 4}}});
  EXPECT_EQ(bart.names(), Names{"model.shared.weight"});

  Fold different;
  different.counted("encoder.embed_tokens", 9, 4).counted("decoder.embed_tokens", 9, 4).base(t5);
  const Error error = error_of([&] { different.run(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("would change the same tensor `shared.weight`"),
            std::string::npos);
  EXPECT_NE(error.hint().find("  decoder.embed_tokens: ~"), std::string::npos) << error.hint();
  EXPECT_EQ(different.map({{"decoder.embed_tokens", std::nullopt}}).names(),
            Names{"shared.weight"});
}

TEST(Resolve, AnEmbeddingsFactorsAreItsHeadsTransposed) {
  for (const double last : {6.0, 7.0}) {
    SafetensorsBuilder weights;
    weights.add("embed_tokens.lora_embedding_A", Dtype::F32, {1, 3}, {1, 2, 3});
    weights.add("embed_tokens.lora_embedding_B", Dtype::F32, {2, 1}, {5, 6});
    weights.add("lm_head.lora_A.weight", Dtype::F32, {1, 2}, {5, last});
    weights.add("lm_head.lora_B.weight", Dtype::F32, {3, 1}, {1, 2, 3});
    ByteDisk disk;
    disk.files["a/adapter_config.json"] = R"({"peft_type":"LORA","r":1})";
    disk.files["a/adapter_model.safetensors"] = weights.bytes();
    const auto adapter = open_adapter(disk, "a");
    ASSERT_EQ(adapter->updates().size(), 2U);
    EXPECT_EQ(same_update(adapter->source(), adapter->updates()[0], adapter->updates()[1]),
              last == 6.0);
  }
}

}  // namespace
}  // namespace thorns
