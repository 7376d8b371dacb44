// GGUF files that the `gguf` package wrote, against what it decodes them to.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/numbers.h"
#include "base/convert.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/weights_file.h"
#include "support/quantised_model.h"
#include "support/temp_folder_out.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

class GgufGolden : public testing::TestWithParam<const char*> {};

TEST_P(GgufGolden, DecodesAsTheLibraryDoes) {
  const std::string path = std::string(THORNS_TEST_DATA) + "/golden/gguf/" + GetParam();
  const auto checkpoint = open_checkpoint(real_disk(), path + ".gguf");
  const auto expected = open_checkpoint(real_disk(), path + ".expected.safetensors");
  ASSERT_EQ(checkpoint->tensors().size(), expected->tensors().size());
  std::size_t in_place = 0;
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& want = expected->tensors()[i];
    const TensorInfo& got = checkpoint->tensors()[i];
    SCOPED_TRACE(want.name);
    ASSERT_EQ(got.name, want.name);
    ASSERT_EQ(got.shape, want.shape);
    const auto numbers = test::decoded_run(*expected, i, 0, want.elements);
    if (got.dtype != Dtype::F32) continue;  // plain halves: compared below, as bits
    // In one piece, and in pieces that begin and end within blocks and rows.
    for (const std::uint64_t step : {want.elements, std::uint64_t{77}}) {
      for (std::uint64_t first = 0; first < want.elements; first += step) {
        const std::uint64_t count = std::min(step, want.elements - first);
        const auto run = test::decoded_run(*checkpoint, i, first, count);
        for (std::uint64_t j = 0; j < count; ++j) {
          ASSERT_TRUE(test::same_float(run[j], numbers[first + j])) << first + j;
        }
        const auto same = test::decoded_in_place(*checkpoint, i, first, count);
        if (!same) continue;
        ++in_place;
        for (std::uint64_t j = 0; j < count; ++j) {
          ASSERT_TRUE(test::same_float((*same)[j], numbers[first + j])) << first + j;
        }
      }
    }
  }
  EXPECT_GT(in_place, 0U);
}
INSTANTIATE_TEST_SUITE_P(Files, GgufGolden, testing::Values("llama", "qwen2"));

TEST(GgufGolden, FactorsOfALoraDecodeAsTheLibraryDoes) {
  const std::string folder = std::string(THORNS_TEST_DATA) + "/golden/gguf/";
  const auto adapter = open_adapter(real_disk(), folder + "lora.gguf");
  const auto expected = open_weights(real_disk(), folder + "lora.expected.safetensors");
  const TensorSource& factors = adapter->source();
  ASSERT_EQ(factors.tensors().size(), expected->tensors().size());
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& want = expected->tensors()[i];
    SCOPED_TRACE(want.name);
    ASSERT_EQ(factors.tensors()[i].name, want.name);
    ASSERT_EQ(factors.tensors()[i].shape, want.shape);
    factors.will_need(i, 0, want.elements);
    const std::vector<double> numbers = read_numbers(*expected, i);
    for (const std::uint64_t step : {want.elements, std::uint64_t{77}}) {
      for (std::uint64_t first = 0; first < want.elements; first += step) {
        const std::uint64_t count = std::min(step, want.elements - first);
        const std::vector<double> run = read_numbers(factors, i, first, count);
        EXPECT_TRUE(std::equal(run.begin(), run.end(), numbers.begin() + first)) << first;
      }
    }
  }
}

TEST(GgufGolden, PlainHalvesKeepTheirTypeAndMoveTheirRows) {
  const std::string path = std::string(THORNS_TEST_DATA) + "/golden/gguf/llama";
  const auto checkpoint = open_checkpoint(real_disk(), path + ".gguf");
  const auto expected = open_checkpoint(real_disk(), path + ".expected.safetensors");
  std::size_t compared = 0;
  std::size_t in_place = 0;
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& got = checkpoint->tensors()[i];
    if (got.dtype == Dtype::F32) continue;
    SCOPED_TRACE(got.name);
    ++compared;
    const auto numbers = test::decoded_run(*expected, i, 0, got.elements);
    std::vector<std::uint16_t> bits(got.elements);
    checkpoint->read(i, 0, std::as_writable_bytes(std::span(bits)));
    if (const auto part = checkpoint->map(i, 1, got.elements - 2)) {
      ++in_place;
      EXPECT_EQ(std::memcmp(part->bytes().data(), &bits[1], part->bytes().size()), 0);
    }
    for (std::size_t j = 0; j < bits.size(); ++j) {
      const float value =
          got.dtype == Dtype::F16 ? float_from_half(bits[j]) : float_from_bfloat(bits[j]);
      ASSERT_EQ(value, numbers[j]) << j;
    }
  }
  EXPECT_EQ(compared, 6U);
  EXPECT_GT(in_place, 0U);
  EXPECT_LT(in_place, compared) << "rows of q and k have moved";
}

