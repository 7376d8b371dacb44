// thorns plan: the plan is the answer and goes to standard output, what merge would refuse to
// standard error.
#include "cli/columns.h"
#include "cli/stop.h"
#include "cli/summary.h"
#include "cli/verbs.h"

namespace thorns::cli {

int run_plan(const PlanArguments& arguments, Console& console) {
  MergeOptions options = arguments.options;
  if (options.recipe == "-") options.standard_input = read_standard_input(kLongestInput);
  if (!arguments.explain.empty()) {
    std::string text = arguments.remote ? explain_at_hub(options, arguments.explain)
                                        : explain(options, arguments.explain);
    if (!text.ends_with('\n')) text += '\n';
    return answer(console, printable(text));
  }
  catch_stop_signals();
  PlanReport report;
  std::vector<std::string> untold;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = arguments.remote ? plan_at_hub(options, observer) : plan(options, observer);
    untold = observer.untold(report.warnings);
  }
  if (stop_requested()) throw Error(ErrorCode::Cancelled, "interrupted");

  int written = 0;
  if (arguments.talk.json) {
    written = answer(console, to_json(report) + "\n");
  } else if (!arguments.talk.quiet) {
    report.warnings = untold;
    written = answer(console, plan_text(report, console.out.width(), arguments.talk.verbose));
  } else {
    for (const std::string& warning : untold) tell_warning(console.err, warning);
  }
  for (const Error& problem : report.problems) tell(console.err, problem);
  return report.problems.empty() ? written : exit_code(report.problems.front().code());
}

}  // namespace thorns::cli
