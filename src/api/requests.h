// From the options of the public API to a bound recipe and a plan.
#pragma once

#include "base/disk.h"
#include "output/model_card.h"
#include "plan/plan.h"
#include "thorns/thorns.h"

namespace thorns {

// Throws what bind_recipe throws.
Recipe bind(Disk& disk, const MergeOptions& options);
Bindings bindings(const Inputs& inputs);
PlanOptions plan_options(const MergeOptions& options);
std::size_t thread_count(std::size_t wanted);  // 0: one per core

// The model card's template, and of what check finds without measuring all that a reader of the
// card should know. Throws what reading the template throws.
CardOptions card_options(Disk& disk, const MergeOptions& options, const Plan& plan);

// What the plan says, without disk space and time.
PlanReport describe(const Plan& plan);
// What describe cannot know: the least memory, and disk space needed and free.
void add_needs(Disk& disk, const MergeOptions& options, const Plan& plan, PlanReport& report);

}  // namespace thorns
