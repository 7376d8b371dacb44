#include "cli/check_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/columns.h"
#include "cli/figures.h"
#include "cli/progress.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kIndent = 9;  // "warning  "
constexpr std::size_t kShownRows = 12;
constexpr std::size_t kAdapterWidth = 24;

// The key with its caret, or the file, as errors show them.
std::string place_text(const Where& place) {
  const std::string all = to_string(Error(ErrorCode::Internal, "", place));
  const std::size_t first = all.find('\n');
  std::string indented;
  for (std::size_t at = first + 1; at < all.size();) {
    const std::size_t end = all.find('\n', at);
    indented += std::string(kIndent - 2, ' ') + all.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return indented;
}

std::string finding_text(const Finding& finding, std::size_t width) {
  std::string text = wrap(printable(finding.message), width, kIndent);
  const std::string word = to_string(finding.severity);
  text.replace(0, word.size(), word);
  text += printable(place_text(finding.place));
  if (!finding.advice.empty()) {
    text += wrap("-> " + printable(finding.advice), width, kIndent);
  }
  return text;
}

std::string count_line(const CheckReport& report) {
  const auto count = [&](Severity severity) {
    return static_cast<std::uint64_t>(
        std::count_if(report.findings.begin(), report.findings.end(),
                      [&](const Finding& finding) { return finding.severity == severity; }));
  };
  if (report.findings.empty()) return "nothing found";
  return fmt::format("{}, {}, {}", count_text(count(Severity::Error), "error"),
                     count_text(count(Severity::Warning), "warning"),
                     count_text(count(Severity::Note), "note"));
}

std::string folds_text(const CheckReport& report, std::size_t width, bool verbose) {
  if (report.folds.empty()) return {};
  std::vector<std::vector<std::string>> rows = {
      {"adapter", "strength", "overlap", "fit", "reaches", "folded into"}};
  const std::size_t shown =
      verbose ? report.folds.size() : std::min(kShownRows, report.folds.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const FoldMeasure& fold = report.folds[i];
    rows.push_back({shorten(printable_line(fold.adapter), kAdapterWidth),
                    fmt::format("{:.3f}", fold.strength), fmt::format("{:+.3f}", fold.overlap),
                    fold.fit ? fmt::format("{:.2f}", *fold.fit) : "-",
                    fmt::format("{:.3f}", fold.reaches), printable_line(fold.model)});
  }
  return "\nAdapters\n" + table(rows, {false, true, true, true, true, false}, width, 2) +
         more_line(report.folds.size(), shown) +
         wrap(
             "strength: norm of what it adds to that of the model; overlap: cosine with what sets "
             "the model apart from the mean of all models; fit: how much of the model lies in its "
             "input space, to a random one; reaches: its weight in the result",
             width, 2);
}

std::string nodes_text(const CheckReport& report, std::size_t width, bool verbose) {
  if (report.nodes.empty()) return {};
  std::vector<std::vector<std::string>> rows = {
      {"smallest", "median", "largest", "averaged", "node (degrees; of matrices)"}};
  const std::size_t shown =
      verbose ? report.nodes.size() : std::min(kShownRows, report.nodes.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const NodeMeasure& node = report.nodes[i];
    rows.push_back({angle_text(node.smallest), angle_text(node.median), angle_text(node.largest),
                    fmt::format("{}/{}", node.fell_back, node.tensors), printable_line(node.key)});
  }
  return "\nAngles\n" + table(rows, {true, true, true, true, false}, width, 2) +
         more_line(report.nodes.size(), shown);
}

std::vector<std::string> placement_row(const PlacementMeasure& one, bool named) {
  return {named ? shorten(printable_line(one.adapter), kAdapterWidth) : std::string(),
          fmt::format("{:.3f}", one.strength), fmt::format("{:+.3f}", one.held),
          fmt::format("{:.3f}", one.reaches), printable_line(one.model)};
}

std::string suggestion_text(const CheckReport& report, std::size_t width) {
  if (!report.suggestion) return {};
  const Suggestion& suggestion = *report.suggestion;
  const std::vector<bool> right = {false, true, true, true, false};
  std::vector<std::vector<std::string>> rows = {
      {"adapter", "strength", "held", "reaches", "model"}};
  for (const PlacementMeasure& one : suggestion.table) {
    const bool first = rows.size() == 1 || one.adapter != suggestion.table[rows.size() - 2].adapter;
    rows.push_back(placement_row(one, first));
  }
  std::string text =
      "\nEvery adapter against every model, without what is folded into it\n" +
      table(rows, right, width, 2) +
      wrap(fmt::format("held: how many times over the model has already what the adapter "
                       "adds, seen from {}; reaches: its weight in the result if it were "
                       "folded there",
                       suggestion.seen_from.empty()
                           ? "the mean of all models"
                           : "`" + printable_line(suggestion.seen_from) + "`"),
           width, 2);
  rows = {{"adapter", "strength", "held", "reaches", "folded into"}};
  for (const PlacementMeasure& one : suggestion.chosen) rows.push_back(placement_row(one, true));
  // The key is not wrapped: it is there to be copied.
  return text + "\nSuggested\n" + table(rows, right, width, 2) + "\n  " +
         printable_line(suggestion.key) + "\n\n" +
         wrap(
             "This places each adapter where most of it survives the merges and the model has "
             "least of it. It is a measurement of weights and no promise of quality: only answers "
             "tell which key is better.",
             width, 2);
}

}  // namespace

std::string check_text(const CheckReport& report, std::size_t width, bool verbose) {
  std::string text =
      "Check of\n" + wrap_anywhere(shorten(printable_line(report.key), 3 * (width - 2)), width, 2);
  for (const Finding& finding : report.findings) text += "\n" + finding_text(finding, width);
  text += folds_text(report, width, verbose);
  text += nodes_text(report, width, verbose);
  text += suggestion_text(report, width);
  text += "\n" + count_line(report);
  if (report.measured > 0) {
    text +=
        fmt::format("; {} of {} measured", report.measured, count_text(report.tensors, "tensor"));
  } else {
    text += "; no weights measured";
  }
  return text + "\n";
}

}  // namespace thorns::cli
