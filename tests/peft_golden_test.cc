// Adapters that the real PEFT library made, against what its own merge makes of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>

#include "adapter/adapter.h"
#include "base/convert.h"
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

// base + scale * U V, straight from the definition.
void add_low_rank(const Adapter& adapter, const ResolvedUpdate& resolved, std::uint64_t rows,
                  std::uint64_t columns, std::vector<double>& to) {
  const std::uint64_t rank = resolved.update->rank;
  std::vector<float> u(rows * rank);
  std::vector<float> v(rank * columns);
  load_factors(adapter, *resolved.update, resolved.base, u, v);
  for (std::uint64_t i = 0; i < rows; ++i) {
    for (std::uint64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (std::uint64_t k = 0; k < rank; ++k) {
        sum += static_cast<double>(u[i * rank + k]) * static_cast<double>(v[k * columns + j]);
      }
      to[i * columns + j] += resolved.update->scale * sum;
    }
  }
}

// Every tensor of the base after the fold, in float64, by name.
std::map<std::string, std::vector<double>> fold(const TensorSource& base, const Adapter& adapter) {
  std::map<std::string, std::vector<double>> merged;
  for (std::size_t i = 0; i < base.tensors().size(); ++i) {
    merged[base.tensors()[i].name] = values_of(base, i);
  }
  FoldTarget target;
  target.tensors = base.tensors();
  const auto all = resolve(adapter, target);
  EXPECT_EQ(all.size(), adapter.updates().size());
  for (const ResolvedUpdate& resolved : all) {
    std::vector<double>& values = merged.at(resolved.tensor);
    const auto& shape = base.tensors()[*base.find(resolved.tensor)].shape;
    switch (resolved.update->kind) {
      case UpdateKind::LowRank:
        add_low_rank(adapter, resolved, shape.at(0), values.size() / shape.at(0), values);
        break;
      case UpdateKind::Add: {
        const auto change = values_of(adapter.source(), resolved.update->first);
        for (std::size_t i = 0; i < values.size(); ++i) {
          values[i] += resolved.update->scale * change.at(i);
        }
        break;
      }
      case UpdateKind::Replace:
        values = values_of(adapter.source(), resolved.update->first);
        break;
      default:
        ADD_FAILURE() << "not a sum";
    }
  }
  return merged;
}

// The same, folded and written by the whole program.
std::map<std::string, std::vector<double>> merged_by_the_engine(const std::string& folder) {
  const test::TempFolder place;
  std::filesystem::create_directories(place / "base");
  std::filesystem::copy_file(folder + "/base.safetensors", place / "base/model.safetensors");
  test::write_file(place / "base/config.json", R"({"model_type":"toy"})");
  std::filesystem::copy(folder + "/adapter", place / "L", std::filesystem::copy_options::recursive);
  MergeOptions options;
  options.recipe = "M[L]";
  options.inputs.models = {{"M", place / "base"}};
  options.inputs.adapters = {{"L", place / "L"}};
  options.output = place / "out";
  options.threads = 2;
  Observer silent;
  merge(options, silent);
  const auto result = open_weights(real_disk(), place / "out/model.safetensors");
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

class FoldedGolden : public testing::TestWithParam<const char*> {};

TEST_P(FoldedGolden, EqualsPeft) {
  const std::string folder = kGolden + "folded/" + GetParam();
  const auto base = open_weights(real_disk(), folder + "/base.safetensors");
  const auto expected = open_weights(real_disk(), folder + "/expected.safetensors");
  const auto adapter = open_adapter(real_disk(), folder + "/adapter");
  EXPECT_TRUE(adapter->warnings().empty());
  const auto merged = fold(*base, *adapter);
  const auto written = merged_by_the_engine(folder);
  ASSERT_EQ(merged.size(), expected->tensors().size());
  ASSERT_EQ(written.size(), expected->tensors().size());
  std::size_t changed = 0;
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& info = expected->tensors()[i];
    std::vector<double> right = values_of(*expected, i);
    const std::vector<double> before = values_of(*base, *base->find(info.name));
    if (peft_adds_twice(GetParam(), info.name)) {
      for (std::size_t k = 0; k < right.size(); ++k) right[k] = (right[k] + before[k]) / 2;
    }
    const std::vector<double>& got = merged.at(info.name);
    ASSERT_EQ(got.size(), right.size()) << info.name;
    for (std::size_t k = 0; k < right.size(); ++k) {
      if (info.dtype == Dtype::BF16) {
        ASSERT_EQ(float_from_bfloat(test::bfloat_bits(got[k])), right[k]) << info.name << " " << k;
        ASSERT_EQ(written.at(info.name).at(k), right[k]) << info.name << " " << k;
      } else {
        ASSERT_NEAR(got[k], right[k], 2e-6) << info.name << " " << k;
        ASSERT_NEAR(written.at(info.name).at(k), right[k], 2e-6) << info.name << " " << k;
      }
    }
    changed += right != before;
  }
  EXPECT_GT(changed, 0U);
}

