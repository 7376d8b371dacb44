#include "cli/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numbers>

#include "cli/columns.h"
#include "cli/figures.h"
#include "cli/progress.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kShownDropped = 1;  // tensor names per reason
constexpr std::size_t kShownWarnings = 5;
constexpr std::size_t kShownShards = 4;
constexpr std::size_t kShownInputs = 12;
constexpr std::size_t kShownNodes = 6;  // two lines each, and a column of the first angles
constexpr std::size_t kShownFirst = 5;  // tensors in the table of first angles
constexpr std::size_t kKeyLines = 3;
constexpr std::size_t kAngleWidth = 7;   // " 179.99"
constexpr std::size_t kLabelWidth = 10;  // "tensors   "

// "label     text", wrapped under the text.
std::string fact(const std::string& label, const std::string& text, std::size_t width) {
  std::string lines = wrap(text, width, kLabelWidth);
  lines.replace(0, std::min(label.size(), kLabelWidth), label);
  return lines;
}

std::string shown_key(const std::string& key, std::size_t width) {
  return wrap_anywhere(shorten(printable_line(key), kKeyLines * (width - 2)), width, 2);
}

std::size_t limit(std::size_t most, bool verbose, std::size_t count) {
  return verbose ? count : std::min(most, count);
}

std::string tensor_counts(std::uint64_t merged, std::uint64_t copied, std::uint64_t cast,
                          std::uint64_t dropped) {
  return fmt::format("{} merged, {} copied, {} cast, {} dropped", merged, copied, cast, dropped);
}

// "dropped   40: recomputed when loaded (a and 39 more)", one paragraph a reason.
std::string dropped_text(const std::vector<DroppedReport>& dropped, std::size_t width,
                         bool verbose) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const DroppedReport& one : dropped) {
    by_reason[printable_line(one.reason)].push_back(printable_line(one.leaf + ": " + one.tensor));
  }
  std::string text;
  for (const auto& [reason, tensors] : by_reason) {
    const std::size_t shown = limit(kShownDropped, verbose, tensors.size());
    std::string list = tensors[0];
    for (std::size_t i = 1; i < shown; ++i) list += ", " + tensors[i];
    if (shown < tensors.size()) list += fmt::format(" and {} more", tensors.size() - shown);
    text += fact("dropped", fmt::format("{}: {} ({})", tensors.size(), reason, list), width);
  }
  return text;
}

std::string warnings_text(const std::vector<std::string>& warnings, std::size_t width,
                          bool verbose) {
  const std::size_t shown = limit(kShownWarnings, verbose, warnings.size());
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) text += fact("warning", printable(warnings[i]), width);
  return text + more_line(warnings.size(), shown);
}

// ---------------------------------------------------------------- plan

std::string leaves_text(const PlanReport& report, std::size_t width, bool verbose) {
  std::vector<std::vector<std::string>> rows;
  const std::size_t shown = limit(kShownInputs, verbose, report.leaves.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const LeafReport& leaf = report.leaves[i];
    rows.push_back({shorten(printable_line(leaf.name), 20), human_bytes(leaf.bytes),
                    count_text(leaf.tensors, "tensor"), printable_line(leaf.dtypes),
                    printable_line(leaf.path)});
  }
  return "Models\n" + table(rows, {false, true, true, false, false}, width, 2) +
         more_line(report.leaves.size(), shown);
}

std::string adapters_text(const PlanReport& report, std::size_t width, bool verbose) {
  if (report.adapters.empty()) return {};
  std::vector<std::vector<std::string>> rows;
  const std::size_t shown = limit(kShownInputs, verbose, report.adapters.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const AdapterReport& adapter = report.adapters[i];
    rows.push_back({shorten(printable_line(adapter.name), 20), human_bytes(adapter.bytes),
                    count_text(adapter.updates, "update"), printable_line(adapter.family),
                    printable_line(adapter.path)});
  }
  return "Adapters\n" + table(rows, {false, true, true, false, false}, width, 2) +
         more_line(report.adapters.size(), shown);
}

