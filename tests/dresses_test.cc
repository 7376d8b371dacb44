// The published key over five leaves in five dresses, as the Hub holds them: PyTorch's zip archive
// in shards, its format before that, safetensors with more tokens, FP8 with scales, GGUF. What each
// leaf stands for is computed here, by the formula of its format; the merge by the float64 oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>

#include "checkpoint/checkpoint.h"
#include "support/gguf_builder.h"
#include "support/oracle.h"
#include "support/pytorch_builder.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

using namespace testing_support;
using test::GgufBuilder;

constexpr std::uint64_t kHidden = 64;
constexpr std::uint64_t kHeads = 4;
constexpr std::uint64_t kKeyHeads = 2;
constexpr std::uint64_t kTokens = 40;    // of four vocabularies
constexpr std::uint64_t kMoreRows = 43;  // of the fifth
constexpr std::uint64_t kLayers = 2;

struct Value {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::vector<double> values;

  bool is_matrix_of_layer() const { return shape.size() == 2 && name.starts_with("model.layers."); }
};
using Values = std::vector<Value>;

const nlohmann::ordered_json kConfig = {{"architectures", {"LlamaForCausalLM"}},
                                        {"model_type", "llama"},
                                        {"hidden_size", kHidden},
                                        {"num_hidden_layers", kLayers},
                                        {"num_attention_heads", kHeads},
                                        {"num_key_value_heads", kKeyHeads},
                                        {"tie_word_embeddings", false},
                                        {"torch_dtype", "float16"}};

// A fine-tune of one base, some 30 degrees away from it.
Values fine_tune(std::uint64_t rows, std::uint64_t seed) {
  Values tensors;
  std::uint64_t base_seed = 1;
  const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
    std::size_t elements = 1;
    for (const std::uint64_t extent : shape) elements *= extent;
    const auto base = normal_values(elements, ++base_seed);
    const auto change = normal_values(elements, 1000 * seed + base_seed);
    std::vector<double> values(elements);
    for (std::size_t e = 0; e < elements; ++e) values[e] = base[e] + 0.6 * change[e];
    tensors.push_back({name, std::move(shape), std::move(values)});
  };
  add("model.embed_tokens.weight", {rows, kHidden});
  for (std::uint64_t layer = 0; layer < kLayers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    add(at + "input_layernorm.weight", {kHidden});
    add(at + "self_attn.q_proj.weight", {kHidden, kHidden});
    add(at + "self_attn.k_proj.weight", {kHidden / 2, kHidden});
    add(at + "mlp.down_proj.weight", {kHidden, 2 * kHidden});
  }
  add("model.norm.weight", {kHidden});
  add("lm_head.weight", {rows, kHidden});
  return tensors;
}

void round_all(Values& model, Dtype dtype) {
  for (Value& tensor : model) {
    for (double& value : tensor.values) value = reference::round_to(dtype, value);
  }
}

// ---------------------------------------------------------------- the dresses; each returns what
// the stored model stands for

std::vector<std::int64_t> signed_shape(const Value& tensor) {
  return {tensor.shape.begin(), tensor.shape.end()};
}
std::vector<std::int64_t> strides_of(const Value& tensor) {
  if (tensor.shape.size() == 1) return {1};
  return {static_cast<std::int64_t>(tensor.shape[1]), 1};
}

void write_config(const std::string& folder, const nlohmann::ordered_json& config) {
  std::filesystem::create_directories(folder);
  test::write_file(folder + "/config.json", config.dump());
}

std::string pickled(const Values& model, std::size_t begin, std::size_t end,
                    const std::string& first_key) {
  test::PyItems items;
  for (std::size_t i = begin; i < end; ++i) {
    const auto elements = static_cast<std::int64_t>(model[i].values.size());
    const std::string storage =
        test::py_storage("HalfStorage", first_key + std::to_string(i - begin), elements);
    items.emplace_back(model[i].name,
                       test::py_tensor(storage, 0, signed_shape(model[i]), strides_of(model[i])));
  }
  return test::py_pickle(test::py_dict(items));
}

