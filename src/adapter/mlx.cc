// LoRA of mlx-lm: W + scale * (lora_b)ᵀ (lora_a)ᵀ with lora_a (in, rank) and lora_b (rank, out).
// `scale` is used as it is, not divided by the rank. DoRA's magnitudes are called `m`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "adapter/foreign.h"
#include "base/text.h"
#include "checkpoint/token_rows.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::string_view kA = ".lora_a";
constexpr std::string_view kB = ".lora_b";
constexpr std::string_view kMlxMagnitude = ".m";

struct MlxConfig {
  double scale = 0;
  bool dora = false;
};

MlxConfig read_config(const Json& config, const std::string& path) {
  const auto refuse = [&](ErrorCode code, const std::string& what, const std::string& hint = {}) {
    throw Error(code, fmt::format("`{}`: {}", path, what), FilePlace{path}, hint);
  };
  const std::string type = config.contains("fine_tune_type") && config["fine_tune_type"].is_string()
                               ? config["fine_tune_type"].get<std::string>()
                               : std::string("lora");
  if (type != "lora" && type != "dora") {
    refuse(ErrorCode::Unsupported, fmt::format("this is an adapter of MLX of the type `{}`", type),
           "lora and dora are folded; fuse any other with mlx_lm.fuse");
  }
  const auto inner = config.find("lora_parameters");
  const Json& parameters = inner != config.end() && inner->is_object() ? *inner : config;
  const auto scale = parameters.find("scale");
  if (scale == parameters.end() || !scale->is_number() || !std::isfinite(scale->get<double>())) {
    refuse(ErrorCode::Corrupt, "`lora_parameters.scale` is not a number",
           "mlx-lm writes the number by which its update is multiplied there");
  }
  return {scale->get<double>(), type == "dora"};
}

}  // namespace

bool is_mlx_config(const Json& config) {
  return config.is_object() && !config.contains("peft_type") &&
         (config.contains("lora_parameters") || config.contains("fine_tune_type"));
}

bool has_mlx_names(const ForeignFile& file) {
  const auto& tensors = file.header.tensors;
  return std::any_of(tensors.begin(), tensors.end(), [](const StoredTensor& tensor) {
    return tensor.info.name.ends_with(kA) || tensor.info.name.ends_with(kB);
  });
}

ForeignAdapter tell_mlx(const ForeignFile& file, const Json& config,
                        const std::string& config_path) {
  const MlxConfig read = read_config(config, config_path);
  ForeignAdapter told;
  Scales scales;
  std::vector<std::string> others;
  for (const StoredTensor& tensor : file.header.tensors) {
    const std::string& name = tensor.info.name;
    const bool is_a = name.ends_with(kA);
    const std::string_view mark = is_a ? kA : name.ends_with(kB) ? kB : kMlxMagnitude;
    if (!name.ends_with(mark) || name.size() == mark.size()) {
      others.push_back(name);
      continue;
    }
    const std::string module = name.substr(0, name.size() - mark.size());
    if (mark == kMlxMagnitude) {
      told.tensors.push_back(tensor);
      told.tensors.back().info.name = peft_name(module, "lora_magnitude_vector");
      continue;
    }
    StoredTensor factor = transposed(file, tensor);
    const std::uint64_t rank = factor.info.shape[is_a ? 0 : 1];
    if (is_a) scales.set(module, rank, read.scale * static_cast<double>(rank));
    factor.info.name = is_embedding(module + ".weight")
                           ? peft_name(module, is_a ? "lora_embedding_A" : "lora_embedding_B")
                           : peft_name(module, is_a ? "lora_A.weight" : "lora_B.weight");
    told.tensors.push_back(std::move(factor));
  }
  if (!others.empty()) {
    file.refuse(ErrorCode::Unsupported,
                fmt::format("holds tensors that are no LoRA of MLX: {}", list_text(others)),
                others.front(), "fuse the adapter with mlx_lm.fuse");
  }
  told.config["peft_type"] = "LORA";
  if (read.dora) told.config["use_dora"] = true;
  if (config.contains("model") && config["model"].is_string()) {
    told.config["base_model_name_or_path"] = config["model"];
  }
  scales.write(told.config, "lora_alpha");
  return told;
}

}  // namespace thorns
