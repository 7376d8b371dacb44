// What a model's tokenizer files say of its tokens.
#pragma once

#include <optional>
#include <vector>

#include "base/disk.h"
#include "checkpoint/checkpoint.h"
#include "thorns/inspect.h"

namespace thorns {

// nullopt where the model has none. A file that cannot be read becomes a note, and the facts that
// it would have told are left out.
std::optional<TokenizerFacts> tokenizer_facts(Disk& disk, const Checkpoint& model,
                                              std::vector<InspectNote>& notes);

}  // namespace thorns
