// LoRA on convolutions with a core between its factors (Tucker's form), as LyCORIS has it. Private
// to this room.
#pragma once

#include <cstddef>
#include <memory>

#include "adapter/family.h"

namespace thorns {

inline constexpr const char* kCore = "lora_mid";

// With A: rank x channels, B: out x rank and the core C: rank x rank x kernel, all of them with
// dimensions of 1 behind,
//   D[o, i, k] = sum over p, q of B[o, p] C[p, q, k] A[q, i]
// Corrupt where their shapes do not fit.
std::shared_ptr<const FactorChange> core_product(FamilyModule& module,
                                                 const FamilyModule::Factors& factors);

}  // namespace thorns
