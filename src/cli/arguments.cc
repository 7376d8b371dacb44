#include "cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <memory>
#include <sstream>

#include "cli/help.h"
#include "cli/options.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kMostThreads = 1024;
constexpr const char* kDtypes = "float32|float16|bfloat16";
constexpr const char* kProgressModes = "auto|always|never";

// ---------------------------------------------------------------- values

std::uint64_t size_value(const std::string& option, const std::string& value) {
  const auto bytes = parse_size(value);
  if (!bytes) {
    refuse(fmt::format("`{}` needs a size, found `{}`", option, value),
           "sizes are written 500MB or 5GB; units are decimal");
  }
  return *bytes;
}

Dtype dtype_value(const std::string& value) {
  const auto dtype = output_dtype(value);
  if (!dtype) {
    refuse(fmt::format("`--dtype` needs float32, float16 or bfloat16, found `{}`", value),
           did_you_mean(value, std::vector<std::string>{"float32", "float16", "bfloat16"}));
  }
  return *dtype;
}

std::size_t threads_value(const std::string& value) {
  std::size_t threads = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, code] = std::from_chars(value.data(), end, threads);
  if (code != std::errc{} || stop != end || threads < 1 || threads > kMostThreads) {
    refuse(fmt::format("`--threads` needs a number from 1 to {}, found `{}`", kMostThreads, value));
  }
  return threads;
}

std::size_t count_value(const std::string& option, const std::string& value) {
  std::size_t count = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, code] = std::from_chars(value.data(), end, count);
  if (code != std::errc{} || stop != end || count < 1) {
    refuse(fmt::format("`{}` needs a number, at least 1, found `{}`", option, value));
  }
  return count;
}

ProgressMode progress_value(const std::string& value) {
  if (value == "auto") return ProgressMode::Auto;
  if (value == "always") return ProgressMode::Always;
  if (value == "never") return ProgressMode::Never;
  refuse(fmt::format("`--progress` needs auto, always or never, found `{}`", value),
         did_you_mean(value, std::vector<std::string>{"auto", "always", "never"}));
}

std::pair<std::string, std::string> binding_value(const std::string& option,
                                                  const std::string& value) {
  const std::size_t equals = value.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == value.size()) {
    refuse(fmt::format("`{}` needs NAME=WHERE, found `{}`", option, value),
           fmt::format("for example {} Name=path/to/folder", option));
  }
  return {value.substr(0, equals), value.substr(equals + 1)};
}

