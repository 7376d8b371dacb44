// LoRA (Hu et al. 2021): W + alpha / r * B A; rsLoRA (Kalajdzievski 2023): alpha / sqrt(r) instead.
// DoRA (Liu et al. 2024) scales what comes of it, line by line (dora.cc).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "adapter/bdlora.h"
#include "adapter/dora.h"
#include "adapter/experts.h"
#include "adapter/family.h"
#include "adapter/foreign.h"
#include "adapter/keys.h"
#include "adapter/trainable_tokens.h"
#include "adapter/tucker.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostExperts = 8192;  // far more than models have
constexpr const char* kMagnitude = "lora_magnitude_vector";

bool is_dora(const ConfigFields& config) { return config.flag("use_dora"); }
bool is_rslora(const ConfigFields& config) { return config.flag("use_rslora"); }

// The product of the factors `mark`A and `mark`B, as an update of the weight.
Update low_rank(FamilyModule& module, const std::string& mark, bool embedding) {
  Update update;
  update.kind = UpdateKind::LowRank;
  update.parameter = "weight";
  if (const auto blocks = embedding ? nullptr : block_diagonal_product(module)) {
    update.change = blocks;
    update.first = module.need(mark + "A");
    update.second = module.need(mark + "B");
  } else {
    const FamilyModule::Factors factors = module.need_factors(mark, embedding);
    update.first = factors.a;
    update.second = factors.b;
    if (!embedding && module.has(kCore)) update.change = core_product(module, factors);
  }
  update.rank = module.rank(module.shape(update.first)[0]);
  const auto divisor = static_cast<double>(update.rank);
  update.scale =
      module.alpha("lora_alpha") / (is_rslora(module.config()) ? std::sqrt(divisor) : divisor);
  update.embedding = embedding;
  return update;
}

// lora_B.bias goes the way of the product, so it is scaled alike.
void add_bias(FamilyModule& module, const Update& product) {
  const std::size_t bias = module.need("lora_B.bias");
  const std::vector<std::uint64_t>& b = module.shape(product.second);
  if (module.shape(bias) != std::vector<std::uint64_t>{b[0]}) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has a bias of shape {} for a lora_B of shape {}: `{}`",
                    shape_text(module.shape(bias)), shape_text(b), module.info(bias).name),
        bias);
  }
  Update update;
  update.kind = UpdateKind::Add;
  update.parameter = "bias";
  update.scale = product.scale;
  update.first = bias;
  module.add(std::move(update));
}

// What other makers' files add as it is.
void add_differences(FamilyModule& module) {
  for (const auto& [tensor, parameter] :
       {std::pair(kDifference, "weight"), std::pair(kBiasDifference, "bias")}) {
    if (!module.has(tensor)) continue;
    Update update;
    update.kind = UpdateKind::Add;
    update.parameter = parameter;
    update.first = module.need(tensor);
    module.add(std::move(update));
  }
}

void add_magnitude(FamilyModule& module, bool low_rank, bool embedding) {
  const bool given = module.has(kMagnitude);
  const bool dora = is_dora(module.config());
  if (given ? !dora || !low_rank : dora && low_rank) {
    module.refuse(ErrorCode::Corrupt,
                  !given ? fmt::format("is DoRA, but has no {} for `{}`", kMagnitude, module.name())
                  : dora
                      ? fmt::format("has a {} for `{}`, but no factors", kMagnitude, module.name())
                      : fmt::format("has a {} for `{}`, but its configuration does not say "
                                    "use_dora",
                                    kMagnitude, module.name()),
                  "the file and its adapter_config.json do not belong together");
  }
  if (!given) return;
  const std::size_t magnitude = module.need(kMagnitude);
  module.add(UpdateKind::Normalise,
             dora_magnitudes(magnitude, module.info(magnitude).elements, embedding));
}

// Whether `target_modules` names the module: a list of names and ends of names, or one expression.
bool is_target_module(const FamilyModule& module) {
  constexpr const char* kField = "target_modules";
  const ConfigFields& config = module.config();
  const std::vector<std::string> names = config.texts(kField);
  const Json* const field = config.find(kField);
  if (field != nullptr && field->is_string()) {
    PatternList whole({fmt::format("^(?:{})", names[0])},
                      fmt::format("{} of `{}`", kField, config.path()));
    return whole.first_match(module.name()).has_value();
  }
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return module.name() == name || module.name().ends_with("." + name);
  });
}

// The parameters of the module that `target_parameters` names, in the order in which models have
// them: PEFT wraps the first of them first. An entry without a module's name may mean any module;
// it does not mean one that is adapted as a whole, or of which other entries name as many
// parameters as are wrapped.
std::vector<std::string> target_parameters(const FamilyModule& module, std::size_t wrapped) {
  static const std::vector<std::string> kOrder = {
      "gate_up_proj", "gate_proj", "up_proj", "w1", "v1", "w2", "w3", "down_proj"};
  const auto place = [](const std::string& name) {
    return std::find(kOrder.begin(), kOrder.end(), name) - kOrder.begin();
  };
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  const std::vector<std::string> entries = module.config().texts("target_parameters");
  for (const std::string& entry : entries) {
    const std::string name = entry.substr(entry.rfind('.') + 1);
    const std::string whole = module.name() + "." + name;
    if (name != entry && (whole == entry || whole.ends_with("." + entry))) add(name);
  }
  if (names.size() < wrapped && !is_target_module(module)) {
    for (const std::string& entry : entries) {
      if (entry.find('.') == entry.npos) add(entry);
    }
  }
  std::stable_sort(names.begin(), names.end(),
                   [&](const std::string& a, const std::string& b) { return place(a) < place(b); });
  return names;
}

