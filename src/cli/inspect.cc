// thorns inspect: what a path holds is the answer and goes to standard output.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "cli/columns.h"
#include "cli/figures.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/verbs.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kShownLines = 40;
constexpr std::size_t kShownRanks = 6;
constexpr std::size_t kShownTargets = 16;
constexpr std::size_t kFactWidth = 12;  // of a fact

using Rows = std::vector<std::vector<std::string>>;

std::string shape_words(const std::vector<std::uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// "6.74 B", "533 M", "4096"
std::string amount(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

// A name and what there is to say of it, over as many lines as it takes.
std::string named_fact(const std::string& name, const std::string& what, std::size_t width) {
  if (what.empty()) return {};
  const std::size_t room = std::max<std::size_t>(width, kFactWidth + 20);
  const std::string lines = wrap(printable_line(what), room, kFactWidth);
  return pad_right(name, kFactWidth) + lines.substr(std::min(kFactWidth, lines.size()));
}

// Words that are there, with commas between them.
std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!word.empty()) text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

std::string counted(const std::optional<std::uint64_t>& count, const char* format) {
  return count ? fmt::format(fmt::runtime(format), *count) : std::string();
}

// Rows under a heading, the last column a name; without `verbose` the first kShownLines.
std::string rows_text(std::vector<std::string> heading, Rows rows, std::size_t width,
                      bool verbose) {
  if (rows.empty()) return {};
  const std::size_t all = rows.size();
  if (!verbose && all > kShownLines) rows.resize(kShownLines);
  const std::size_t shown = rows.size();
  std::vector<bool> right(heading.size(), true);
  right.back() = false;
  rows.insert(rows.begin(), std::move(heading));
  std::string text = "\n" + table(rows, right, width, 0);
  if (shown < all) text += fmt::format("and {} more; -v lists all\n", all - shown);
  return text;
}

std::string types_text(const InspectReport& report) {
  std::map<std::string, std::uint64_t> bytes;
  for (const TensorGroup& group : report.groups) bytes[group.type] += group.bytes;
  std::vector<std::pair<std::string, std::uint64_t>> order(bytes.begin(), bytes.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> words;
  for (const auto& [type, count] : order) words.push_back(type);
  return listed(words);
}

std::string contents_text(const InspectReport& report, std::size_t width, bool verbose) {
  std::uint64_t bytes = 0;
  for (const InspectedFile& file : report.files) bytes += file.bytes;
  std::string text =
      named_fact("holds",
                 fmt::format("{} parameters in {}: {}", amount(report.parameters),
                             count_text(report.tensors, "tensor"), types_text(report)),
                 width) +
      named_fact("files",
                 fmt::format("{}, {}, {}", count_text(report.files.size(), "file"), report.format,
                             human_bytes(bytes)),
                 width);
  if (!verbose) return text;
  for (const InspectedFile& file : report.files) {
    text += named_fact("", fmt::format("{}, {}", file.path, human_bytes(file.bytes)), width);
  }
  return text;
}

std::string groups_text(const InspectReport& report, std::size_t width, bool verbose) {
  Rows rows;
  for (const TensorGroup& group : report.groups) {
    rows.push_back({fmt::format("{}", group.tensors), shape_words(group.shape), group.type,
                    human_bytes(group.bytes), printable_line(group.name)});
  }
  return rows_text({"tensors", "shape", "type", "bytes", "name"}, std::move(rows), width, verbose);
}

std::string notes_text(const InspectReport& report, std::size_t width) {
  std::string text;
  for (const InspectNote& note : report.notes) {
    text += wrap("note: " + printable_line(note.message), width, 0);
  }
  return text.empty() ? text : "\n" + text;
}

std::string architecture_text(const ModelShape& shape) {
  std::string heads = counted(shape.heads, "{} heads");
  if (shape.heads && shape.head_size) heads += fmt::format(" of {}", *shape.head_size);
  if (shape.heads && shape.key_value_heads && *shape.key_value_heads != *shape.heads) {
    heads += fmt::format(" ({} for keys and values)", *shape.key_value_heads);
  }
  std::string name = shape.architecture;
  if (!shape.model_type.empty()) {
    name = name.empty() ? shape.model_type : fmt::format("{} ({})", name, shape.model_type);
  }
  return listed({name, counted(shape.layers, "{} layers"), counted(shape.hidden_size, "hidden {}"),
                 counted(shape.intermediate_size, "intermediate {}"), heads,
                 counted(shape.experts, "{} experts"), counted(shape.positions, "{} positions")});
}

std::string tokenizer_text(const TokenizerFacts& tokenizer) {
  std::string tokens = counted(tokenizer.tokens, "{} tokens");
  if (tokenizer.added && *tokenizer.added > 0) {
    tokens += fmt::format(" ({} special or added)", *tokenizer.added);
  }
  std::vector<std::string> words = {tokenizer.kind, tokens};
  for (const SpecialToken& special : tokenizer.special) {
    words.push_back(fmt::format("{} `{}`", special.role, special.token));
  }
  words.emplace_back(tokenizer.chat_template ? "with a chat template" : "no chat template");
  return listed(words);
}

std::string checkpoint_text(const CheckpointFacts& checkpoint, std::size_t width) {
  return named_fact("model", architecture_text(checkpoint.shape), width) +
         named_fact("type", checkpoint.shape.dtype, width) +
         named_fact("quantised", checkpoint.quantisation, width) +
         named_fact("vocabulary", counted(checkpoint.shape.vocabulary, "{}"), width) +
         named_fact("head", checkpoint.head, width) +
         named_fact("tokenizer",
                    checkpoint.tokenizer ? tokenizer_text(*checkpoint.tokenizer) : "none", width);
}

std::string rank_text(const RankUse& one) {
  return listed({fmt::format("rank {}", one.rank),
                 one.alpha ? fmt::format("alpha {:g}", *one.alpha) : std::string(),
                 fmt::format("scale {:.4g}", one.scale)});
}

std::string ranks_text(const std::vector<RankUse>& ranks, bool verbose) {
  if (ranks.size() == 1) return rank_text(ranks.front());
  std::vector<std::string> words;
  for (const RankUse& one : ranks) {
    if (words.size() == kShownRanks && !verbose) {
      words.push_back(fmt::format("and {} more", ranks.size() - kShownRanks));
      break;
    }
    words.push_back(fmt::format("{} in {}", rank_text(one), count_text(one.updates, "module")));
  }
  return fmt::format("{}", fmt::join(words, "; "));
}

std::string targets_text(const std::vector<TargetUse>& targets, bool verbose) {
  std::uint64_t modules = 0;
  std::vector<std::string> words;
  for (const TargetUse& one : targets) {
    modules += one.modules;
    if (words.size() < kShownTargets || verbose) {
      words.push_back(fmt::format("{} {}", one.name, one.modules));
    }
  }
  if (words.size() < targets.size()) {
    words.push_back(fmt::format("and {} more", targets.size() - words.size()));
  }
  return targets.empty() ? std::string()
                         : fmt::format("{}: {}", count_text(modules, "module"), listed(words));
}

// "model.layers.3.mlp" without its numbers: updates of one row.
std::string without_numbers(const std::string& name) {
  std::string text;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string part = name.substr(at, end - at);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    text += (at == 0 ? "" : ".") + (number ? "*" : part);
    at = end + 1;
  }
  return text;
}

struct Spread {
  std::uint64_t count = 0;
  double least = 0;
  double sum = 0;
  double largest = 0;
  std::string largest_in;

  void add(double value, const std::string& name) {
    if (count == 0 || value < least) least = value;
    if (count == 0 || value > largest) {
      largest = value;
      largest_in = name;
    }
    sum += value;
    ++count;
  }
};

// Norms by module, layers together; single ones with `verbose`.
template <typename Item, typename NameOf, typename ValueOf>
std::string norms_text(const std::string& what, const std::vector<Item>& items, NameOf name_of,
                       ValueOf value_of, std::size_t width, bool verbose) {
  Rows rows;
  if (verbose) {
    for (const Item& item : items) {
      rows.push_back({measure_text(value_of(item)), printable_line(name_of(item))});
    }
    return rows_text({what, "parameter"}, std::move(rows), width, true);
  }
  std::map<std::string, Spread> spreads;
  for (const Item& item : items) {
    if (const auto value = value_of(item)) {
      spreads[without_numbers(name_of(item))].add(*value, name_of(item));
    }
  }
  for (const auto& [name, spread] : spreads) {
    rows.push_back({measure_text(spread.sum / static_cast<double>(spread.count)),
                    measure_text(spread.least), measure_text(spread.largest),
                    fmt::format("{}", spread.count), printable_line(name)});
  }
  return rows_text({"mean " + what, "least", "largest", "number", "parameter"}, std::move(rows),
                   width, verbose);
}

std::string adapter_text(const AdapterFacts& adapter, std::size_t width, bool verbose) {
  std::string text =
      named_fact("adapter", adapter.family, width) +
      named_fact("base", adapter.base_model.empty() ? "not named" : adapter.base_model, width) +
      named_fact("ranks", ranks_text(adapter.ranks, verbose), width) +
      named_fact("targets", targets_text(adapter.targets, verbose), width);
  if (!adapter.replaced.empty()) {
    const std::size_t shown =
        verbose ? adapter.replaced.size() : std::min<std::size_t>(4, adapter.replaced.size());
    std::vector<std::string> names(adapter.replaced.begin(),
                                   adapter.replaced.begin() + static_cast<std::ptrdiff_t>(shown));
    if (shown < adapter.replaced.size()) {
      names.push_back(fmt::format("and {} more", adapter.replaced.size() - shown));
    }
    text += named_fact("replaces", listed(names), width);
  }
  return text;
}

std::string adapter_norms(const AdapterFacts& adapter, std::size_t width, bool verbose) {
  if (!adapter.changed.empty()) {
    const auto name = [](const ChangedTensor& one) { return one.tensor; };
    return norms_text(
               "norm", adapter.changed, name,
               [](const ChangedTensor& one) { return std::optional(one.norm); }, width, verbose) +
           norms_text(
               "relative", adapter.changed, name,
               [](const ChangedTensor& one) { return one.relative; }, width, verbose);
  }
  std::string text = norms_text(
      "norm", adapter.updates, [](const UpdateFacts& one) { return one.parameter; },
      [](const UpdateFacts& one) { return one.norm; }, width, verbose);
  const auto unknown =
      static_cast<std::uint64_t>(std::count_if(adapter.updates.begin(), adapter.updates.end(),
                                               [](const UpdateFacts& one) { return !one.norm; }));
  if (unknown > 0) {
    text +=
        fmt::format("\nThe norm of {} needs the base: --base DIR\n", count_text(unknown, "change"));
  }
  return text;
}

std::string inspect_text(const InspectReport& report, const InspectOptions& options,
                         std::size_t width, bool verbose) {
  std::string text;
  if (report.checkpoint && report.kind == "checkpoint") {
    text += checkpoint_text(*report.checkpoint, width);
  } else if (report.checkpoint) {
    text += named_fact("quantised", report.checkpoint->quantisation, width);
  }
  if (report.adapter) text += adapter_text(*report.adapter, width, verbose);
  text += contents_text(report, width, verbose);
  if (!report.adapter || !options.fold) text += groups_text(report, width, verbose);
  if (report.adapter && options.norms) text += adapter_norms(*report.adapter, width, verbose);
  return text + notes_text(report, width);
}

}  // namespace

int run_inspect(const InspectArguments& arguments, Console& console) {
  catch_stop_signals();
  InspectReport report;
  {
    TerminalObserver observer(console.err, arguments.talk, "", steady_seconds, stop_requested());
    report = inspect(arguments.options, observer);
  }
  const Talk& talk = arguments.talk;
  if (report.adapter && !talk.json) {
    for (const std::string& warning : report.adapter->warnings) tell_warning(console.err, warning);
  }
  return answer(console, talk.json ? to_json(report) + "\n"
                                   : inspect_text(report, arguments.options, console.out.width(),
                                                  talk.verbose));
}

}  // namespace thorns::cli