std::string shards_text(const PlanReport& report, std::size_t width) {
  if (report.shards.empty()) return {};
  std::vector<std::vector<std::string>> rows;
  for (const ShardReport& shard : report.shards) {
    rows.push_back({human_bytes(shard.bytes), count_text(shard.tensors, "tensor"),
                    printable_line(shard.file)});
  }
  return "Files\n" + table(rows, {true, true, false}, width, 2);
}

std::string read_fact(const PlanReport& report) {
  std::string text = human_bytes(report.bytes_read);
  if (report.bytes_read > report.bytes_in) {
    text += fmt::format(", of {} of inputs: tensors too large for the memory are read again",
                        human_bytes(report.bytes_in));
  }
  return text;
}

// ---------------------------------------------------------------- angles

std::vector<NodeSummary> nodes_with_angles(const MergeSummary& summary) {
  std::vector<NodeSummary> nodes;
  std::copy_if(summary.nodes.begin(), summary.nodes.end(), std::back_inserter(nodes),
               [](const NodeSummary& node) { return node.smallest && node.largest; });
  return nodes;
}

// Two lines a node: its number and key, smallest angle; then the largest.
std::string node_text(const NodeSummary& node, std::size_t number, std::size_t width) {
  const std::size_t tensor_width = std::min<std::size_t>(40, width / 2);
  const std::size_t used = 2 + kAngleWidth + 2 + tensor_width;
  const std::size_t key_width = width > used + 12 ? width - used : 12;
  const std::string lead = fmt::format("{:>2} ", number);
  const std::string key = lead + shorten(printable_line(node.key), key_width - lead.size() - 1);
  const auto line = [&](const std::string& left, const AngleExtreme& angle) {
    return "  " + pad_right(left, key_width) + pad_left(angle_text(angle.radians), kAngleWidth) +
           "  " + shorten_tensor(printable_line(angle.tensor), tensor_width) + "\n";
  };
  std::string text = line(key, *node.smallest) + line("", *node.largest);
  if (node.fell_back > 0) {
    text += "     " + count_text(node.fell_back, "tensor") +
            " blended linearly: the angle is too small or a norm is zero\n";
  }
  return text;
}

std::string extremes_text(const std::vector<NodeSummary>& nodes, std::size_t width, bool verbose) {
  if (nodes.empty()) return {};
  const std::size_t shown = limit(kShownNodes, verbose, nodes.size());
  std::string text = "Smallest and largest angle at each node, in degrees\n";
  for (std::size_t i = 0; i < shown; ++i) text += node_text(nodes[i], i + 1, width);
  return text + more_line(nodes.size(), shown);
}

// A column for each node that fits, headed by the node's number.
std::string first_angles_text(const MergeSummary& summary, const std::vector<NodeSummary>& nodes,
                              std::size_t width, bool verbose) {
  if (summary.first_angles.empty() || nodes.empty()) return {};
  constexpr std::size_t kColumn = kAngleWidth + 1;
  const std::size_t fitting = width > 24 + kColumn ? (width - 24) / kColumn : 1;
  const std::size_t columns = std::min(fitting, limit(kShownNodes, verbose, nodes.size()));
  const std::size_t used = 2 + columns * kColumn;
  const std::size_t name_width = width > used + 20 ? std::min<std::size_t>(width - used, 44) : 20;
  std::string text = pad_right("First angles", 2 + name_width);
  for (std::size_t i = 0; i < columns; ++i) {
    text += pad_left(fmt::format("node {}", i + 1), kColumn);
  }
  text += "\n";
  const std::size_t shown = limit(kShownFirst, verbose, summary.first_angles.size());
  for (std::size_t row = 0; row < shown; ++row) {
    const FirstAngles& first = summary.first_angles[row];
    text += "  " + pad_right(shorten_tensor(printable_line(first.tensor), name_width), name_width);
    for (std::size_t i = 0; i < columns; ++i) {
      const auto found = std::find_if(first.angles.begin(), first.angles.end(),
                                      [&](const auto& one) { return one.first == nodes[i].key; });
      text += pad_left(found == first.angles.end() ? "-" : angle_text(found->second), kColumn);
    }
    text += "\n";
  }
  return text;
}

