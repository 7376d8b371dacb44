// A key as a tree with shares, one part a line. A pure function.
#pragma once

#include <cstddef>
#include <string>

#include "thorns/thorns.h"

namespace thorns::cli {

// Lines of at most `width` columns (labels are shortened, deep trees drawn closer); with lines of
// box-drawing characters, or of ASCII where `unicode` is false.
std::string draw_key(const KeyReport& report, std::size_t width, bool unicode);

}  // namespace thorns::cli
