#include "cli/help.h"

#include <fmt/format.h>

#include "cli/columns.h"

namespace thorns::cli {
namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kNameIndent = 2;
constexpr std::size_t kTextIndent = 10;

// "-o, --output DIR"
std::string option_heading(const CLI::Option& option) {
  if (option.get_positional()) return option.get_name(true);
  std::string heading;
  for (const std::string& name : option.get_snames()) heading += "-" + name + ", ";
  // A long name stands under the long names, whether it has a short one or not.
  if (heading.empty()) heading = "    ";
  for (const std::string& name : option.get_lnames()) heading += "--" + name + ", ";
  heading.erase(heading.size() - 2);
  if (option.get_items_expected_max() > 0) heading += " " + option.get_type_name();
  return heading;
}

}  // namespace

std::string verb_help(const CLI::App& app, const VerbHelp& help) {
  std::string text =
      wrap(help.description, kWidth, 0) + "\nUsage: thorns " + help.synopsis + " [options]\n";
  for (const std::string& group : app.get_groups()) {
    text += fmt::format("\n{}:\n", group);
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_group() != group) continue;
      text += std::string(kNameIndent, ' ') + option_heading(*option) + "\n";
      text += wrap(option->get_description(), kWidth, kTextIndent);
    }
  }
  if (!help.examples.empty()) text += "\nExamples:\n" + help.examples;
  return text;
}

std::string program_help(const std::vector<VerbHelp>& verbs) {
  std::vector<std::vector<std::string>> rows;
  for (const VerbHelp& verb : verbs) rows.push_back({verb.synopsis, verb.summary});
  return wrap(
             "thorns builds one language model out of many. A recipe names checkpoints and PEFT "
             "adapters and says how to blend them; the finished checkpoint is written in one "
             "streaming pass.",
             kWidth, 0) +
         "\nUsage: thorns VERB ... [options]\n\nVerbs:\n" + table(rows, {false, false}, kWidth, 2) +
         "\nOptions:\n"
         "  -h, --help   this text; `thorns VERB --help` explains one verb with examples\n"
         "  --version    the version of this program\n"
         "\nA recipe is a key, a YAML file, or - for standard input. In a key\n"
         "  {A+B}    is the SLERP merge of the models A and B\n"
         "  M[L]     is the adapter L folded into the model M\n"
         "  ( ... )  is a composite: the inside, taken as one model\n"
         "\nExample:\n"
         "  thorns merge \"{({NousHermes+Chronos}[Kimiko])+Platypus}\" \\\n"
         "         --path models --path adapters -o MyModel\n"
         "\nExit codes: 0 done, 1 failed, 2 bad usage or recipe, 130 interrupted.\n";
}

}  // namespace thorns::cli
