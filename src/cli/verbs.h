// The verbs. Each does what its arguments ask for, writes its answer and returns the exit code;
// errors are thrown.
#pragma once

#include "cli/arguments.h"
#include "cli/terminal.h"

namespace thorns::cli {

int run_merge(const MergeArguments& arguments, Console& console);
int run_plan(const PlanArguments& arguments, Console& console);
int run_check(const CheckArguments& arguments, Console& console);
int run_diff(const DiffArguments& arguments, Console& console);
int run_inspect(const InspectArguments& arguments, Console& console);
int run_report(const ReportArguments& arguments, Console& console);
int run_verify(const VerifyArguments& arguments, Console& console);
int run_fetch(const FetchArguments& arguments, Console& console);
int run_key(const KeyArguments& arguments, Console& console);
int run_methods(const MethodsArguments& arguments, Console& console);
int run_completion(const CompletionArguments& arguments, Console& console);

// Longest recipe that is read from standard input, bytes.
inline constexpr std::size_t kLongestInput = std::size_t{1} << 20;

}  // namespace thorns::cli
