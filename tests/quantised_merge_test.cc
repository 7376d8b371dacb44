// A quantised leaf from its folder to the merged checkpoint.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "checkpoint/checkpoint.h"
#include "support/quantised_model.h"
#include "support/temp_folder_out.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

using test::ModelFolder;
using test::random_bytes;
using test::random_scales;

std::vector<double> small_numbers(std::size_t count, unsigned seed) {
  std::vector<double> values = random_scales(count, seed);
  for (double& value : values) value = (value - 1.0) / 8;
  return values;
}

// Two matrices of 160 x 200 and an embedding that is not quantised.
ModelFolder fp8_model(unsigned seed) {
  ModelFolder model;
  model.config["torch_dtype"] = "bfloat16";
  model.config["quantization_config"] = {{"quant_method", "fp8"},
                                         {"weight_block_size", {128, 128}}};
  model.weights.add("model.embed_tokens.weight", Dtype::BF16, {5, 200}, small_numbers(1000, seed));
  for (unsigned layer = 0; layer < 2; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".mlp.up_proj.weight";
    // Below 0x60 all numbers are positive and less than 32.
    model.weights
        .add_bytes(name, Dtype::F8E4M3, {160, 200}, random_bytes(32000, seed + layer, 0x60))
        .add(name + "_scale_inv", Dtype::F32, {2, 2}, random_scales(4, seed + 9));
  }
  return model;
}

ModelFolder plain_model(unsigned seed) {
  ModelFolder model;
  model.config["torch_dtype"] = "bfloat16";
  model.weights.add("model.embed_tokens.weight", Dtype::BF16, {5, 200}, small_numbers(1000, seed));
  for (const char* layer : {"0", "1"}) {
    model.weights.add(std::string("model.layers.") + layer + ".mlp.up_proj.weight", Dtype::BF16,
                      {160, 200}, small_numbers(32000, ++seed));
  }
  return model;
}

// The model as it is decoded, stored in float32.
ModelFolder decoded_twin(const std::string& folder) {
  const auto checkpoint = open_checkpoint(real_disk(), folder);
  ModelFolder twin;
  twin.config["torch_dtype"] = "bfloat16";
  for (std::size_t i = 0; i < checkpoint->tensors().size(); ++i) {
    const TensorInfo& info = checkpoint->tensors()[i];
    std::string bytes(info.bytes(), '\0');
    checkpoint->read(i, 0, std::as_writable_bytes(std::span(bytes)));
    twin.weights.add_bytes(info.name, info.dtype, info.shape, bytes);
  }
  return twin;
}

MergeSummary run(const test::TempFolder& temp, const std::string& key, const std::string& output,
                 std::optional<Dtype> dtype = std::nullopt) {
  MergeOptions options;
  options.recipe = key;
  options.inputs.paths = {temp.path()};
  options.output = temp / output;
  options.dtype = dtype;
  options.threads = 2;
  Observer silent;
  return merge(options, silent);
}

TEST(QuantisedMerge, EqualsTheMergeOfTheDecodedTwinBitForBit) {
  const test::TempFolder temp;
  fp8_model(1).write_sharded(temp / "eight", 3);  // scales and weights lie in different shards
  plain_model(2).write(temp / "plain");
  decoded_twin(temp / "eight").write(temp / "twin");
  for (const char* key :
       {"{X+plain}", "{plain+X}", "{X+0.25*plain;linear}", "{X+0*plain;linear}"}) {
    SCOPED_TRACE(key);
    const auto with = [&](const std::string& name) {
      std::string text = key;
      return text.replace(text.find('X'), 1, name);
    };
    const std::string out = std::to_string(key[1]) + std::to_string(std::string(key).size());
    run(temp, with("eight"), "eight-" + out);
    run(temp, with("twin"), "twin-" + out, Dtype::BF16);
    EXPECT_EQ(test::slurp(temp / ("eight-" + out + "/model.safetensors")),
              test::slurp(temp / ("twin-" + out + "/model.safetensors")));
  }
}

TEST(QuantisedMerge, TheOutputIsAPlainCheckpointAndSaysWhereItComesFrom) {
  const test::TempFolder temp;
  ModelFolder model = fp8_model(3);
  model.config["compression_config"] = {{"left", "over"}};
  model.config["torch_dtype"] = "float16";
  model.write(temp / "eight");
  plain_model(4).write(temp / "plain");
  const MergeSummary summary = run(temp, "{eight+plain}", "out");
  const auto out = open_checkpoint(real_disk(), temp / "out");
  EXPECT_EQ(out->quantisation(), "");
  ASSERT_EQ(out->tensors().size(), 3U) << "no scales";
  EXPECT_EQ(out->tensors()[0].dtype, Dtype::BF16) << "the embedding was never quantised";
  EXPECT_EQ(out->tensors()[1].dtype, Dtype::F16) << "as its model computes";
  EXPECT_EQ(out->config()["torch_dtype"], "float16");
  EXPECT_FALSE(out->config().contains("quantization_config"));
  EXPECT_FALSE(out->config().contains("compression_config"));
  ASSERT_EQ(summary.plan.warnings.size(), 2U);
  EXPECT_EQ(summary.plan.warnings[0],
            "`eight` is decoded from scaled FP8: the precision that its quantisation took away is "
            "not in the result");
  EXPECT_EQ(summary.plan.warnings[1], "2 tensors of `plain` are BF16, the output's F16");
}

}  // namespace
}  // namespace thorns
