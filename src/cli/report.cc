// thorns report: the page goes to a file, the document to standard output.
#include "thorns/report.h"

#include <fmt/format.h>

#include "cli/columns.h"
#include "cli/stop.h"
#include "cli/verbs.h"
#include "thorns/words.h"

namespace thorns::cli {

int run_report(const ReportArguments& arguments, Console& console) {
  catch_stop_signals();
  Report report;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = thorns::report(arguments.options, observer);
  }
  if (!arguments.talk.json || !arguments.output.empty()) {
    const std::string page = to_html(report);
    if (arguments.output == "-") return answer(console, page);
    const std::string path =
        arguments.output.empty() ? page_path(arguments.options.folder) : arguments.output;
    save_page(path, page);
    if (!arguments.talk.quiet) {
      console.err.write(
          fmt::format("wrote {}, {}\n", printable_line(path), human_bytes(page.size())));
    }
  }
  return arguments.talk.json ? answer(console, to_json(report) + "\n") : 0;
}

}  // namespace thorns::cli
