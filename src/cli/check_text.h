// The answer of `thorns check` in words. A pure function.
#pragma once

#include <cstddef>
#include <string>

#include "thorns/check.h"

namespace thorns::cli {

// Lines are at most `width` columns, but for keys with a caret. `verbose`: all folds and nodes.
std::string check_text(const CheckReport& report, std::size_t width, bool verbose);

}  // namespace thorns::cli
