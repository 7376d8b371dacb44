// thorns verify: what is not as the manifest says is the answer and goes to standard output.
#include <fmt/format.h>

#include "cli/columns.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/verbs.h"

namespace thorns::cli {
namespace {

// Above those that every verb has (error.h).
int exit_code(VerifyCheck failed) { return 3 + static_cast<int>(failed); }

std::string verify_text(const VerifyReport& report, std::size_t width, bool verbose) {
  std::string text;
  for (const VerifyProblem& problem : report.problems) {
    text += wrap(printable_line(problem.tensor.empty() ? problem.file : problem.tensor) + " " +
                     problem.message,
                 width, 0);
  }
  if (verbose) {
    for (const std::string& name : report.extra) {
      text += wrap(printable_line(name) + " was not written by the merge", width, 0);
    }
  }
  if (report.holds()) {
    text += fmt::format("{} and {} are as the merge wrote them\n", count_text(report.files, "file"),
                        count_text(report.tensors, "tensor"));
    if (report.remade == 0) return text;
    return text +
           fmt::format("{} made again: not a byte differs\n", count_text(report.remade, "tensor"));
  }
  return text + fmt::format("{} in {}\n", count_text(report.problems.size(), "problem"),
                            count_text(report.files, "file"));
}

}  // namespace

int run_verify(const VerifyArguments& arguments, Console& console) {
  catch_stop_signals();
  VerifyReport report;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = verify(arguments.options, observer);
  }
  const int written = answer(console, arguments.talk.json ? to_json(report) + "\n"
                                                          : verify_text(report, console.out.width(),
                                                                        arguments.talk.verbose));
  return report.holds() ? written : exit_code(report.problems.front().check);
}

}  // namespace thorns::cli
