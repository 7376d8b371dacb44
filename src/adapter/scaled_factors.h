// The factors of AdaLoRA (Zhang et al. 2023): B diag(E) A, with the singular values E folded into
// A. Private to this room.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

#include "checkpoint/source.h"

namespace thorns {

// `source` with some of its matrices replaced: a key of `scales` is a rank x columns matrix, its
// value one of rank x 1, both of blendable types. Row i is read multiplied by number i, in float32
// (PEFT multiplies in float32, too). All other tensors are read as they are.
std::unique_ptr<TensorSource> scale_rows(std::unique_ptr<TensorSource> source,
                                         const std::map<std::size_t, std::size_t>& scales);

}  // namespace thorns
