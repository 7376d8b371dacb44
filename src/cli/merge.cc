// thorns merge: the summary is talk and goes to standard error, where the progress was; standard
// output holds nothing but the document of --json.
#include <filesystem>

#include "cli/stop.h"
#include "cli/summary.h"
#include "cli/verbs.h"

namespace thorns::cli {
namespace {

// "13B-Thorns" of "out/13B-Thorns/".
std::string folder_name(const std::string& folder) {
  std::filesystem::path path(folder);
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace

int run_merge(const MergeArguments& arguments, Console& console) {
  MergeOptions options = arguments.options;
  if (options.recipe == "-") options.standard_input = read_standard_input(kLongestInput);
  catch_stop_signals();
  MergeSummary summary;
  {
    TerminalObserver observer(console.err, arguments.talk, folder_name(options.output),
                              steady_seconds, stop_requested());
    summary = merge(options, observer);
    for (const std::string& warning : observer.untold(summary.warnings)) observer.warning(warning);
  }
  if (arguments.talk.json) return answer(console, to_json(summary) + "\n");
  if (!arguments.talk.quiet) {
    summary.warnings.clear();  // told above
    console.err.write(merge_text(summary, console.err.width(), arguments.talk.verbose));
  }
  return 0;
}

}  // namespace thorns::cli
