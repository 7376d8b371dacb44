// thorns diff: the differences are the answer and go to standard output.
#include <fmt/format.h>

#include <algorithm>
#include <numbers>

#include "cli/columns.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/verbs.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kShown = 20;
constexpr std::size_t kShownNames = 5;

std::string number(const std::optional<double>& value, double scale = 1) {
  return value ? fmt::format("{:.4g}", *value * scale) : "-";
}

std::string names_text(const char* heading, const std::vector<std::string>& names,
                       std::size_t width, bool verbose) {
  if (names.empty()) return {};
  std::string text = fmt::format("{}: {}\n", heading, count_text(names.size(), "tensor"));
  const std::size_t shown = verbose ? names.size() : std::min(kShownNames, names.size());
  for (std::size_t i = 0; i < shown; ++i) text += wrap(printable_line(names[i]), width, 2);
  if (shown < names.size())
    text += fmt::format("  and {} more; -v lists them all\n", names.size() - shown);
  return text;
}

// The largest relative differences first.
std::string diff_text(const DiffReport& report, std::size_t width, bool verbose) {
  std::string text = names_text("Only in A", report.only_a, width, verbose) +
                     names_text("Only in B", report.only_b, width, verbose) +
                     names_text("Other shapes", report.reshaped, width, verbose);
  std::vector<const TensorDiff*> differing;
  for (const TensorDiff& tensor : report.tensors) {
    if (tensor.differing > 0 || verbose) differing.push_back(&tensor);
  }
  std::stable_sort(differing.begin(), differing.end(),
                   [](const TensorDiff* a, const TensorDiff* b) {
                     return a->relative.value_or(0) > b->relative.value_or(0);
                   });
  const std::size_t shown = verbose ? differing.size() : std::min(kShown, differing.size());
  std::vector<std::vector<std::string>> rows = {
      {"relative", "degrees", "largest", "differing", "tensor"}};
  for (std::size_t i = 0; i < shown; ++i) {
    const TensorDiff& tensor = *differing[i];
    rows.push_back({number(tensor.relative), number(tensor.angle, 180 / std::numbers::pi),
                    number(tensor.largest), fmt::format("{}/{}", tensor.differing, tensor.elements),
                    printable_line(tensor.tensor)});
  }
  if (shown > 0) text += table(rows, {true, true, true, true, false}, width, 0);
  if (shown < differing.size()) {
    text += fmt::format("and {} more; -v lists all tensors\n", differing.size() - shown);
  }
  return text + fmt::format("{} of {} hold the same numbers\n", report.equal,
                            count_text(report.tensors.size(), "common tensor"));
}

}  // namespace

int run_diff(const DiffArguments& arguments, Console& console) {
  catch_stop_signals();
  DiffReport report;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = diff(arguments.options, observer);
  }
  return answer(console, arguments.talk.json
                             ? to_json(report) + "\n"
                             : diff_text(report, console.out.width(), arguments.talk.verbose));
}

}  // namespace thorns::cli
