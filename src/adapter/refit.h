// An adapter made to fit a model that names or cuts its modules otherwise.
#pragma once

#include <memory>

#include "adapter/adapter.h"
#include "base/key_map.h"

namespace thorns {

// The adapter with its modules renamed as the map says; rules that no module begins with become
// warnings. BadRecipe where nothing is left of it.
std::unique_ptr<Adapter> rename_modules(std::unique_ptr<Adapter> adapter, const KeyMap& map);

// Where the model keeps in one matrix what the adapter changes apart (q_proj, k_proj and v_proj in
// qkv_proj, gate_proj and up_proj in gate_up_proj), or the other way round: the adapter with its
// low-rank updates, DoRA's norms and stored tensors (biases) put together or cut apart, exact but
// for one rounding of factors to float32.
// And the rows of q and k in transformers' order, where they are in llama.cpp's; Mismatch where the
// model does not say how many rows a head has.
// Unsupported for other kinds of updates of such modules; the adapter is then as it was.
void recut(std::unique_ptr<Adapter>& adapter, const FoldTarget& target);

}  // namespace thorns
