// Adapters that the real PEFT library made, against what its own merge makes of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>

#include "adapter/adapter.h"
#include "base/convert.h"
#include "checkpoint/config.h"
#include "checkpoint/weights_file.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

const std::string kGolden = std::string(THORNS_TEST_DATA) + "/golden/peft/";

std::vector<double> values_of(const TensorSource& source, std::size_t tensor) {
  const TensorInfo& info = source.tensors()[tensor];
  std::vector<std::byte> bytes(info.bytes());
  source.read(tensor, 0, bytes);
  std::vector<double> values;
  for (std::size_t i = 0; i < info.elements; ++i) {
    const std::byte* at = bytes.data() + i * size_of(info.dtype);
    float single = 0;
    std::uint16_t half = 0;
    switch (info.dtype) {
      case Dtype::F32:
        std::memcpy(&single, at, sizeof single);
        values.push_back(single);
        break;
      case Dtype::BF16:
        std::memcpy(&half, at, sizeof half);
        values.push_back(float_from_bfloat(half));
        break;
      default:
        throw std::logic_error("golden files are F32 or BF16");
    }
  }
  return values;
}

// The folders in one of the two of the golden folder's, by name.
std::vector<std::string> cases_of(const char* folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden + folder)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Every tensor, by name, after the adapter of the case is folded and written by the whole program.
std::map<std::string, std::vector<double>> merged(const std::string& folder) {
  const test::TempFolder out;
  MergeOptions options;
  options.recipe = "Base[L]";
  options.inputs.models = {{"Base", folder + "/base.safetensors"}};
  options.inputs.adapters = {{"L", folder + "/adapter"}};
  options.output = out / "merged";
  options.threads = 2;
  Observer silent;
  merge(options, silent);
  const auto result = open_weights(real_disk(), options.output + "/model.safetensors");
  std::map<std::string, std::vector<double>> values;
  for (std::size_t i = 0; i < result->tensors().size(); ++i) {
    values[result->tensors()[i].name] = values_of(*result, i);
  }
  return values;
}

// PEFT's merge of multi-head attention adds the change of out_proj twice. What it made is checked
// as that: once more the change that is right.
bool peft_adds_twice(const std::string& test, const std::string& tensor) {
  return test == "lora_mha" && tensor == "mha.out_proj.weight";
}

class FoldedGolden : public testing::TestWithParam<std::string> {};

TEST_P(FoldedGolden, EqualsPeft) {
  const std::string folder = kGolden + "folded/" + GetParam();
  const auto base = open_weights(real_disk(), folder + "/base.safetensors");
  const auto expected = open_weights(real_disk(), folder + "/expected.safetensors");
  const bool warned = GetParam() == "oft_017_series";  // PEFT 0.17 had another series
  EXPECT_EQ(open_adapter(real_disk(), folder + "/adapter")->warnings().size(), warned ? 1U : 0U);
  const auto written = merged(folder);
  ASSERT_EQ(written.size(), expected->tensors().size());
  std::size_t changed = 0;
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& info = expected->tensors()[i];
    std::vector<double> right = values_of(*expected, i);
    const std::vector<double> before = values_of(*base, *base->find(info.name));
    if (peft_adds_twice(GetParam(), info.name)) {
      for (std::size_t k = 0; k < right.size(); ++k) right[k] = (right[k] + before[k]) / 2;
    }
    const std::vector<double>& got = written.at(info.name);
    ASSERT_EQ(got.size(), right.size()) << info.name;
    for (std::size_t k = 0; k < right.size(); ++k) {
      if (info.dtype == Dtype::F32) {
        ASSERT_NEAR(got[k], right[k], 2e-6) << info.name << " " << k;
      } else {
        ASSERT_EQ(got[k], right[k]) << info.name << " " << k;
      }
    }
    changed += right != before;
  }
  EXPECT_GT(changed, 0U);
}

INSTANTIATE_TEST_SUITE_P(Peft, FoldedGolden, testing::ValuesIn(cases_of("folded")),
                         [](const auto& info) { return info.param; });

TEST(RefusedGolden, EveryOtherTypeIsRefusedByName) {
  for (const std::string& name : cases_of("refused")) {
    SCOPED_TRACE(name);
    const std::string folder = kGolden + "refused/" + name;
    const Json config = read_json_file(real_disk(), folder + "/adapter_config.json");
    std::string reason = config.at("peft_type");
    if (reason == "LORA") {  // an option of it
      reason = name.starts_with("moe") ? "target_parameters" : "trainable tokens";
    }
    const Error error = test::error_of([&] { open_adapter(real_disk(), folder); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(reason), std::string::npos) << error.message();
  }
}

// The tensors alone give the type away, too: a configuration may say LORA and lie.
TEST(RefusedGolden, TensorsOfOtherTypesAreNotTakenForLora) {
  for (const std::string& name : cases_of("refused")) {
    SCOPED_TRACE(name);
    const auto source =
        open_weights(real_disk(), kGolden + "refused/" + name + "/adapter_model.safetensors");
    test::SafetensorsBuilder copy;
    for (std::size_t i = 0; i < source->tensors().size(); ++i) {
      const TensorInfo& info = source->tensors()[i];
      std::string bytes(info.bytes(), '\0');
      source->read(i, 0, std::as_writable_bytes(std::span(bytes)));
      copy.add_bytes(info.name, info.dtype, info.shape, bytes);
    }
    const test::TempFolder folder;
    copy.write(folder / "adapter_model.safetensors");
    test::write_file(folder / "adapter_config.json", R"({"peft_type":"LORA"})");
    EXPECT_EQ(test::error_of([&] { open_adapter(real_disk(), folder.path()); }).code(),
              ErrorCode::Unsupported);
  }
}

}  // namespace
}  // namespace thorns
