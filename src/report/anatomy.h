// From a manifest to what a merge is made of: tensor by tensor, layer by layer, and along the
// recipe. Pure functions.
#pragma once

#include <string>

#include "output/manifest_reader.h"
#include "thorns/report.h"

namespace thorns {

Report anatomy(const Manifest& manifest, const std::string& name);

// "blocks.*.w1" from "blocks.17.w1": a dotted name with its numbers replaced.
std::string without_numbers(const std::string& name);

}  // namespace thorns
