// The recipe file as written: YAML read into fields, each value with its line and column. Names are
// not looked up here and keys are not parsed. Private to recipe/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/recipe.h"
#include "thorns/error.h"

namespace thorns {

constexpr std::uint64_t kMaxRecipeBytes = std::uint64_t{1} << 20;

struct FileEntry {
  std::string name;
  std::string value;
  FilePlace place;  // of the value
};

struct RecipeFile {
  std::string path;
  std::vector<FileEntry> models;
  std::vector<FileEntry> adapters;
  std::vector<FileEntry> key_maps;  // by adapter
  std::vector<FileEntry> let;
  FileEntry key;
  RecipeSettings settings;
  FilePlace tokenizer_place;
};

// Throws BadRecipe with line and column; Unsupported for a mergekit configuration. `path` only
// names the file in errors.
RecipeFile read_recipe_file(const std::string& text, const std::string& path);

// Whether text without a file name is a recipe file rather than a key: it has a line that starts
// with `field:`, or starts as a YAML document does.
bool looks_like_recipe_file(std::string_view text);

}  // namespace thorns