// What comes before the factors' names, of one within another, outermost first.
std::vector<std::string> wrappers_of(const FamilyModule& module) {
  std::vector<std::string> wrappers;
  for (std::string nested; module.has(nested + "lora_A") || module.has(nested + "lora_B");
       nested += kNested) {
    wrappers.push_back(nested);
  }
  return wrappers;
}

// LoRA on the parameters of a module, which are wrapped around each other.
void fold_parameters(FamilyModule& module, const std::vector<std::string>& names,
                     const std::vector<std::string>& wrappers) {
  if (wrappers.size() != names.size()) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has factors for {} parameters of `{}`, but its target_parameters "
                              "name {}: {}",
                              wrappers.size(), module.name(), names.size(), list_text(names)),
                  "the file and its adapter_config.json do not belong together");
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[names.size() - 1 - i];
    const std::size_t first = module.need(wrappers[i] + "lora_A");
    const std::size_t second = module.need(wrappers[i] + "lora_B");
    module.check_matrix(first);
    module.check_matrix(second);
    const std::vector<std::uint64_t>& a = module.shape(first);
    const std::vector<std::uint64_t>& b = module.shape(second);
    const std::uint64_t rank = module.rank(std::nullopt, name);
    if (a[0] != b[1] || a[0] % rank != 0) {
      module.refuse(
          ErrorCode::Corrupt,
          fmt::format("has a lora_A of shape {} and a lora_B of shape {} for `{}.{}`, where both "
                      "should hold its rank {} for every expert",
                      shape_text(a), shape_text(b), module.name(), name, rank),
          second);
    }
    const auto divisor = static_cast<double>(rank);
    const double scale = module.alpha("lora_alpha", name) /
                         (is_rslora(module.config()) ? std::sqrt(divisor) : divisor);
    if (a[0] / rank > kMostExperts) {
      module.refuse(ErrorCode::Unsupported,
                    fmt::format("has factors for {} experts of `{}.{}`; at most {} are folded",
                                a[0] / rank, module.name(), name, kMostExperts),
                    second);
    }
    if (a[0] == rank) {  // no experts
      Update update;
      update.kind = UpdateKind::LowRank;
      update.parameter = name;
      update.scale = scale;
      update.rank = rank;
      update.first = first;
      update.second = second;
      module.add(std::move(update));
      continue;
    }
    module.add(expert_update(
        {first, second, a[0] / rank, rank, a[1], b[0], module.config().text("peft_version", "")},
        module.name(), name, scale));
  }
}

void fold_lora(FamilyModule& module) {
  if (module.has(kTrainedTokens)) return fold_trained_tokens(module, "trainable_token_indices");
  const std::vector<std::string> wrappers = wrappers_of(module);
  const std::vector<std::string> parameters = target_parameters(module, wrappers.size());
  if (!parameters.empty()) return fold_parameters(module, parameters, wrappers);
  const bool factors = module.has("lora_A") || module.has("lora_B") || module.has("lora_B.bias");
  const bool embedding = module.has("lora_embedding_A") || module.has("lora_embedding_B");
  if (factors) {
    const Update product = low_rank(module, "lora_", false);
    module.add(product);
    if (module.has("lora_B.bias")) add_bias(module, product);
  }
  if (embedding) module.add(low_rank(module, "lora_embedding_", true));
  add_differences(module);
  add_magnitude(module, factors || embedding, embedding);
}

const RegisterFamily registered_lora(
    {.type = "LORA",
     .name = "LoRA",
     .reference = "Hu et al. 2021",
     .update = "W + alpha / r · B·A",
     .layers = "linear, Conv1D, embedding, convolution in 1, 2 and 3 "
               "dimensions, multi-head attention, parameters of experts",
     .tensors = {"lora_A", "lora_B", "lora_B.bias", "lora_embedding_A", "lora_embedding_B",
                 kMagnitude, kCore, kDifference, kBiasDifference},
     .borrowed = {kTrainedTokens},
     .fold = fold_lora,
     .variants = {{"DoRA", "Liu et al. 2024",
                   "V = W + alpha / r · B·A; W' = m / ‖V‖ · V, output by "
                   "output",
                   is_dora},
                  {"rsLoRA", "Kalajdzievski 2023", "W + alpha / √r · B·A", is_rslora},
                  {"BD-LoRA", "Wang et al. 2025",
                   "W + alpha / r · B·A, one of the two block-diagonal", is_bdlora}}});

}  // namespace
}  // namespace thorns
