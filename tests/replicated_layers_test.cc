// Adapters that were trained on a model with repeated layers (layer_replication).
#include <gtest/gtest.h>

#include <filesystem>
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

void add_filled(SafetensorsBuilder& file, const std::string& name, std::vector<std::uint64_t> shape,
                float value) {
  std::string bytes;
  for (std::uint64_t i = 0; i < shape[0] * shape[1]; ++i) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  file.add_bytes(name, Dtype::F32, shape, bytes);
}

// A model of two layers, 10 and 20, and an adapter for one of three that adds 1, 2 and 3.
class ReplicatedLayers : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {"M", "L", "K"}) std::filesystem::create_directories(place_ / folder);
    SafetensorsBuilder model;
    add_filled(model, "model.layers.0.q.weight", {2, 2}, 10);
    add_filled(model, "model.layers.1.q.weight", {2, 2}, 20);
    add_filled(model, "model.norm.weight", {1, 2}, 5);
    model.write(place_ / "M/model.safetensors");
    test::write_file(place_ / "M/config.json",
                     R"({"model_type":"toy","num_hidden_layers":2,"layer_types":["a","b"]})");
    write_adapter("L", 3, R"([[0, 2], [1, 2]])");
    write_adapter("K", 2, "null");
  }

  void write_adapter(const std::string& name, std::size_t layers, const std::string& ranges) {
    SafetensorsBuilder adapter;
    for (std::size_t i = 0; i < layers; ++i) {
      const std::string module = "base_model.model.model.layers." + std::to_string(i) + ".q.";
      add_filled(adapter, module + "lora_A.weight", {1, 2}, 1);
      add_filled(adapter, module + "lora_B.weight", {2, 1}, static_cast<float>(i + 1));
    }
    adapter.write(place_ / name + "/adapter_model.safetensors");
    test::write_file(
        place_ / name + "/adapter_config.json",
        R"({"peft_type":"LORA","r":1,"lora_alpha":1,"layer_replication":)" + ranges + "}");
  }

  void merge_key(const std::string& key) {
    MergeOptions options;
    options.recipe = key;
    options.inputs.paths = {place_.path()};
    options.output = place_ / "out";
    options.force = true;
    Observer silent;
    merge(options, silent);
  }

  // The first elements of the output's tensors, by name.
  std::map<std::string, float> merged(const std::string& key) {
    merge_key(key);
    const auto source = open_weights(real_disk(), place_ / "out/model.safetensors");
    std::map<std::string, float> values;
    for (std::size_t i = 0; i < source->tensors().size(); ++i) {
      float& value = values[source->tensors()[i].name];
      source->read(i, 0, std::as_writable_bytes(std::span(&value, 1)));
    }
    return values;
  }

  const test::TempFolder place_;
};

TEST_F(ReplicatedLayers, TheOutputIsAsDeepAsTheAdaptersModel) {
  const std::map<std::string, float> expected = {{"model.layers.0.q.weight", 11},
                                                 {"model.layers.1.q.weight", 22},
                                                 {"model.layers.2.q.weight", 23},
                                                 {"model.norm.weight", 5}};
  EXPECT_EQ(merged("M[L]"), expected);
  const Json config = read_json_file(real_disk(), place_ / "out/config.json");
  EXPECT_EQ(config.at("num_hidden_layers"), 3);
  EXPECT_EQ(config.at("layer_types").dump(), R"(["a","b","b"])");
}

TEST_F(ReplicatedLayers, UnderAMergeAndBelowAFold) {
  EXPECT_EQ(merged("{M[L]+M[0.5*L]; linear}").at("model.layers.2.q.weight"), 22.25);
  EXPECT_EQ(merged("M[L+K]").at("model.layers.1.q.weight"), 24);
}

TEST_F(ReplicatedLayers, AModelHasOneDepth) {
  const std::pair<const char*, const char*> cases[] = {
      {"{M[L]+M}", "two numbers of layers"},
      {"M[K+L]", "something is folded below an adapter that repeats layers"},
      {"M[L+K; cat]", "adapters that repeat layers cannot be combined"},
  };
  for (const auto& [key, message] : cases) {
    SCOPED_TRACE(key);
    const Error error = test::error_of([&, key = key] { merge_key(key); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(message), std::string::npos) << error.message();
  }
  write_adapter("L", 3, R"([[0, 3]])");
  const Error error = test::error_of([&] { merge_key("M[L]"); });
  EXPECT_NE(error.message().find("repeats layers up to 3, and `M` has 2"), std::string::npos)
      << error.message();
}

}  // namespace
}  // namespace thorns
