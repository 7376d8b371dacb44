// A part of a plan: some of its tensors, made as the whole plan makes them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "plan/plan.h"

namespace thorns {

// Keeps the programs with these indices (ascending); shards and byte counts follow. The memory plan
// stays: it is enough.
void keep_only(Plan& plan, std::span<const std::size_t> programs);

// `count` of the indices below `size`, all where there are no more, ascending. They are the
// multiples of the golden ratio modulo `size`, which fall into step with no period that the layers
// of a model may have.
std::vector<std::size_t> spread(std::size_t count, std::size_t size);

}  // namespace thorns
