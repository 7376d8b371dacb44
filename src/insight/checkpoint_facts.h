// What a checkpoint is by its configuration, and what is unusual about it.
#pragma once

#include <string>
#include <vector>

#include "base/disk.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_listing.h"
#include "thorns/inspect.h"

namespace thorns {

// Reads configuration and tokenizer, and the head of a model that ties it and stores it even so.
CheckpointFacts checkpoint_facts(Disk& disk, const Checkpoint& model,
                                 std::vector<InspectNote>& notes);
// What can be told of one that cannot be opened; nothing of its head.
CheckpointFacts checkpoint_facts(Disk& disk, const std::string& path,
                                 const CheckpointListing& listing, std::vector<InspectNote>& notes);

}  // namespace thorns
