// Adapters that were trained with more tokens than their model had.
#include <gtest/gtest.h>

#include <string>

#include "checkpoint/config.h"
#include "checkpoint/weights_file.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

using test::SafetensorsBuilder;

void add_counting(SafetensorsBuilder& file, const std::string& name,
                  std::vector<std::uint64_t> shape, float first) {
  std::vector<float> values;
  std::uint64_t count = 1;
  for (const std::uint64_t dimension : shape) count *= dimension;
  for (std::uint64_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i));
  file.add_bytes(name, Dtype::F32, shape,
                 std::string(reinterpret_cast<const char*>(values.data()), count * sizeof(float)));
}

// Models M and N of 3 tokens, and an adapter folder whose file the test fills.
class ResizedVocabulary : public testing::Test {
 protected:
  void SetUp() override {
    write_model("M", 0);
    write_model("N", 100);
    test::write_file(place_ / "L/adapter_config.json",
                     R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1})");
  }

  void write_model(const std::string& name, float first) {
    SafetensorsBuilder model;
    add_counting(model, "model.embed_tokens.weight", {3, 2}, first);
    add_counting(model, "lm_head.weight", {3, 2}, first + 10);
    std::filesystem::create_directories(place_ / name);
    std::filesystem::create_directories(place_ / "L");
    model.write(place_ / name + "/model.safetensors");
    test::write_file(place_ / name + "/config.json", R"({"model_type":"toy","vocab_size":3})");
  }

  void write_adapter(std::vector<std::string> modules, std::uint64_t rows) {
    SafetensorsBuilder adapter;
    for (const std::string& module : modules) {
      add_counting(adapter, "base_model.model." + module + ".weight", {rows, 2}, 50);
    }
    if (with_lora_) {
      add_counting(adapter, "base_model.model.model.embed_tokens.lora_embedding_A", {1, rows}, 1);
      add_counting(adapter, "base_model.model.model.embed_tokens.lora_embedding_B", {2, 1}, 1);
    }
    adapter.write(place_ / "L/adapter_model.safetensors");
  }

  std::unique_ptr<TensorSource> merged(const std::string& key) {
    MergeOptions options;
    options.recipe = key;
    options.inputs.paths = {place_.path()};
    options.output = place_ / "out";
    options.force = true;
    Observer silent;
    merge(options, silent);
    return open_weights(real_disk(), place_ / "out/model.safetensors");
  }

  static std::vector<float> values(const TensorSource& source, const std::string& name) {
    const std::size_t index = *source.find(name);
    std::vector<float> values(source.tensors()[index].elements);
    source.read(index, 0, std::as_writable_bytes(std::span(values)));
    return values;
  }

  const test::TempFolder place_;
  bool with_lora_ = false;
};

TEST_F(ResizedVocabulary, TheOutputHasTheAdaptersRows) {
  for (const std::uint64_t rows : {5U, 2U}) {
    write_adapter({"model.embed_tokens", "lm_head"}, rows);
    const auto source = merged("M[L]");
    const auto head = values(*source, "lm_head.weight");
    ASSERT_EQ(head.size(), rows * 2);
    EXPECT_EQ(head.front(), 50);
    const Json config = read_json_file(real_disk(), place_ / "out/config.json");
    EXPECT_EQ(config.at("vocab_size"), rows);
  }
}

// LoRA on the embedding that the adapter brings: W + (B A)^T.
TEST_F(ResizedVocabulary, FactorsBelongToTheNewRows) {
  with_lora_ = true;
  write_adapter({"model.embed_tokens.base_layer", "lm_head"}, 4);
  const auto embedding = values(*merged("M[L]"), "model.embed_tokens.weight");
  EXPECT_EQ(embedding, (std::vector<float>{51, 53, 54, 57, 57, 61, 60, 65}));
}

// Rows that only one of two models has are taken from it.
TEST_F(ResizedVocabulary, UnderAMergeNewRowsStay) {
  write_adapter({"model.embed_tokens", "lm_head"}, 4);
  const auto source = merged("{M[L]+N; linear}");
  EXPECT_EQ(values(*source, "model.embed_tokens.weight"),
            (std::vector<float>{75, 76, 77, 78, 79, 80, 56, 57}));
}

// What stands above a fold sees the rows that it brought.
TEST_F(ResizedVocabulary, AFoldAboveMeetsTheNewRows) {
  write_adapter({"model.embed_tokens", "lm_head"}, 4);
  std::filesystem::create_directories(place_ / "K");
  SafetensorsBuilder adapter;
  add_counting(adapter, "base_model.model.lm_head.lora_A.weight", {1, 2}, 1);
  add_counting(adapter, "base_model.model.lm_head.lora_B.weight", {4, 1}, 1);
  adapter.write(place_ / "K/adapter_model.safetensors");
  test::write_file(place_ / "K/adapter_config.json",
                   R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1})");
  EXPECT_EQ(values(*merged("M[L+K]"), "lm_head.weight"),
            (std::vector<float>{51, 53, 54, 57, 57, 61, 60, 65}));
  EXPECT_EQ(test::error_of([&] { merged("M[K]"); }).code(), ErrorCode::Mismatch);
}

TEST_F(ResizedVocabulary, WhatMakesNoSenseIsRefused) {
  write_adapter({"model.embed_tokens", "lm_head"}, 4);
  const Error part = test::error_of([&] { merged("M[0.5*L]"); });
  EXPECT_NE(part.message().find("another number of rows"), std::string::npos) << part.message();
  write_adapter({"model.embed_tokens"}, 4);
  const Error one = test::error_of([&] { merged("M[L]"); });
  EXPECT_NE(one.message().find("the output would have"), std::string::npos) << one.message();
  EXPECT_NE(one.hint().find("save it with both"), std::string::npos) << one.hint();
}

}  // namespace
}  // namespace thorns
