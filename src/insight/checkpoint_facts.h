// What a checkpoint is by its configuration, and what is unusual about it.
#pragma once

#include <vector>

#include "base/disk.h"
#include "checkpoint/checkpoint.h"
#include "thorns/inspect.h"

namespace thorns {

// Reads configuration and tokenizer, and the head of a model that ties it and stores it even so.
CheckpointFacts checkpoint_facts(Disk& disk, const Checkpoint& model,
                                 std::vector<InspectNote>& notes);

}  // namespace thorns
