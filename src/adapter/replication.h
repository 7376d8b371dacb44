// layer_replication: a model that is deeper than the one it is made from.
#pragma once

#include <cstdint>
#include <vector>

#include "adapter/adapter.h"

namespace thorns {

struct LayerRange {
  std::uint64_t first = 0;
  std::uint64_t end = 0;  // one behind the last
};

// The layers of its base, range after range, that make the layers of the model an adapter was
// trained on; empty where that is the base itself. The adapter's own numbers are those of that
// model.
std::vector<LayerRange> layer_replication(const Adapter& adapter);

}  // namespace thorns
