// The whole program but for its entry point: arguments in, exit code out.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"

namespace thorns::cli {

// Never throws: every error is told on `console.err`, and with --json as a document on
// `console.out`, too.
int run_program(const std::vector<std::string>& arguments, const std::string& thorns_path,
                Console& console);

}  // namespace thorns::cli
