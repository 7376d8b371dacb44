// A key map as written: a small YAML or JSON mapping of the beginnings of an adapter's module names
// to those of the model. Private to recipe/.
#pragma once

#include <string>

#include "base/disk.h"
#include "base/key_map.h"

namespace thorns {

// Throws NotFound, BadRecipe with line and column, or Corrupt for broken JSON.
KeyMap read_key_map(Disk& disk, const std::string& path);

// The same from text; `path` only names the file in errors.
KeyMap parse_key_map(const std::string& text, const std::string& path);

}  // namespace thorns