// Cases whose updates are no plain sums: through a whole merge.
class MergedGolden : public testing::TestWithParam<const char*> {};

TEST_P(MergedGolden, EqualsPeft) {
  const std::string folder = kGolden + "folded/" + GetParam();
  const auto expected = open_weights(real_disk(), folder + "/expected.safetensors");
  const test::TempFolder out;
  MergeOptions options;
  options.recipe = "Base[L]";
  options.inputs.models = {{"Base", folder + "/base.safetensors"}};
  options.inputs.adapters = {{"L", folder + "/adapter"}};
  options.output = out / "merged";
  Observer silent;
  merge(options, silent);
  const auto merged = open_weights(real_disk(), options.output + "/model.safetensors");
  ASSERT_EQ(merged->tensors().size(), expected->tensors().size());
  const auto base = open_weights(real_disk(), folder + "/base.safetensors");
  std::size_t changed = 0;
  for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
    const TensorInfo& info = expected->tensors()[i];
    ASSERT_EQ(merged->tensors()[i].name, info.name);
    ASSERT_EQ(merged->tensors()[i].dtype, info.dtype);
    const std::vector<double> right = values_of(*expected, i);
    const std::vector<double> got = values_of(*merged, i);
    for (std::size_t k = 0; k < right.size(); ++k) {
      if (info.dtype == Dtype::BF16) {
        ASSERT_EQ(got[k], right[k]) << info.name << " " << k;
      } else {
        ASSERT_NEAR(got[k], right[k], 2e-6) << info.name << " " << k;
      }
    }
    changed += right != values_of(*base, *base->find(info.name));
  }
  EXPECT_GT(changed, 0U);
}

INSTANTIATE_TEST_SUITE_P(Peft, MergedGolden,
                         testing::Values("dora_linear", "dora_bf16", "dora_c1", "dora_conv2",
                                         "dora_cv1", "dora_emb", "ia3_out_lin", "ia3_ff_lin",
                                         "ia3_out_c1", "ia3_ff_c1", "lora_linear"));

INSTANTIATE_TEST_SUITE_P(Peft, FoldedGolden,
                         testing::Values("lora_linear", "lora_rslora", "lora_rank_alpha_pattern",
                                         "lora_bias_all", "lora_bias_lora_only", "lora_lora_bias",
                                         "lora_modules_to_save", "lora_bf16_base_f32_adapter",
                                         "lora_c1", "lora_emb", "lora_cv1", "lora_conv2",
                                         "lora_conv1x1", "lora_mha", "ln_tuning",
                                         "adalora_linear"));

TEST(RefusedGolden, EveryOtherTypeIsRefusedByName) {
  // By the beginning of the case's name; the first that fits.
  const std::pair<const char*, const char*> names[] = {
      {"boft", "BOFT"},
      {"fourierft", "FOURIERFT"},
      {"hira", "HIRA"},
      {"hra", "HRA"},
      {"loha", "LOHA"},
      {"lokr", "LOKR"},
      {"lora_trainable", "trainable tokens"},
      {"miss", "MISS"},
      {"moe", "target_parameters"},
      {"oft", "OFT"},
      {"randlora", "RANDLORA"},
      {"shira", "SHIRA"},
      {"trainable_tokens", "TRAINABLE_TOKENS"},
      {"vera", "VERA"},
  };
  std::size_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden + "refused")) {
    const std::string name = entry.path().filename();
    SCOPED_TRACE(name);
    ++cases;
    const Error error = test::error_of([&] { open_adapter(real_disk(), entry.path().string()); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    const auto* row = std::find_if(std::begin(names), std::end(names),
                                   [&](const auto& row) { return name.starts_with(row.first); });
    ASSERT_NE(row, std::end(names));
    EXPECT_NE(error.message().find(row->second), std::string::npos) << error.message();
  }
  EXPECT_EQ(cases, 27U);
}

// The tensors alone give the type away, too: a configuration may say LORA and lie.
TEST(RefusedGolden, TensorsOfOtherTypesAreNotTakenForLora) {
  for (const auto& entry : std::filesystem::directory_iterator(kGolden + "refused")) {
    const std::string name = entry.path().filename();
    SCOPED_TRACE(name);
    const auto source =
        open_weights(real_disk(), entry.path().string() + "/adapter_model.safetensors");
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
