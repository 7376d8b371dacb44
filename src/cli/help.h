// What --help prints: at most 80 columns wide, each option with its purpose and default, examples
// last.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace thorns::cli {

// What a verb's help says beside its options.
struct VerbHelp {
  std::string synopsis;     // "merge RECIPE -o DIR"
  std::string summary;      // one line, as the list of verbs has it
  std::string description;  // paragraphs
  std::string examples;     // lines, printed as they are; may be empty
};

std::string verb_help(const CLI::App& app, const VerbHelp& help);
std::string program_help(const std::vector<VerbHelp>& verbs);

}  // namespace thorns::cli
