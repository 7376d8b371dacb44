// thorns diff: the differences are the answer and go to standard output.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "cli/columns.h"
#include "cli/figures.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/verbs.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kShownTensors = 20;
constexpr std::size_t kShownNames = 5;
constexpr std::size_t kTensorWidth = 32;

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

std::vector<std::string> measures(const std::optional<double>& relative,
                                  const std::optional<double>& angle,
                                  const std::optional<double>& largest, std::uint64_t differing,
                                  std::uint64_t elements, const std::string& name) {
  return {measure_text(relative), measure_text(angle, 180 / std::numbers::pi),
          measure_text(largest), fmt::format("{}/{}", differing, elements), printable_line(name)};
}

// Rows under a heading; without `verbose` the first kShownTensors.
std::string rows_text(const char* name, std::vector<std::vector<std::string>> rows,
                      std::size_t width, bool verbose) {
  if (rows.empty()) return {};
  const std::size_t all = rows.size();
  if (!verbose && all > kShownTensors) rows.resize(kShownTensors);
  const std::size_t shown = rows.size();
  rows.insert(rows.begin(), {"relative", "degrees", "largest", "differing", name});
  std::string text = table(rows, {true, true, true, true, false}, width, 0);
  if (shown < all) text += fmt::format("and {} more; -v lists all\n", all - shown);
  return text + "\n";
}

std::string groups_text(const char* name, const std::vector<DiffGroup>& groups, std::size_t width,
                        bool verbose) {
  std::vector<std::vector<std::string>> rows;
  for (const DiffGroup& group : groups) {
    rows.push_back(measures(group.relative, group.angle, group.largest, group.differing,
                            group.elements, group.name));
  }
  return rows_text(name, std::move(rows), width, verbose);
}

// Of the tensors the largest relative differences first.
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
  std::vector<std::vector<std::string>> rows;
  for (const TensorDiff* tensor : differing) {
    rows.push_back(measures(tensor->relative, tensor->angle, tensor->largest, tensor->differing,
                            tensor->elements, tensor->tensor));
  }
  if (!differing.empty()) {
    text += groups_text("layer", report.layers, width, verbose) +
            groups_text("module", report.modules, width, verbose) +
            rows_text("tensor", std::move(rows), width, verbose);
  }
  return text + fmt::format("{} of {} hold the same numbers\n", report.equal,
                            count_text(report.tensors.size(), "common tensor"));
}

// The models and adapters with a part in a tensor, the largest first.
std::string parts_text(const BlameReport& report, const Explanation& one) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < one.coefficients.size(); ++i) {
    if (one.coefficients[i] != 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(one.coefficients[a]) > std::abs(one.coefficients[b]);
  });
  std::string text;
  for (const std::size_t i : order) {
    text += fmt::format("{}{} {:.3f}", text.empty() ? "" : ", ", report.candidates[i],
                        one.coefficients[i]);
  }
  return text;
}

// The tensors that are explained worst first.
std::string blame_text(const BlameReport& report, std::size_t width, bool verbose) {
  std::vector<std::uint64_t> best(report.candidates.size(), 0);
  for (const Explanation& one : report.tensors) {
    const auto at = std::find(report.candidates.begin(), report.candidates.end(), one.best);
    if (at != report.candidates.end())
      ++best[static_cast<std::size_t>(at - report.candidates.begin())];
  }
  std::vector<std::vector<std::string>> rows = {{"weight", "best in", "model or adapter"}};
  for (std::size_t i = 0; i < report.candidates.size(); ++i) {
    rows.push_back({fmt::format("{:.4f}", report.whole.coefficients[i]),
                    i < report.models ? fmt::format("{}", best[i]) : "-",
                    printable_line(report.candidates[i])});
  }
  std::string text =
      table(rows, {true, true, false}, width, 0) +
      fmt::format("\n{:.4g} of the norm is left unexplained\n\n", report.whole.residual);
  std::vector<const Explanation*> worst;
  for (const Explanation& one : report.tensors) worst.push_back(&one);
  std::stable_sort(worst.begin(), worst.end(), [](const Explanation* a, const Explanation* b) {
    return a->residual > b->residual;
  });
  const std::size_t shown = verbose ? worst.size() : std::min(kShownTensors, worst.size());
  rows = {{"left", "tensor", "weights"}};
  for (std::size_t i = 0; i < shown; ++i) {
    rows.push_back({fmt::format("{:.4g}", worst[i]->residual),
                    shorten_tensor(printable_line(worst[i]->tensor), kTensorWidth),
                    printable_line(parts_text(report, *worst[i]))});
  }
  text += table(rows, {true, false, false}, width, 0);
  if (shown < worst.size()) {
    text += fmt::format("and {} more; -v lists all tensors\n", worst.size() - shown);
  }
  return text;
}

// What `run` found, told while it works.
template <typename Run>
auto observed(const Talk& talk, Console& console, Run run) {
  catch_stop_signals();
  TerminalObserver observer(console.err, talk, "", steady_seconds, stop_requested());
  return run(observer);
}

}  // namespace

int run_diff(const DiffArguments& arguments, Console& console) {
  const Talk& talk = arguments.talk;
  const std::size_t width = console.out.width();
  if (!arguments.blame.recipe.empty()) {
    MergeOptions options = arguments.blame;
    if (options.recipe == "-") options.standard_input = read_standard_input(kLongestInput);
    const BlameReport report = observed(talk, console, [&](Observer& observer) {
      return blame(arguments.options.a, options, observer);
    });
    return answer(console,
                  talk.json ? to_json(report) + "\n" : blame_text(report, width, talk.verbose));
  }
  const DiffReport report = observed(
      talk, console, [&](Observer& observer) { return diff(arguments.options, observer); });
  return answer(console,
                talk.json ? to_json(report) + "\n" : diff_text(report, width, talk.verbose));
}

}  // namespace thorns::cli
