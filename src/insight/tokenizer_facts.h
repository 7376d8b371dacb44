// What a model's tokenizer files say of its tokens.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "thorns/inspect.h"

namespace thorns {

// Of a model at `path` with the tokenizer files `files`, or of GGUF metadata in `weights` where
// there are none. nullopt where the model has no tokenizer. A file that cannot be read becomes a
// note, and the facts that it would have told are left out.
std::optional<TokenizerFacts> tokenizer_facts(Disk& disk, const std::string& path,
                                              const std::vector<std::string>& files,
                                              const std::string& weights,
                                              std::vector<InspectNote>& notes);

}  // namespace thorns
