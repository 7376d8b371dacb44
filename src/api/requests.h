// From the options of the public API to a bound recipe and a plan.
#pragma once

#include "base/disk.h"
#include "plan/plan.h"
#include "thorns/thorns.h"

namespace thorns {

// Throws what bind_recipe throws.
Recipe bind(Disk& disk, const MergeOptions& options);
PlanOptions plan_options(const MergeOptions& options);
std::size_t thread_count(const MergeOptions& options);

// What the plan says, without disk space and time.
PlanReport describe(const Plan& plan);
// What describe cannot know: the least memory, and disk space needed and free.
void add_needs(Disk& disk, const MergeOptions& options, const Plan& plan, PlanReport& report);

}  // namespace thorns
