// Expression to recipe: names to leaves and adapters, methods and parameters to the catalogue,
// equal parts to one node. Private to recipe/, but for bind_key.
#pragma once

#include <string>

#include "base/disk.h"
#include "recipe/recipe.h"
#include "recipe/recipe_file.h"

namespace thorns {

// Binds the key of `file`, whose names and settings count.
Recipe bind_file(Disk& disk, const RecipeFile& file, const Bindings& bindings);

// Binds a key alone, whatever files there are of its name. Throws what bind_recipe throws.
Recipe bind_key(Disk& disk, const std::string& key, const Bindings& bindings);

}  // namespace thorns
