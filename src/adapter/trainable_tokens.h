// Trained rows of an embedding, alone or in an adapter of another family. Private to this room.
#pragma once

#include "adapter/family.h"

namespace thorns {

inline constexpr const char* kTrainedTokens = "trainable_tokens_delta";

// Puts the rows of the module's tensor of that name in place of the rows that `field` of the
// configuration lists: numbers, or lists of numbers by module.
void fold_trained_tokens(FamilyModule& module, const char* field);

}  // namespace thorns