Values as_sharded_zip(const std::string& folder, Values model) {
  round_all(model, Dtype::F16);
  write_config(folder, kConfig);
  nlohmann::ordered_json index = {{"metadata", {{"total_size", 0}}},
                                  {"weight_map", nlohmann::ordered_json::object()}};
  const std::size_t half = model.size() / 2;
  for (const bool second : {false, true}) {
    const std::string file =
        second ? "pytorch_model-00002-of-00002.bin" : "pytorch_model-00001-of-00002.bin";
    const std::size_t begin = second ? half : 0;
    const std::size_t end = second ? model.size() : half;
    std::vector<std::string> storages;
    for (std::size_t i = begin; i < end; ++i) {
      storages.push_back(test::encode(Dtype::F16, model[i].values));
      index["weight_map"][model[i].name] = file;
    }
    test::write_file(folder + "/" + file,
                     test::torch_zip(pickled(model, begin, end, ""), storages));
  }
  test::write_file(folder + "/pytorch_model.bin.index.json", index.dump());
  return model;
}

Values as_legacy(const std::string& folder, Values model) {
  round_all(model, Dtype::F16);
  write_config(folder, kConfig);
  std::vector<test::LegacyStorage> storages;
  for (std::size_t i = 0; i < model.size(); ++i) {
    storages.push_back({"9" + std::to_string(i), model[i].values.size(),
                        test::encode(Dtype::F16, model[i].values)});
  }
  test::write_file(folder + "/pytorch_model.bin",
                   test::torch_legacy(pickled(model, 0, model.size(), "9"), storages));
  return model;
}

Values as_safetensors(const std::string& folder, Values model) {
  round_all(model, Dtype::F16);
  test::ModelFolder files;
  files.config = kConfig;
  for (const Value& tensor : model)
    files.weights.add(tensor.name, Dtype::F16, tensor.shape, tensor.values);
  files.write(folder);
  return model;
}

// E4M3: sign, four bits of exponent with bias 7, three of fraction; no infinities.
double e4m3(unsigned code) {
  const int exponent = static_cast<int>(code >> 3 & 15U);
  const double fraction = code & 7U;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (code & 128U) != 0 ? -magnitude : magnitude;
}

constexpr std::uint64_t kBlock = 16;  // rows and columns that share a scale

Values as_fp8(const std::string& folder, Values model) {
  round_all(model, Dtype::F16);
  test::ModelFolder files;
  files.config = kConfig;
  files.config["quantization_config"] = {{"quant_method", "fp8"},
                                         {"weight_block_size", {kBlock, kBlock}}};
  for (Value& tensor : model) {
    if (!tensor.is_matrix_of_layer()) {
      files.weights.add(tensor.name, Dtype::F16, tensor.shape, tensor.values);
      continue;
    }
    const std::uint64_t columns = tensor.shape[1];
    const std::vector<std::uint64_t> grid = {tensor.shape[0] / kBlock, columns / kBlock};
    std::vector<double> scales = normal_values(grid[0] * grid[1], 77);
    for (double& scale : scales) scale = static_cast<float>(0.0005 + std::abs(scale) / 100);
    std::string codes;
    for (std::uint64_t e = 0; e < tensor.values.size(); ++e) {
      const double scale = scales[e / columns / kBlock * grid[1] + e % columns / kBlock];
      unsigned nearest = 0;
      for (unsigned code = 0; code < 256; ++code) {
        if ((code & 127U) == 127U) continue;  // NaN
        const double wanted = tensor.values[e] / scale;
        if (std::abs(e4m3(code) - wanted) < std::abs(e4m3(nearest) - wanted)) nearest = code;
      }
      codes += static_cast<char>(nearest);
      tensor.values[e] = e4m3(nearest) * scale;
    }
    files.weights.add_bytes(tensor.name, Dtype::F8E4M3, tensor.shape, codes);
    files.weights.add(tensor.name + "_scale_inv", Dtype::F32, grid, scales);
  }
  files.write_sharded(folder, 3);
  return model;
}

