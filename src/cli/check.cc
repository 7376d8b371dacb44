// thorns check: the findings are the answer and go to standard output.
#include <algorithm>

#include "cli/check_text.h"
#include "cli/stop.h"
#include "cli/verbs.h"

namespace thorns::cli {

int run_check(const CheckArguments& arguments, Console& console) {
  MergeOptions options = arguments.options;
  if (options.recipe == "-") options.standard_input = read_standard_input(kLongestInput);
  catch_stop_signals();
  CheckReport report;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = check(options, arguments.check, observer);
  }
  if (arguments.talk.quiet) {
    std::erase_if(report.findings,
                  [](const Finding& finding) { return finding.severity == Severity::Note; });
  }
  const int written = answer(console, arguments.talk.json ? to_json(report) + "\n"
                                                          : check_text(report, console.out.width(),
                                                                       arguments.talk.verbose));
  if (!report.refused()) return written;
  const bool misspelt =
      std::any_of(report.findings.begin(), report.findings.end(),
                  [](const Finding& finding) { return finding.code == "refused-bad_recipe"; });
  return exit_code(misspelt ? ErrorCode::BadRecipe : ErrorCode::Mismatch);
}

}  // namespace thorns::cli
