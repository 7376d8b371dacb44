// From the words of the command line to what a verb is asked to do: one struct per verb. Reads no
// file and prints nothing.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "cli/terminal.h"
#include "thorns/check.h"
#include "thorns/diff.h"
#include "thorns/fetch.h"
#include "thorns/inspect.h"
#include "thorns/report.h"
#include "thorns/thorns.h"
#include "thorns/verify.h"

namespace thorns::cli {

struct MergeArguments {
  MergeOptions options;
  Talk talk;
};
struct PlanArguments {
  MergeOptions options;
  std::string explain;  // a tensor's name; empty: the whole plan
  bool remote = false;  // look at the Hub, too
  Talk talk;
};
struct CheckArguments {
  MergeOptions options;
  CheckOptions check;
  Talk talk;
};
struct DiffArguments {
  DiffOptions options;
  MergeOptions blame;  // its recipe explains A, where it has one
  Talk talk;
};
struct InspectArguments {
  InspectOptions options;
  Talk talk;
};
struct ReportArguments {
  ReportOptions options;
  std::string output;  // a file, or "-"; empty: beside the folder
  Talk talk;
};
struct VerifyArguments {
  VerifyOptions options;
  Talk talk;
};
struct FetchArguments {
  FetchOptions options;
  Talk talk;
};
struct KeyArguments {
  std::string key;    // or "-"
  bool draw = false;  // the tree with its shares
  Talk talk;
};
struct MethodsArguments {
  std::string name;  // empty: all
  Talk talk;
};
struct CompletionArguments {
  std::string shell;  // one of completion_shells()
};
struct ShowText {  // help, version
  std::string text;
};

using Command = std::variant<MergeArguments, PlanArguments, CheckArguments, DiffArguments,
                             InspectArguments, ReportArguments, VerifyArguments, FetchArguments,
                             KeyArguments, MethodsArguments, CompletionArguments, ShowText>;

// `arguments` without the program's name; `thorns_path` is the value of THORNS_PATH. Throws
// BadUsage.
Command parse_arguments(const std::vector<std::string>& arguments, const std::string& thorns_path);

// True where `--json` is asked for, even if the rest makes no sense: then errors are a document,
// too.
bool wants_json(const std::vector<std::string>& arguments);

// The verbs and options as completion scripts need them.
struct OptionSketch {
  std::vector<std::string> names;    // "-o", "--output"
  std::string value;                 // "DIR"; empty for a flag
  std::vector<std::string> choices;  // of the value, where it is one of a few words
  std::string summary;               // first sentence of the help
};
struct VerbSketch {
  std::string name;
  std::string summary;
  std::vector<OptionSketch> options;
};
std::vector<VerbSketch> sketch_verbs();

const std::vector<std::string>& completion_shells();

}  // namespace thorns::cli