// Row 2 i + t of a head is row t D/2 + i of transformers'.
std::vector<double> for_neighbours(const Value& tensor, std::uint64_t heads) {
  const std::uint64_t columns = tensor.shape[1];
  const std::uint64_t rows = tensor.shape[0] / heads;
  std::vector<double> moved(tensor.values.size());
  for (std::uint64_t row = 0; row < tensor.shape[0]; ++row) {
    const std::uint64_t within = row % rows;
    const std::uint64_t from = row - within + within % 2 * (rows / 2) + within / 2;
    std::copy_n(tensor.values.begin() + static_cast<std::ptrdiff_t>(from * columns), columns,
                moved.begin() + static_cast<std::ptrdiff_t>(row * columns));
  }
  return moved;
}

// Q8_0: blocks of 32 whole numbers and the half that they are multiplied by.
std::string as_q8(std::vector<double>& values) {
  std::string bytes;
  for (std::size_t block = 0; block < values.size(); block += 32) {
    double most = 0;
    for (std::size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(values[block + i]));
    const double scale = reference::round_to(Dtype::F16, most / 127);
    bytes += test::encode(Dtype::F16, {scale});
    for (std::size_t i = 0; i < 32; ++i) {
      double& value = values[block + i];
      const double code = std::clamp(std::round(value / scale), -127.0, 127.0);
      bytes += static_cast<char>(static_cast<std::int8_t>(code));
      value = scale * code;
    }
  }
  return bytes;
}

Values as_gguf(const std::string& path, Values model) {
  GgufBuilder file;
  file.text("general.architecture", "llama").number("llama.block_count", kLayers);
  file.number("llama.embedding_length", kHidden).number("llama.feed_forward_length", 2 * kHidden);
  file.number("llama.attention.head_count", kHeads).number("llama.context_length", 128);
  file.number("llama.attention.head_count_kv", kKeyHeads);
  file.real("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  const std::vector<std::pair<std::string, std::string>> names = {
      {"model.embed_tokens", "token_embd"}, {"model.layers.", "blk."},
      {"input_layernorm", "attn_norm"},     {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},       {"mlp.down_proj", "ffn_down"},
      {"model.norm", "output_norm"},        {"lm_head", "output"}};
  for (Value& tensor : model) {
    std::string name = tensor.name;
    for (const auto& [from, to] : names) {
      if (const std::size_t at = name.find(from); at != std::string::npos)
        name.replace(at, from.size(), to);
    }
    if (tensor.shape.size() == 1) {
      for (double& value : tensor.values) value = static_cast<float>(value);
      file.floats(name, tensor.shape, tensor.values);
      continue;
    }
    const bool query = name.find("attn_q") != std::string::npos;
    if (query || name.find("attn_k") != std::string::npos) {
      Value moved = tensor;
      moved.values = for_neighbours(tensor, query ? kHeads : kKeyHeads);
      const std::string bytes = as_q8(moved.values);
      as_q8(tensor.values);  // rows are quantised alone: moving them changes nothing
      file.tensor(name, tensor.shape, GgufBuilder::kQ8_0, bytes);
    } else {
      file.tensor(name, tensor.shape, GgufBuilder::kQ8_0, as_q8(tensor.values));
    }
  }
  test::write_file(path, file.bytes());
  return model;
}

// ---------------------------------------------------------------- the merge

void write_adapter(const std::string& folder, const MemoryAdapter& adapter, double scale) {
  const auto& source = static_cast<const MemoryCheckpoint&>(adapter.source());
  const Update& update = adapter.updates().front();
  test::SafetensorsBuilder weights;
  for (const MemoryTensor& tensor : source.data()) {
    weights.add("base_model.model." + tensor.name, tensor.dtype, tensor.shape, tensor.values());
  }
  std::filesystem::create_directories(folder);
  weights.write(folder + "/adapter_model.safetensors");
  const nlohmann::ordered_json config = {
      {"peft_type", "LORA"},
      {"r", update.rank},
      {"lora_alpha", scale * static_cast<double>(update.rank)},
      {"target_modules", {update.module.substr(update.module.rfind('.') + 1)}}};
  test::write_file(folder + "/adapter_config.json", config.dump());
}

Models oracle_models(const std::map<std::string, Values>& leaves) {
  Models models;
  for (const auto& [name, tensors] : leaves) {
    for (const Value& value : tensors) {
      std::vector<double> values = value.values;
      std::vector<std::uint64_t> shape = value.shape;
      if (shape[0] == kMoreRows) {  // the rows that all have; the others are compared apart
        shape[0] = kTokens;
        values.resize(kTokens * kHidden);
      }
      const auto bytes = std::as_bytes(std::span(values));
      models[name].push_back({value.name, Dtype::F64, shape, {bytes.begin(), bytes.end()}});
    }
  }
  return models;
}

