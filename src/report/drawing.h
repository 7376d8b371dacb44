// The drawings of a report, as SVG that takes its colours from the page.
#pragma once

#include <string>
#include <vector>

#include "thorns/report.h"

namespace thorns {

// The blends of the recipe are numbered from 1, as they are worked out; 0 for all other nodes.
std::vector<std::size_t> blend_numbers(const Report& report);

// The recipe as a tree: inputs on the left, the result on the right, every edge as thick as what
// passes through it and labelled. Empty where the recipe has too many parts for a drawing.
std::string draw_key(const Report& report);

// The same in words, as nested lists.
std::string key_list(const Report& report);

// Norms of the models and of the result over the layers. Empty where there are fewer than two
// layers or too many models.
std::string draw_norms(const Report& report);

}  // namespace thorns
