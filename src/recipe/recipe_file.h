// The recipe file: YAML with the names, parts and key of a recipe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "recipe/names.h"
#include "recipe/recipe.h"

namespace thorns {

struct RecipeFile {
  RecipeNames names;
  std::vector<std::pair<std::string, std::string>> lets;  // name -> key, in order
  std::string key;
  RecipeSettings settings;
};

inline constexpr std::size_t kMostRecipeBytes = 1 << 20;

// `path` names the file in errors. Throws BadRecipe with line and column, Unsupported for a
// mergekit configuration.
RecipeFile read_recipe_file(const std::string& text, const std::string& path);

}  // namespace thorns
