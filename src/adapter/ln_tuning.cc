// LN tuning (Zhao et al. 2023): normalisation layers trained whole.
#include "adapter/family.h"

namespace thorns {
namespace {

void fold_ln_tuning(FamilyModule& module) {
  for (const char* parameter : {"weight", "bias"}) {
    const std::string tensor =
        std::string("ln_tuning_layers") + (parameter == std::string_view("bias") ? ".bias" : "");
    if (!module.has(tensor)) continue;
    Update update;
    update.kind = UpdateKind::Replace;
    update.parameter = parameter;
    update.first = module.need(tensor);
    module.add(std::move(update));
  }
}

const RegisterFamily registered_ln_tuning(
    {.type = "LN_TUNING",
     .name = "LN tuning",
     .reference = "Zhao et al. 2023",
     .update = "the normalisation layer is replaced by the adapter's",
     .layers = "normalisation",
     .tensors = {"ln_tuning_layers", "ln_tuning_layers.bias"},
     .fold = fold_ln_tuning});

}  // namespace
}  // namespace thorns
