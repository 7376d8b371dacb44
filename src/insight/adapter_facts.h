// What an adapter changes, and by how much.
#pragma once

#include <cstddef>
#include <vector>

#include "adapter/adapter.h"
#include "engine/solve.h"
#include "plan/plan.h"
#include "thorns/inspect.h"

namespace thorns {

// Everything but the norms; `updates` has one entry for every parameter.
AdapterFacts adapter_facts(const Adapter& adapter);

// For each entry of AdapterFacts::updates the update whose norm is that of the entry; null where no
// single one says it.
std::vector<const Update*> sole_updates(const Adapter& adapter);

// The difference that the fold at the root of `plan` makes to the tensor of a program; nullopt
// where it makes none, or replaces it whole.
std::optional<ChangedTensor> changed_tensor(const Plan& plan, std::size_t program,
                                            const CellGrams& grams);

}  // namespace thorns
