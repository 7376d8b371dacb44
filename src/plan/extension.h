// The rows by which the vocabulary rule `gradient` extends a model that has fewer than others.
#pragma once

#include <memory>
#include <vector>

#include "plan/match.h"
#include "plan/plan.h"

namespace thorns {

// Gives every view with fewer rows of a token tensor than the longest (the first of several) a
// tensor of the missing ones, float32, under the merge's name: row j of k is
// (1 - j/(k+1)) * own last row + j/(k+1) * last row of the longest, j from 1. The sources are owned
// by plan.extensions.
void extend_views(Plan& plan, std::vector<LeafView>& views);

}  // namespace thorns