TEST(Dresses, ThePublishedKeyOverFiveFormatsIsTheFloat64Merge) {
  const std::string key =
      "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})";
  const test::TempFolder temp;
  std::map<std::string, Values> leaves;
  leaves["NousHermes"] = as_sharded_zip(temp / "NousHermes", fine_tune(kTokens, 1));
  leaves["Chronos"] = as_legacy(temp / "Chronos", fine_tune(kTokens, 2));
  leaves["Platypus"] = as_safetensors(temp / "Platypus", fine_tune(kMoreRows, 3));
  leaves["AiroborosM2.0"] = as_fp8(temp / "AiroborosM2.0", fine_tune(kTokens, 4));
  leaves["Holodeck"] = as_gguf(temp / "holodeck.Q8_0.gguf", fine_tune(kTokens, 5));
  Loras loras;
  const auto add_lora = [&](const std::string& name, const std::string& module,
                            std::uint64_t columns, double scale, std::uint64_t seed) {
    loras[name] = lora(name, module, kHidden, columns, 4, scale, seed);
    write_adapter(temp / name, *loras[name], scale);
  };
  add_lora("Kimiko", "model.layers.0.self_attn.q_proj", kHidden, 0.5, 11);
  add_lora("Janine", "model.layers.1.mlp.down_proj", 2 * kHidden, 2.0, 12);
  add_lora("LIMA RP", "model.layers.0.self_attn.q_proj", kHidden, 1.0, 13);

  MergeOptions options;
  options.recipe = key;
  options.inputs.paths = {temp.path()};
  options.inputs.models = {{"Holodeck", temp / "holodeck.Q8_0.gguf"}};
  options.output = temp / "out";
  options.threads = 2;
  Observer silent;
  const MergeSummary summary = merge(options, silent);

  const KeyBinder binder({"NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck"},
                         {"Kimiko", "Janine", "LIMA RP"});
  const Recipe recipe = binder.bind(key);
  const Models models = oracle_models(leaves);
  const Oracle oracle(recipe, models, loras);
  const auto out = open_checkpoint(real_disk(), temp / "out");
  ASSERT_EQ(out->tensors().size(), leaves["Platypus"].size());
  Exactness exactness;
  for (const Value& of_platypus : leaves["Platypus"]) {
    const std::size_t index = *out->find(of_platypus.name);
    const TensorInfo& info = out->tensors()[index];
    EXPECT_EQ(info.shape, of_platypus.shape) << info.name;
    EXPECT_EQ(info.dtype, Dtype::F16) << info.name;
    std::vector<std::byte> bytes(info.bytes());
    out->read(index, 0, bytes);
    const std::vector<double> exact = oracle.tensor(info.name);
    const auto common = bytes.begin() + static_cast<std::ptrdiff_t>(exact.size() * 2);
    exactness.check(Dtype::F16, {bytes.begin(), common}, exact, info.name);
    const std::vector<double> more = reference::load_all(
        Dtype::F16, bytes.data() + exact.size() * 2, info.elements - exact.size());
    EXPECT_TRUE(std::equal(more.begin(), more.end(),
                           of_platypus.values.end() - static_cast<std::ptrdiff_t>(more.size())))
        << info.name;
  }
  EXPECT_GE(exactness.share(), 0.999);
  const auto said = [&](const std::string& part) {
    return std::any_of(
        summary.plan.warnings.begin(), summary.plan.warnings.end(),
        [&](const std::string& warning) { return warning.find(part) != std::string::npos; });
  };
  EXPECT_TRUE(said("`AiroborosM2.0` is decoded from scaled FP8"));
  EXPECT_TRUE(said("`Holodeck` is decoded from GGUF Q8_0"));
  EXPECT_TRUE(said("the vocabularies differ"));
  EXPECT_EQ(out->config()["vocab_size"], kMoreRows);
}

}  // namespace
}  // namespace thorns
