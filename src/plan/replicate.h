// Models whose layers are repeated, because an adapter was trained on such a model.
#pragma once

#include <vector>

#include "plan/match.h"
#include "plan/plan.h"

namespace thorns {

// Gives the leaves below a fold with layer_replication the layers that its adapter was trained on:
// the views' names are those of the deeper model. Collects a problem where a leaf would have to be
// both, or where something is folded below. The adapters must be open.
void replicate_layers(Plan& plan, std::vector<LeafView>& views, std::vector<Error>& problems);

}  // namespace thorns
