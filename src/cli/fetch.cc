// thorns fetch: what was brought, and how it is called from now on.
#include <fmt/format.h>

#include "cli/columns.h"
#include "cli/stop.h"
#include "cli/verbs.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

std::string told(const FetchedRepository& repository) {
  return fmt::format("{} at {}: {}, {}; {} fetched\n  {}\n", repository.repository,
                     repository.commit.substr(0, 12), count_text(repository.files, "file"),
                     human_bytes(repository.bytes),
                     human_bytes(repository.bytes - repository.bytes_there),
                     printable_line(repository.folder));
}

}  // namespace

int run_fetch(const FetchArguments& arguments, Console& console) {
  catch_stop_signals();
  FetchReport report;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = fetch(arguments.options, observer);
  }
  if (arguments.talk.json) return answer(console, to_json(report) + "\n");
  if (arguments.talk.quiet) return 0;
  std::string text;
  for (const FetchedRepository& repository : report.repositories) text += told(repository);
  console.err.write(text);
  return 0;
}

}  // namespace thorns::cli
