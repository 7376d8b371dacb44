// LoRA (Hu et al. 2021): W + alpha / r * B A; rsLoRA (Kalajdzievski 2023): alpha / sqrt(r) instead.
// DoRA (Liu et al. 2024) scales what comes of it, line by line (dora.cc).
#include <fmt/format.h>

#include <cmath>

#include "adapter/dora.h"
#include "adapter/family.h"
#include "adapter/trainable_tokens.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr const char* kMagnitude = "lora_magnitude_vector";

bool is_dora(const ConfigFields& config) { return config.flag("use_dora"); }
bool is_rslora(const ConfigFields& config) { return config.flag("use_rslora"); }

// The product of the factors `mark`A and `mark`B, as an update of the weight.
Update low_rank(FamilyModule& module, const std::string& mark, bool embedding) {
  const auto [first, second] = module.need_factors(mark, embedding);
  const std::uint64_t rank = module.rank(module.shape(first)[0]);
  const auto divisor = static_cast<double>(rank);
  Update update;
  update.kind = UpdateKind::LowRank;
  update.parameter = "weight";
  update.scale =
      module.alpha("lora_alpha") / (is_rslora(module.config()) ? std::sqrt(divisor) : divisor);
  update.rank = rank;
  update.first = first;
  update.second = second;
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

void fold(FamilyModule& module) {
  if (module.has(kTrainedTokens)) return fold_trained_tokens(module, "trainable_token_indices");
  const bool factors = module.has("lora_A") || module.has("lora_B") || module.has("lora_B.bias");
  const bool embedding = module.has("lora_embedding_A") || module.has("lora_embedding_B");
  if (factors) {
    const Update product = low_rank(module, "lora_", false);
    module.add(product);
    if (module.has("lora_B.bias")) add_bias(module, product);
  }
  if (embedding) module.add(low_rank(module, "lora_embedding_", true));
  add_magnitude(module, factors || embedding, embedding);
}

const RegisterFamily registered(
    {.type = "LORA",
     .name = "LoRA",
     .reference = "Hu et al. 2021",
     .update = "W + alpha / r · B·A",
     .layers = "linear, Conv1D, embedding, convolution in 1, 2 and 3 "
               "dimensions, multi-head attention",
     .tensors = {"lora_A", "lora_B", "lora_B.bias", "lora_embedding_A", "lora_embedding_B",
                 kMagnitude},
     .borrowed = {kTrainedTokens},
     .fold = fold,
     .variants = {{"DoRA", "Liu et al. 2024",
                   "V = W + alpha / r · B·A; W' = m / ‖V‖ · V, output by "
                   "output",
                   is_dora},
                  {"rsLoRA", "Kalajdzievski 2023", "W + alpha / √r · B·A", is_rslora}}});

}  // namespace
}  // namespace thorns