// [NAME=]FILE
std::pair<std::string, std::string> key_map_value(const std::string& value) {
  if (value.find('=') == std::string::npos) return {{}, value};
  return binding_value("--key-map", value);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

// ---------------------------------------------------------------- groups of options

void declare_names(OptionTable& table, Inputs& inputs) {
  table.group("Models and adapters");
  table.repeated(
      "-m,--model", "NAME=WHERE",
      "Bind a model's name in the recipe to a folder or weights file. Repeatable. Default: names "
      "are looked up in the --path folders, then taken as folders.",
      [&inputs](const std::string& value) {
        inputs.models.push_back(binding_value("--model", value));
      });
  table.repeated(
      "-a,--adapter", "NAME=WHERE",
      "Bind an adapter's name in the recipe to a folder, or to a file that is an adapter by "
      "itself (of Kohya, diffusers, llama.cpp). Repeatable. Default: as for --model.",
      [&inputs](const std::string& value) {
        inputs.adapters.push_back(binding_value("--adapter", value));
      });
  table.repeated(
      "--key-map", "[NAME=]FILE",
      "Rename the modules of the adapter NAME, of all adapters without one: a YAML or JSON file of "
      "lines such as  language_model.layers: model.layers  that say what stands at the beginning "
      "of "
      "the adapter's names and of the model's. Repeatable. Default: one rewriting that fits all "
      "modules is looked for.",
      [&inputs](const std::string& value) { inputs.key_maps.push_back(key_map_value(value)); });
  table.repeated("--path", "DIR",
                 "Look names up here: DIR/NAME is a model if it holds config.json and an adapter "
                 "if it holds adapter_config.json; DIR/NAME.gguf is called NAME, too; a blank in a "
                 "name also matches - or _. "
                 "Repeatable. The folders of the variable THORNS_PATH, separated by `:`, come "
                 "after these. Default: none.",
                 [&inputs](const std::string& value) { inputs.paths.push_back(value); });
}

void declare_inputs(OptionTable& table, MergeOptions& options) {
  table.positional("RECIPE",
                   "What to build: a key such as \"{A+B}\", the path of a recipe file (YAML), or - "
                   "for a recipe on standard input. A single word that names an existing file is "
                   "the file.",
                   options.recipe);
  declare_names(table, options.inputs);
}

void declare_result(OptionTable& table, MergeOptions& options) {
  table.once("--dtype", kDtypes,
             "Type of the output's floating tensors. Default: the recipe's, else that of the "
             "first model.",
             [&options](const std::string& value) { options.dtype = dtype_value(value); });
  table.once("--shard-size", "SIZE",
             "Largest size of one weights file, in decimal units: 5GB, 500MB. Default: the "
             "recipe's, else 5GB.",
             [&options](const std::string& value) {
               options.shard_size = size_value("--shard-size", value);
             });
  table.once("--vocabulary", "union|gradient|zero|truncate|strict",
             "What becomes of rows of embedding and output head that only some models have: kept "
             "as they are, merged with rows that lead there from the others' last, merged with "
             "zeros, dropped, or an error. Default: the recipe's, else "
             "union.",
             [&options](const std::string& value) { options.vocabulary = value; });
  table.once("--tokenizer", "NAME",
             "The model whose tokenizer the result gets, with the tokens that other models add to "
             "it. Default: the recipe's, else the first model that has one.",
             [&options](const std::string& value) { options.tokenizer = value; });
}

void declare_force(OptionTable& table, MergeOptions& options) {
  table.flag("--force",
             "Replace a finished folder. The old one is kept until the new one is complete. "
             "Default: an existing folder is an error.",
             options.force);
}

void declare_machine(OptionTable& table, std::uint64_t& memory, std::size_t& threads) {
  table.group("Machine");
  table.once("--memory", "SIZE",
             "Ceiling on resident memory; a recipe that cannot keep it is refused before a byte is "
             "read. Default: 512MB.",
             [&memory](const std::string& value) { memory = size_value("--memory", value); });
  table.once("-j,--threads", "N", "Worker threads. Default: all cores.",
             [&threads](const std::string& value) { threads = threads_value(value); });
}

void declare_volume(OptionTable& table, Talk& talk) {
  table.flag("-q,--quiet", "Say nothing but warnings and errors. Default: off.", talk.quiet);
  table.flag("-v,--verbose",
             "Give whole lists (dropped tensors, shards, warnings) instead of their beginning. "
             "Default: off.",
             talk.verbose);
}

void declare_json(OptionTable& table, Talk& talk) {
  table.flag("--json",
             "Write one JSON document to standard output, errors included. Default: off, text for "
             "people.",
             talk.json);
}

void refuse_both_volumes(const Talk& talk) {
  if (talk.quiet && talk.verbose) refuse("`--quiet` and `--verbose` exclude each other");
}

// ---------------------------------------------------------------- verbs

// A verb's options, bound to arguments that live as long as this.
struct VerbParser {
  explicit VerbParser(const std::string& name) : app("", name) {
    app.set_help_flag();  // declared last, so that it stands last
  }
  CLI::App app;
  std::function<Command()> finish;  // after a parse: what no single option can check
};

std::unique_ptr<VerbParser> merge_parser() {
  auto parser = std::make_unique<VerbParser>("merge");
  auto arguments = std::make_shared<MergeArguments>();
  MergeOptions& options = arguments->options;
  OptionTable table(parser->app);
  table.group("Recipe");
  declare_inputs(table, options);
  table.group("Result");
  table.once("-o,--output", "DIR",
             "The folder to make; required. It appears when it is complete, and must not exist "
             "before, unless --force is given.",
             [&options](const std::string& value) { options.output = value; });
  declare_result(table, options);
  table.once("--card", "TEMPLATE",
             "The template of the model card: a text with fields such as {{key}}. Default: the "
             "one in docs/model-card.md.",
             [&options](const std::string& value) { options.card = value; });
  declare_force(table, options);
  table.flag("--allow-nonfinite",
             "Count NaN and Inf in inputs and output and go on. Default: the first one stops the "
             "merge, with its tensor and element.",
             options.allow_nonfinite);
  declare_machine(table, options.memory, options.threads);
  table.group("Talk");
  declare_volume(table, arguments->talk);
  table.once(
      "--progress", kProgressModes,
      "The progress line on standard error. auto: one line that is redrawn on a terminal, "
      "a line every 10 seconds elsewhere. Default: auto.",
      [arguments](const std::string& value) { arguments->talk.progress = progress_value(value); });
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    if (app.count("RECIPE") == 0) {
      refuse("merge needs a recipe",
             "a key in quotes, a recipe file, or - for standard input; see `thorns merge --help`");
    }
    if (arguments->options.output.empty()) {
      refuse("merge needs a folder to write", "add -o DIR");
    }
    refuse_both_volumes(arguments->talk);
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> plan_parser() {
  auto parser = std::make_unique<VerbParser>("plan");
  auto arguments = std::make_shared<PlanArguments>();
  MergeOptions& options = arguments->options;
  OptionTable table(parser->app);
  table.group("Recipe");
  declare_inputs(table, options);
  table.flag("--remote",
             "Read the headers of repositories that are not in the Hub cache at the Hub, a few "
             "kilobytes of each. Default: they are an error.",
             arguments->remote);
  table.group("Result");
  table.once("-o,--output", "DIR",
             "The folder that merge would make: checked for what is there already and for free "
             "space. Default: no folder is checked, the free space is that of the current one.",
             [&options](const std::string& value) { options.output = value; });
  declare_result(table, options);
  declare_force(table, options);
  declare_machine(table, options.memory, options.threads);
  table.group("Talk");
  table.once("--explain", "TENSOR",
             "Show how one output tensor is made, step by step and with the source of each number, "
             "instead of the plan. Default: none.",
             [arguments](const std::string& value) { arguments->explain = value; });
  declare_volume(table, arguments->talk);
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    if (app.count("RECIPE") == 0) {
      refuse("plan needs a recipe",
             "a key in quotes, a recipe file, or - for standard input; see `thorns plan --help`");
    }
    if (!arguments->explain.empty() && arguments->talk.json) {
      refuse("`--explain` is text and excludes `--json`");
    }
    refuse_both_volumes(arguments->talk);
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> check_parser() {
  auto parser = std::make_unique<VerbParser>("check");
  auto arguments = std::make_shared<CheckArguments>();
  MergeOptions& options = arguments->options;
  OptionTable table(parser->app);
  table.group("Recipe");
  declare_inputs(table, options);
  table.group("Result");
  declare_result(table, options);
  table.group("Measurement");
  table.flag("--headers",
             "Compare headers, configurations and cards only; measure no weights. Default: "
             "everything is measured, in one sweep over the inputs.",
             arguments->check.headers_only);
  table.once(
      "--sample", "N",
      "Measure the tensors of N layers, evenly spread, instead of all tensors. Default: all.",
      [arguments](const std::string& value) {
        arguments->check.layers = count_value("--sample", value);
      });
  table.flag("--suggest",
             "Hold every adapter against every model of the recipe, and print the key that gives "
             "each the largest effect at the least overlap. A measurement of weights, no promise "
             "of quality. Default: off.",
             arguments->check.suggest);
  table.flag("--allow-nonfinite",
             "Take NaN and Inf for 0 and go on. Default: the first one is a finding and ends the "
             "measurement.",
             options.allow_nonfinite);
  declare_machine(table, options.memory, options.threads);
  table.group("Talk");
  declare_volume(table, arguments->talk);
  table.once(
      "--progress", kProgressModes,
      "The progress line on standard error. auto: one line that is redrawn on a terminal, "
      "a line every 10 seconds elsewhere. Default: auto.",
      [arguments](const std::string& value) { arguments->talk.progress = progress_value(value); });
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    if (app.count("RECIPE") == 0) {
      refuse("check needs a recipe",
             "a key in quotes, a recipe file, or - for standard input; see `thorns check --help`");
    }
    if (arguments->check.headers_only && arguments->check.layers) {
      refuse("`--headers` measures nothing and excludes `--sample`");
    }
    if (arguments->check.headers_only && arguments->check.suggest) {
      refuse("`--headers` measures nothing and excludes `--suggest`");
    }
    refuse_both_volumes(arguments->talk);
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> diff_parser() {
  auto parser = std::make_unique<VerbParser>("diff");
  auto arguments = std::make_shared<DiffArguments>();
  OptionTable table(parser->app);
  table.group("Models");
  table.positional("A", "The first model's folder or weights file.", arguments->options.a);
  table.positional("B", "The second one's.", arguments->options.b);
  table.once("--blame", "RECIPE",
             "Instead of B: find the weighted sum of this recipe's models and adapters that comes "
             "nearest to each tensor of A, and what it leaves unexplained. Default: none.",
             [arguments](const std::string& value) { arguments->blame.recipe = value; });
  declare_names(table, arguments->blame.inputs);
  declare_machine(table, arguments->blame.memory, arguments->blame.threads);
  table.group("Talk");
  declare_volume(table, arguments->talk);
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    const bool blames = !arguments->blame.recipe.empty();
    if (app.count("A") == 0 || (app.count("B") == 0 && !blames)) {
      refuse("diff needs two models", "for example: thorns diff path/to/a path/to/b");
    }
    if (blames && app.count("B") > 0) {
      refuse("`--blame` explains one model and excludes a second one");
    }
    refuse_both_volumes(arguments->talk);
    arguments->options.memory = arguments->blame.memory;
    arguments->options.threads = arguments->blame.threads;
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> inspect_parser() {
  auto parser = std::make_unique<VerbParser>("inspect");
  auto arguments = std::make_shared<InspectArguments>();
  InspectOptions& options = arguments->options;
  OptionTable table(parser->app);
  table.group("Input");
  table.positional(
      "PATH",
      "A folder with a model or an adapter, a weights file of any format that is read, "
      "or an index.",
      options.path);
  table.once("--base", "DIR",
             "Fold the adapter into this model, without writing anything, and say how much each "
             "tensor changes. Default: the norms that the adapter's own tensors tell.",
             [&options](const std::string& value) { options.base = value; });
  table.group("Measurement");
  auto no_norms = std::make_shared<bool>(false);
  table.flag("--no-norms", "Do not measure what an adapter adds; read headers only. Default: off.",
             *no_norms);
  table.flag("--scan", "Read every tensor and count NaN and Inf. Default: off.", options.scan);
  declare_machine(table, options.memory, options.threads);
  table.group("Talk");
  auto tensors = std::make_shared<bool>(false);
  table.flag("--tensors",
             "List every tensor by itself. Default: those whose names differ in numbers alone are "
             "one line.",
             *tensors);
  declare_volume(table, arguments->talk);
  declare_json(table, arguments->talk);
  parser->finish = [arguments, no_norms, tensors, &app = parser->app]() -> Command {
    if (app.count("PATH") == 0) {
      refuse("inspect needs a folder or file", "for example: thorns inspect path/to/model");
    }
    refuse_both_volumes(arguments->talk);
    arguments->options.norms = !*no_norms;
    arguments->options.fold = !*tensors;
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> report_parser() {
  auto parser = std::make_unique<VerbParser>("report");
  auto arguments = std::make_shared<ReportArguments>();
  OptionTable table(parser->app);
  table.group("Folder");
  table.positional("DIR", "The finished folder.", arguments->options.folder);
  table.group("Result");
  table.once("-o,--output", "FILE",
             "The page to write, or - for standard output. A page that is there is replaced. "
             "Default: DIR.html; with --json no page is written.",
             [arguments](const std::string& value) { arguments->output = value; });
  table.group("Measurement");
  table.flag("--no-weights",
             "Read thorns.json only. Default: norms of tensors that the merge copied without "
             "measuring them are read from the weights.",
             arguments->options.no_weights);
  table.once(
      "-j,--threads", "N", "Worker threads. Default: all cores.",
      [arguments](const std::string& value) { arguments->options.threads = threads_value(value); });
  table.group("Talk");
  declare_volume(table, arguments->talk);
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    if (app.count("DIR") == 0) {
      refuse("report needs a folder", "for example: thorns report path/to/merge");
    }
    if (arguments->talk.json && arguments->output == "-") {
      refuse("`--json` and `-o -` both write to standard output");
    }
    refuse_both_volumes(arguments->talk);
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> verify_parser() {
  auto parser = std::make_unique<VerbParser>("verify");
  auto arguments = std::make_shared<VerifyArguments>();
  OptionTable table(parser->app);
  table.group("Folder");
  VerifyOptions& options = arguments->options;
  table.positional("DIR", "The finished folder.", options.folder);
  table.flag("--recompute",
             "Make every tensor again from the inputs and compare all bytes. Default: off, unless "
             "-m, -a, --path or --sample is given.",
             options.remake);
  table.once(
      "--sample", "N", "Make and compare only N tensors, spread over the model. Default: all.",
      [&options](const std::string& value) { options.sample = count_value("--sample", value); });
  declare_names(table, options.inputs);
  declare_machine(table, options.memory, options.threads);
  table.group("Talk");
  declare_volume(table, arguments->talk);
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    if (app.count("DIR") == 0) {
      refuse("verify needs a folder", "for example: thorns verify path/to/merge");
    }
    VerifyOptions& options = arguments->options;
    const Inputs& inputs = options.inputs;
    options.remake |= options.sample || !inputs.models.empty() || !inputs.adapters.empty() ||
                      !inputs.paths.empty();
    refuse_both_volumes(arguments->talk);
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> fetch_parser() {
  auto parser = std::make_unique<VerbParser>("fetch");
  auto arguments = std::make_shared<FetchArguments>();
  FetchOptions& options = arguments->options;
  OptionTable table(parser->app);
  table.group("Repositories");
  table.positionals("REPO",
                    "owner/repo, or owner/repo@revision with a branch, a tag or a commit. "
                    "Repeatable.",
                    options.repositories);
  table.repeated("--include", "PATTERN",
                 "Fetch the files whose name matches this, and no others; * stands for any "
                 "characters. Repeatable. Default: what a merge needs, which is the weights in one "
                 "format, configuration, tokenizer, card and license.",
                 [&options](const std::string& value) { options.include.push_back(value); });
  table.group("Talk");
  declare_volume(table, arguments->talk);
  table.once(
      "--progress", kProgressModes,
      "The progress line on standard error, as in merge. Default: auto.",
      [arguments](const std::string& value) { arguments->talk.progress = progress_value(value); });
  declare_json(table, arguments->talk);
  parser->finish = [arguments]() -> Command {
    if (arguments->options.repositories.empty()) {
      refuse("fetch needs a repository", "for example: thorns fetch owner/repo");
    }
    refuse_both_volumes(arguments->talk);
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> key_parser() {
  auto parser = std::make_unique<VerbParser>("key");
  auto arguments = std::make_shared<KeyArguments>();
  OptionTable table(parser->app);
  table.group("Key");
  table.positional("KEY", "The key, in quotes, or - for a key on standard input.", arguments->key);
  table.flag("--draw",
             "Draw the key as a tree: segments, folds, and by the key's weights the share of the "
             "result that each part makes up. Default: the tree in words.",
             arguments->draw);
  table.group("Talk");
  declare_json(table, arguments->talk);
  parser->finish = [arguments, &app = parser->app]() -> Command {
    if (app.count("KEY") == 0) {
      refuse("key needs a key", "for example: thorns key \"{A+B}\"");
    }
    if (arguments->draw && arguments->talk.json) {
      refuse("`--draw` is text and excludes `--json`, which has the shares in any case");
    }
    return *arguments;
  };
  return parser;
}

std::unique_ptr<VerbParser> methods_parser() {
  auto parser = std::make_unique<VerbParser>("methods");
  auto arguments = std::make_shared<MethodsArguments>();
  OptionTable table(parser->app);
  table.group("Method");
  table.positional("NAME",
                   "The method to explain with its parameters. Default: all methods, a line each.",
                   arguments->name);
  table.group("Talk");
  declare_json(table, arguments->talk);
  parser->finish = [arguments]() -> Command { return *arguments; };
  return parser;
}

std::unique_ptr<VerbParser> completion_parser() {
  auto parser = std::make_unique<VerbParser>("completion");
  auto arguments = std::make_shared<CompletionArguments>();
  OptionTable table(parser->app);
  table.group("Shell");
  table.positional("SHELL", "bash, zsh or fish.", arguments->shell);
  parser->finish = [arguments]() -> Command {
    const auto& shells = completion_shells();
    if (std::find(shells.begin(), shells.end(), arguments->shell) == shells.end()) {
      refuse(arguments->shell.empty()
                 ? "completion needs a shell"
                 : fmt::format("there is no completion for `{}`", arguments->shell),
             "one of bash, zsh, fish");
    }
    return *arguments;
  };
  return parser;
}

struct Verb {
  std::string name;
  VerbHelp help;
  std::unique_ptr<VerbParser> (*declare)();

  std::unique_ptr<VerbParser> parser() const {
    auto parser = declare();
    parser->app.set_help_flag("-h,--help", "Show this text.")->group("Talk");
    return parser;
  }
};

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> list = {
      {"merge",
       {"merge RECIPE -o DIR", "build the model that the recipe describes",
        "Build the model that a recipe describes. Every input tensor is read once, the whole "
        "recipe is evaluated tensor by tensor, and the finished checkpoint is written once; "
        "nothing in between touches the disk. A merge that fails or is interrupted leaves no "
        "folder that looks finished.",
        "  Merge two models half and half:\n"
        "    thorns merge \"{A+B}\" -m A=path/to/a -m B=path/to/b -o AB\n\n"
        "  Fold an adapter into each half first, names looked up in two folders:\n"
        "    thorns merge \"{A[LoraOne]+B[LoraTwo]}\" --path models --path loras -o AB\n\n"
        "  A recipe file, written as bfloat16 in files of at most 2 GB:\n"
        "    thorns merge recipe.yaml --dtype bfloat16 --shard-size 2GB -o Mine\n"},
       merge_parser},
      {"plan",
       {"plan RECIPE", "what merge would read, write, need and take",
        "Say what merge would read, write, need and take, and everything that it would refuse. "
        "Opens headers only and writes nothing. Exit code 1 or 2 where merge would refuse.",
        "  What would this merge need, and would it work?\n"
        "    thorns plan \"{A+B[Lora]}\" --path models --path loras -o AB\n\n"
        "  The same for models that are not on this machine yet:\n"
        "    thorns plan \"{owner/one+owner/two}\" --remote\n\n"
        "  How is one tensor made?\n"
        "    thorns plan \"{A+B}\" --path models \\\n"
        "           --explain model.layers.0.mlp.up_proj.weight\n"},
       plan_parser},
      {"check",
       {"check RECIPE", "what is likely to go wrong, with the measurements behind it",
        "Say what is likely to go wrong with a recipe: adapters that reach one model twice or are "
        "stacked, merges that only average, models that do not belong together, configurations, "
        "tokenizers and prompts that disagree, and everything that merge would refuse. Every "
        "finding has its measurement and what to do. These are measurements of weights, no promise "
        "of quality. Writes nothing. Exit code 1 where merge would refuse.",
        "  Is something wrong with this key?\n"
        "    thorns check \"{A[LoraOne+LoraTwo]+B}\" --path models --path loras\n\n"
        "  The same from headers and cards alone, in a moment:\n"
        "    thorns check recipe.yaml --headers\n\n"
        "  Where would each adapter do most?\n"
        "    thorns check \"{A+B}[LoraOne+LoraTwo]\" --path models --path loras --suggest\n"},
       check_parser},
      {"diff",
       {"diff A B", "how two checkpoints differ, tensor by tensor",
        "Compare two checkpoints: tensors that only one has, and for the others, by layer, by "
        "module and by tensor, how many elements differ, the distance, the angle and the largest "
        "change. With --blame, say instead which models of a recipe explain A. Reads every input "
        "once and writes nothing.",
        "  thorns diff path/to/base path/to/tune\n\n"
        "  What is this merge made of?\n"
        "    thorns diff path/to/unknown --blame \"{A+B[Lora]}\" --path models --path loras\n"},
       diff_parser},
      {"inspect",
       {"inspect PATH", "what a checkpoint, an adapter or a single file holds",
        "Say what stands at a path: of a checkpoint the architecture, tensors by shape and type, "
        "quantisation, tokenizer and whatever is unusual; of an adapter its family, ranks, "
        "targets, and the norm of what it adds. Pickles are read as data and never executed. Reads "
        "headers, and of weights only what is measured.",
        "  thorns inspect path/to/model\n"
        "  thorns inspect pytorch_model.bin --scan\n\n"
        "  How much does this adapter change, and of which tensors most?\n"
        "    thorns inspect path/to/lora --base path/to/model -v\n"},
       inspect_parser},
      {"report",
       {"report DIR", "what a finished merge is made of, as one HTML page",
        "Write one HTML page about a finished folder: the key as a tree with the share of every "
        "part, angles by layer and module, norms before and after, distances from every model, and "
        "what rounding did. Reads thorns.json, and of the weights what was copied without being "
        "measured. The page needs no network.",
        "  thorns report path/to/merge\n"
        "  thorns report path/to/merge -o merge.html\n"},
       report_parser},
      {"verify",
       {"verify DIR", "whether a finished folder is what its manifest and recipe say",
        "Read every file of a finished folder and hold it against thorns.json: size, SHA-256, and "
        "names, types and shapes of the tensors. Where it is told of the inputs, hold the manifest "
        "against its recipe and them, make the tensors again and compare every byte. Writes "
        "nothing. Exit code 3 where a file is not what the manifest says, 4 where the manifest is "
        "not what the recipe says, 5 where a tensor is not what the recipe makes; the first of "
        "these where there are several.",
        "  Is the folder as it was written?\n"
        "    thorns verify path/to/merge\n\n"
        "  Is it what its recipe makes of these inputs?\n"
        "    thorns verify path/to/merge --path models --path loras\n\n"
        "  The same for 20 tensors:\n"
        "    thorns verify path/to/merge --path models --path loras --sample 20\n"},
       verify_parser},
      {"fetch",
       {"fetch REPO...", "bring repositories of the Hub into the local cache",
        "Bring repositories of the Hugging Face Hub into the local cache, the one of "
        "huggingface_hub, where every other verb finds them by name. Sizes and hashes are checked, "
        "and what was interrupted is gone on with. A token is taken from HF_TOKEN or where "
        "`hf auth login` puts it.",
        "  thorns fetch NousResearch/Nous-Hermes-Llama2-13b\n"
        "  thorns merge \"{NousResearch/Nous-Hermes-Llama2-13b+B}\" -m B=path/to/b -o AB\n\n"
        "  One file of a repository that has many:\n"
        "    thorns fetch owner/repo@v1 --include \"*Q8_0.gguf\"\n"},
       fetch_parser},
      {"key",
       {"key KEY", "read a key back: its tree, canonical form and legend",
        "Read an ensemble key back: the tree of what it builds, its canonical form, and what its "
        "brackets mean. Looks at no file.",
        "  thorns key \"({({A+B}[L])+C}{D})\"\n\n"
        "  How much of each model and adapter is in the result?\n"
        "    thorns key --draw \"({({A+B}[L])+C}{D})\"\n"},
       key_parser},
      {"methods",
       {"methods [NAME]", "the merge methods and combinations of adapters",
        "List the merge methods and the ways to make one adapter of several, or explain one: its "
        "parameters with defaults and ranges, and the publication or program that it comes from.",
        "  thorns methods\n"
        "  thorns methods slerp\n"
        "  thorns methods ties\n"},
       methods_parser},
      {"completion",
       {"completion bash|zsh|fish", "print a shell completion script",
        "Print a script that completes verbs, options and method names in a shell.",
        "  bash, in this shell:\n"
        "    source <(thorns completion bash)\n\n"
        "  fish, for good:\n"
        "    thorns completion fish > ~/.config/fish/completions/thorns.fish\n"},
       completion_parser},
  };
  return list;
}

std::vector<std::string> verb_names() {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) names.push_back(verb.name);
  return names;
}

std::string program_help_text() {
  std::vector<VerbHelp> helps;
  for (const Verb& verb : verbs()) helps.push_back(verb.help);
  return program_help(helps);
}

Command parse_verb(const Verb& verb, const std::vector<std::string>& rest,
                   const std::string& thorns_path) {
  const auto parser = verb.parser();
  try {
    parse(parser->app, rest);
  } catch (const CLI::CallForHelp&) {
    return ShowText{verb_help(parser->app, verb.help)};
  }
  Command command = parser->finish();
  const auto add_paths = [&](Inputs& inputs) { inputs.fallback_paths = split(thorns_path, ':'); };
  if (auto* merge = std::get_if<MergeArguments>(&command)) add_paths(merge->options.inputs);
  if (auto* plan = std::get_if<PlanArguments>(&command)) add_paths(plan->options.inputs);
  if (auto* check = std::get_if<CheckArguments>(&command)) add_paths(check->options.inputs);
  if (auto* verify = std::get_if<VerifyArguments>(&command)) add_paths(verify->options.inputs);
  if (auto* diff = std::get_if<DiffArguments>(&command)) add_paths(diff->blame.inputs);
  return command;
}

std::string first_sentence(const std::string& text) {
  const std::size_t stop = std::min(text.find(". "), text.find(".\n"));
  std::string sentence = text.substr(0, stop);
  if (sentence.ends_with('.')) sentence.pop_back();
  return sentence;
}

}  // namespace

Command parse_arguments(const std::vector<std::string>& arguments, const std::string& thorns_path) {
  static const std::string kSeeHelp = "`thorns --help` shows what each verb does";
  if (arguments.empty()) {
    refuse(fmt::format("expected a verb: {}", fmt::join(verb_names(), ", ")), kSeeHelp);
  }
  const std::string& first = arguments.front();
  if (first == "-h" || first == "--help") return ShowText{program_help_text()};
  if (first == "--version") return ShowText{fmt::format("thorns {}\n", version())};
  for (const Verb& verb : verbs()) {
    if (verb.name == first) {
      return parse_verb(verb, {arguments.begin() + 1, arguments.end()}, thorns_path);
    }
  }
  if (first.starts_with('-')) {
    refuse(fmt::format("`{}` stands before any verb", first),
           "write the verb first: thorns merge RECIPE -o DIR");
  }
  const std::string near = did_you_mean(first, verb_names());
  refuse(fmt::format("unknown verb `{}`", first), near.empty() ? kSeeHelp : near);
}

bool wants_json(const std::vector<std::string>& arguments) {
  const auto end = std::find(arguments.begin(), arguments.end(), "--");
  return std::find(arguments.begin(), end, "--json") != end;
}

std::vector<VerbSketch> sketch_verbs() {
  std::vector<VerbSketch> sketches;
  for (const Verb& verb : verbs()) {
    VerbSketch sketch{verb.name, verb.help.summary, {}};
    const auto parser = verb.parser();
    for (const CLI::Option* option : parser->app.get_options()) {
      if (option->get_positional()) continue;
      OptionSketch one;
      for (const std::string& name : option->get_snames()) one.names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) one.names.push_back("--" + name);
      if (option->get_items_expected_max() > 0) one.value = option->get_type_name();
      if (one.value.find('|') != std::string::npos) one.choices = split(one.value, '|');
      one.summary = first_sentence(option->get_description());
      sketch.options.push_back(std::move(one));
    }
    sketches.push_back(std::move(sketch));
  }
  return sketches;
}

const std::vector<std::string>& completion_shells() {
  static const std::vector<std::string> shells = {"bash", "zsh", "fish"};
  return shells;
}

}  // namespace thorns::cli
