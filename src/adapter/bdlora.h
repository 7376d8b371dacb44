// BD-LoRA (Wang et al. 2025): LoRA one of whose factors is block-diagonal. Private to this room.
#pragma once

#include <memory>

#include "adapter/family.h"

namespace thorns {

bool is_bdlora(const ConfigFields& config);

// The product of the module's lora_A and lora_B; null where the configuration says that both are
// whole.
std::shared_ptr<const FactorChange> block_diagonal_product(FamilyModule& module);

}  // namespace thorns