// ---------------------------------------------------------------- merge

std::string against_plan(std::uint64_t bytes, std::uint64_t planned) {
  const std::string text = human_bytes(bytes);
  if (bytes == planned) return text + ", as planned";
  return bytes > planned
             ? fmt::format("{}, {} more than planned", text, human_bytes(bytes - planned))
             : fmt::format("{}, {} less than planned", text, human_bytes(planned - bytes));
}

std::string kept_text(const MergeSummary& summary) {
  if (summary.tensors_kept == 0) return {};
  return fmt::format(" for all but {}, which {} written already",
                     count_text(summary.tensors_kept, "tensor"),
                     summary.tensors_kept == 1 ? "was" : "were");
}

// "999", "13.0 billion"
std::string large_count(std::uint64_t count) {
  if (count < 1'000'000) return fmt::format("{}", count);
  if (count < 1'000'000'000) return fmt::format("{:.1f} million", static_cast<double>(count) / 1e6);
  return fmt::format("{:.1f} billion", static_cast<double>(count) / 1e9);
}

std::string rounding_text(const MergeSummary& summary) {
  if (summary.elements == 0) return "no element";
  const double part =
      100.0 * static_cast<double>(summary.rounded) / static_cast<double>(summary.elements);
  return fmt::format("{:.1f} % of {} elements, once; {} clipped, {} NaN or Inf", part,
                     large_count(summary.elements), summary.clipped, summary.nonfinite);
}

std::string speed_text(const MergeSummary& summary) {
  if (!(summary.seconds > 0)) return {};
  const auto bytes = static_cast<double>(summary.bytes_read + summary.bytes_written);
  return fmt::format(", {}/s read and written",
                     human_bytes(static_cast<std::uint64_t>(bytes / summary.seconds)));
}

// A double-quoted string of Python.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string next_text(const MergeSummary& summary) {
  const auto& leaves = summary.plan.leaves;
  const std::string folder = quoted(printable_line(summary.output));
  // Without a config.json there is no architecture, and no model class to load.
  if (leaves.empty() || leaves.front().architecture.empty()) {
    return "safetensors: load_file(" + folder + " + \"/\" + file)";
  }
  return "transformers: AutoModelForCausalLM.from_pretrained(" + folder + ")";
}

}  // namespace

std::string plan_text(const PlanReport& report, std::size_t width, bool verbose) {
  std::string text = "Plan of\n" + shown_key(report.key, width);
  text += leaves_text(report, width, verbose);
  text += adapters_text(report, width, verbose);
  if (verbose || report.shards.size() <= kShownShards) text += shards_text(report, width);
  text += "\n";
  text += fact(
      "tensors",
      fmt::format("{}: {}", report.tensors,
                  tensor_counts(report.merged, report.copied, report.cast, report.dropped.size())),
      width);
  text += dropped_text(report.dropped, width, verbose);
  text += fact("read", read_fact(report), width);
  text += fact("write",
               fmt::format("{} in {}", human_bytes(report.bytes_out),
                           count_text(report.shards.size(), "file")),
               width);
  text += fact(
      "memory",
      fmt::format("{} of the {} allowed; {} is the least that works", human_bytes(report.memory),
                  human_bytes(report.memory_ceiling), human_bytes(report.least_memory)),
      width);
  text += fact("disk",
               fmt::format("{} needed, {} free", human_bytes(report.disk_needed),
                           human_bytes(report.disk_free)),
               width);
  text += fact("time",
               report.seconds ? "about " + human_seconds(*report.seconds)
                              : std::string(report.problems.empty()
                                                ? "unknown: nothing could be read to measure"
                                                : "not estimated"),
               width);
  text += warnings_text(report.warnings, width, verbose);
  if (!report.problems.empty()) {
    text +=
        fact("problems",
             count_text(report.problems.size(), "problem") + "; merge refuses this recipe", width);
  }
  return text;
}

