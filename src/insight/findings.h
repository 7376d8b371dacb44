// The findings of a check, one function for each thing that is looked at. All are pure but for what
// they read; order is that of the recipe.
#pragma once

#include <vector>

#include "base/disk.h"
#include "plan/plan.h"
#include "thorns/check.h"

namespace thorns {

// From the key alone: adapters that reach the result more than once, adapters stacked on one model.
// `same_adapter`: per adapter of the recipe the first one that holds the same updates.
std::vector<Finding> recipe_findings(const Recipe& recipe,
                                     const std::vector<std::size_t>& same_adapter);

// Per adapter the first one with the same content, whatever its name: itself in most cases. Reads
// only the files of adapters whose headers are alike.
std::vector<std::size_t> same_adapters(const Plan& plan);

// Leaves that an adapter's configuration names as the model it was trained on, by the last part of
// their names. The plan's leaves and adapters must be open.
std::vector<std::size_t> trained_on(const Plan& plan, std::size_t adapter);

// From configurations, tokenizers and model cards. The plan's leaves and adapters must be open.
std::vector<Finding> input_findings(Disk& disk, const Plan& plan);

}  // namespace thorns
