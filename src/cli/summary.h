// The answers of the verbs in words: what a plan, a merge, a key and the methods look like on one
// screen. Pure functions; lines are at most `width` columns, but for the paths of folders, which
// stay whole so that they can be copied.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "thorns/thorns.h"

namespace thorns::cli {

// Without the problems themselves, which are errors and told as such; the last line counts them.
// `verbose` gives whole lists.
std::string plan_text(const PlanReport& report, std::size_t width, bool verbose);

std::string merge_text(const MergeSummary& summary, std::size_t width, bool verbose);

std::string key_text(const KeyReport& report, std::size_t width);

// A line a method.
std::string methods_text(const std::vector<MethodInfo>& methods,
                         const std::vector<MethodInfo>& combinations, std::size_t width);
// One method with its parameters.
// `combination`: of adapters.
std::string method_text(const MethodInfo& method, bool combination, std::size_t width);

}  // namespace thorns::cli