std::string merge_text(const MergeSummary& summary, std::size_t width, bool verbose) {
  const std::vector<NodeSummary> nodes = nodes_with_angles(summary);
  const std::string extremes = extremes_text(nodes, width, verbose);
  const std::string first = first_angles_text(summary, nodes, width, verbose);
  std::string text = extremes + first;
  if (!text.empty()) text += "\n";
  text += fact("tensors",
               tensor_counts(summary.merged, summary.copied, summary.cast, summary.dropped), width);
  text += dropped_text(summary.plan.dropped, width, verbose);
  text += fact("rounded", rounding_text(summary), width);
  text += fact("read",
               against_plan(summary.bytes_read, summary.plan.bytes_read - summary.reads_spared) +
                   kept_text(summary),
               width);
  text += fact("written",
               against_plan(summary.bytes_written + summary.bytes_kept, summary.plan.bytes_out) +
                   (summary.bytes_kept == 0 ? ""
                                            : fmt::format(", {} of it by an interrupted run",
                                                          human_bytes(summary.bytes_kept))),
               width);
  text += fact("memory",
               fmt::format("{} at the peak of {} allowed", human_bytes(summary.peak_memory),
                           human_bytes(summary.plan.memory_ceiling)),
               width);
  text += fact("time", human_seconds(summary.seconds) + speed_text(summary), width);
  text += warnings_text(summary.warnings, width, verbose);
  // Neither is wrapped: both are there to be copied.
  text += pad_right("folder", kLabelWidth) + printable_line(summary.output) + "\n";
  text += pad_right("next", kLabelWidth) + next_text(summary) + "\n";
  return text;
}

std::string key_text(const KeyReport& report, std::size_t width) {
  std::string text = printable(report.tree);
  if (!text.ends_with('\n')) text += "\n";
  text += "\ncanonical\n  " + printable_line(report.canonical) + "\n";
  const auto names = [&](const char* label, const std::vector<std::string>& list) {
    return list.empty()
               ? std::string()
               : fact(label, printable_line(fmt::format("{}", fmt::join(list, ", "))), width);
  };
  text += "\n";
  text += names("models", report.models);
  text += names("adapters", report.adapters);
  for (std::size_t i = 0; i < report.legend.size(); ++i) {
    text += fact(i == 0 ? "legend" : "", printable_line(report.legend[i]), width);
  }
  return text;
}

std::string methods_text(const std::vector<MethodInfo>& methods,
                         const std::vector<MethodInfo>& combinations, std::size_t width) {
  std::vector<std::vector<std::string>> rows = {{"method", "models", ""}};
  for (const MethodInfo& method : methods) {
    rows.push_back({method.name, method.models, method.summary});
  }
  std::vector<std::vector<std::string>> combined = {{"of adapters", ""}};
  for (const MethodInfo& combination : combinations) {
    combined.push_back({combination.name, combination.summary});
  }
  return table(rows, {false, false, false}, width, 0) + "\n" +
         wrap(
             "Several adapters can be made one before they are folded, as in "
             "\"A[L+K; ties, density=0.5]\":",
             width, 0) +
         "\n" + table(combined, {false, false}, width, 0) +
         "\n`thorns methods NAME` explains one with its parameters.\n";
}

std::string method_text(const MethodInfo& method, bool combination, std::size_t width) {
  std::string text = method.name + "\n" + wrap(method.summary, width, 2) + "\n";
  text += fact(combination ? "adapters" : "models", method.models, width);
  text += fact("source", method.reference, width);
  if (!method.parameters.empty()) text += "\nParameters\n";
  for (const MethodParameter& parameter : method.parameters) {
    text += fmt::format("  {}: {}, {}", parameter.name, parameter.type, parameter.range);
    if (!parameter.default_value.empty()) text += ", default " + parameter.default_value;
    text += "\n" + wrap(parameter.help, width, 6);
  }
  return text;
}

}  // namespace thorns::cli
