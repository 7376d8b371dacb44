#include "adapter/foreign.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::array<std::string_view, 9> kKohyaTags = {
    "lora_unet_",       "lora_te_",       "lora_te1_", "lora_te2_", "lora_te3_",
    "lora_prior_unet_", "lora_prior_te_", "lycoris_",  "oft_unet_"};

// What diffusers puts before the names of the models that a pipeline is made of.
constexpr std::array<std::string_view, 6> kPipelineParts = {
    "unet", "text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "diffusion_model"};

// The value that most modules have; of several the least.
template <typename Value>
Value commonest(const std::vector<Value>& values) {
  std::map<Value, std::size_t> counts;
  for (const Value& value : values) ++counts[value];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

}  // namespace

void ForeignFile::refuse(ErrorCode code, const std::string& what, const std::string& tensor,
                         const std::string& hint) const {
  Where where = FilePlace{path};
  if (!tensor.empty()) where = TensorPlace{tensor, std::nullopt, path};
  throw Error(code, fmt::format("the adapter `{}` {}", path, what), where, hint);
}

std::string_view kohya_tag(std::string_view module) {
  const auto* const tag =
      std::find_if(kKohyaTags.begin(), kKohyaTags.end(),
                   [&](std::string_view one) { return module.starts_with(one); });
  return tag == kKohyaTags.end() ? std::string_view() : *tag;
}

std::string_view pipeline_part(std::string_view module) {
  const auto* const part =
      std::find_if(kPipelineParts.begin(), kPipelineParts.end(), [&](std::string_view one) {
        return module.starts_with(one) && module.size() > one.size() && module[one.size()] == '.';
      });
  return part == kPipelineParts.end() ? kohya_tag(module) : *part;
}

std::string peft_name(std::string_view module, std::string_view ending) {
  return fmt::format("base_model.model.{}.{}", module, ending);
}

StoredTensor transposed(const ForeignFile& file, StoredTensor tensor) {
  std::vector<std::uint64_t>& shape = tensor.info.shape;
  if (shape.size() != 2) {
    file.refuse(ErrorCode::Unsupported,
                fmt::format("has a factor of shape {}, expected a matrix: `{}`", shape_text(shape),
                            tensor.info.name),
                tensor.info.name,
                shape.size() == 3 ? "LoRA on all experts of a layer at once is not folded" : "");
  }
  if (tensor.strides.empty()) tensor.strides = {shape[1], 1};
  std::swap(shape[0], shape[1]);
  std::swap(tensor.strides[0], tensor.strides[1]);
  return tensor;
}

void Scales::set(const std::string& module, std::uint64_t rank, double alpha) {
  modules_[module] = {rank, alpha};
}

void Scales::write(Json& config, const char* alpha_name) const {
  std::vector<std::uint64_t> ranks;
  std::vector<double> alphas;
  for (const auto& [module, scale] : modules_) {
    ranks.push_back(scale.rank);
    alphas.push_back(scale.alpha);
  }
  if (modules_.empty()) return;
  const std::uint64_t rank = commonest(ranks);
  const double alpha = commonest(alphas);
  config["r"] = rank;
  config[alpha_name] = alpha;
  // Patterns are expressions for the end of a name; ^ makes them the whole of it.
  for (const auto& [module, scale] : modules_) {
    if (scale.rank != rank) config["rank_pattern"]["^" + module] = scale.rank;
    if (scale.alpha != alpha) config["alpha_pattern"]["^" + module] = scale.alpha;
  }
}

}  // namespace thorns
