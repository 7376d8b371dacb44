// Which parents of a merge warn, in their own model cards, of what they may say.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "plan/plan.h"

namespace thorns {

// Whether a card speaks of toxic, uncensored, offensive or harmful output.
bool warns(std::string_view card);

// Names of the leaves and adapters whose README.md does, in the order of the recipe. What is
// missing or cannot be read warns of nothing.
std::vector<std::string> parents_that_warn(Disk& disk, const Plan& plan);

}  // namespace thorns
