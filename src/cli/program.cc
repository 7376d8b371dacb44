#include "cli/program.h"

#include <fmt/format.h>

#include <exception>
#include <new>

#include "cli/arguments.h"
#include "cli/verbs.h"

namespace thorns::cli {
namespace {

struct RunVerb {
  Console& console;
  int operator()(const MergeArguments& arguments) const { return run_merge(arguments, console); }
  int operator()(const PlanArguments& arguments) const { return run_plan(arguments, console); }
  int operator()(const CheckArguments& arguments) const { return run_check(arguments, console); }
  int operator()(const DiffArguments& arguments) const { return run_diff(arguments, console); }
  int operator()(const InspectArguments& arguments) const {
    return run_inspect(arguments, console);
  }
  int operator()(const ReportArguments& arguments) const { return run_report(arguments, console); }
  int operator()(const VerifyArguments& arguments) const { return run_verify(arguments, console); }
  int operator()(const FetchArguments& arguments) const { return run_fetch(arguments, console); }
  int operator()(const KeyArguments& arguments) const { return run_key(arguments, console); }
  int operator()(const MethodsArguments& arguments) const {
    return run_methods(arguments, console);
  }
  int operator()(const CompletionArguments& arguments) const {
    return run_completion(arguments, console);
  }
  int operator()(const ShowText& shown) const { return answer(console, shown.text); }
};

int fail(const Error& error, bool json, Console& console) {
  tell(console.err, error);
  // Where standard output itself is what failed, there is nothing more to be done about it.
  if (json) console.out.write(to_json(error) + "\n");
  return exit_code(error.code());
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, const std::string& thorns_path,
                Console& console) {
  const bool json = wants_json(arguments);
  try {
    return std::visit(RunVerb{console}, parse_arguments(arguments, thorns_path));
  } catch (const Error& error) {
    return fail(error, json, console);
  } catch (const std::bad_alloc&) {
    return fail(Error(ErrorCode::NoSpace, "the system has no more memory", {},
                      "a smaller --memory or fewer --threads may help"),
                json, console);
  } catch (const std::exception& error) {
    return fail(Error(ErrorCode::Internal, fmt::format("internal error: {}", error.what()), {},
                      "this is a bug in thorns; please report it with the command line"),
                json, console);
  }
}

}  // namespace thorns::cli
