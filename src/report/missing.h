// What a manifest does not say: the norms of tensors that a merge copied or rounded to another type
// without measuring them. They are read from the finished weights.
#pragma once

#include <cstdint>
#include <string>

#include "base/disk.h"
#include "output/manifest_reader.h"
#include "thorns/observer.h"

namespace thorns {

// Fills the missing norms of floating tensors; a copy is as long as its source and at no distance
// from it. NaN and Inf count as 0. A weights file that is not in `folder` is said in the manifest's
// warnings and left out. Returns the bytes that were read.
//
// Throws what opening and reading a checkpoint throws, Mismatch where a tensor is not the one that
// is listed, and Cancelled.
std::uint64_t measure_missing(Disk& disk, const std::string& folder, std::size_t threads,
                              Manifest& manifest, Observer& observer);

}  // namespace thorns