TEST(GgufGolden, MetadataBecomesAConfiguration) {
  const std::string folder = std::string(THORNS_TEST_DATA) + "/golden/gguf/";
  const auto llama = open_checkpoint(real_disk(), folder + "llama.gguf");
  EXPECT_EQ(llama->architecture(), "LlamaForCausalLM");
  EXPECT_TRUE(llama->ties_embeddings());
  const Json& config = llama->config();
  EXPECT_EQ(config["hidden_size"], 256);
  EXPECT_EQ(config["num_hidden_layers"], 14);
  EXPECT_EQ(config["num_attention_heads"], 4);
  EXPECT_EQ(config["num_key_value_heads"], 2);
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
  EXPECT_EQ(config["rope_theta"], 500000.0);
  EXPECT_EQ(config["vocab_size"], 6);
  EXPECT_EQ(config["eos_token_id"], 2);
  EXPECT_EQ(config["attention_bias"], true);
  EXPECT_FALSE(config.contains("bos_token_id"));
  EXPECT_EQ(open_checkpoint(real_disk(), folder + "qwen2.gguf")->architecture(),
            "Qwen2ForCausalLM");
}

TEST(GgufMerge, AModelThatGgufCallsALlamaMayBeAMistral) {
  const std::string golden = std::string(THORNS_TEST_DATA) + "/golden/gguf/llama.gguf";
  const test::TempFolder temp;
  const auto checkpoint = open_checkpoint(real_disk(), golden);
  test::ModelFolder other;
  for (const TensorInfo& info : checkpoint->tensors()) {
    other.weights.add(info.name, Dtype::BF16, info.shape, test::random_scales(info.elements, 5));
  }
  for (const char* type : {"mistral", "qwen2"}) {
    other.config["model_type"] = type;
    other.write(temp / type);
    MergeOptions options;
    options.recipe = std::string("{GGUF+") + type + "}";
    options.inputs.paths = {temp.path()};
    options.inputs.models = {{"GGUF", golden}};
    options.output = temp / "out";
    Observer silent;
    EXPECT_EQ(plan(options, silent).problems.empty(), std::string(type) == "mistral") << type;
  }
}

TEST(GgufMerge, EqualsTheMergeOfTheDecodedTwinBitForBit) {
  const std::string golden = std::string(THORNS_TEST_DATA) + "/golden/gguf/llama";
  const test::TempFolder temp;
  std::filesystem::copy_file(golden + ".gguf", temp / "g.gguf");
  std::filesystem::copy_file(golden + ".expected.safetensors", temp / "twin.safetensors");
  const auto checkpoint = open_checkpoint(real_disk(), temp / "g.gguf");
  test::ModelFolder other;
  for (const TensorInfo& info : checkpoint->tensors()) {
    other.weights.add(info.name, Dtype::BF16, info.shape, test::random_scales(info.elements, 5));
  }
  other.write(temp / "other");
  const auto run = [&](const std::string& leaf, const std::string& output) {
    MergeOptions options;
    options.recipe = "{" + leaf + "+other}";
    options.inputs.paths = {temp.path()};
    options.output = temp / output;
    options.dtype = Dtype::BF16;
    options.threads = 2;
    Observer silent;
    return merge(options, silent);
  };
  const MergeSummary summary = run("g.gguf", "from-gguf");
  run("twin.safetensors", "from-twin");
  EXPECT_EQ(test::slurp(temp / "from-gguf/model.safetensors"),
            test::slurp(temp / "from-twin/model.safetensors"));
  const auto& warnings = summary.plan.warnings;
  EXPECT_TRUE(std::any_of(warnings.begin(), warnings.end(), [](const std::string& warning) {
    return warning.find("the output has no tokenizer") != std::string::npos;
  })) << "of no kind that is known";
  EXPECT_EQ(open_checkpoint(real_disk(), temp / "from-gguf")->architecture(), "LlamaForCausalLM");
}

}  // namespace
}  // namespace thorns
