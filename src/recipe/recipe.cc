// What a RECIPE argument is: a key, a recipe file, or standard input.
#include "recipe/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "recipe/binder.h"
#include "recipe/recipe_file.h"

namespace thorns {
namespace {

bool has_ending(const std::string& text, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](const char* ending) { return text.ends_with(ending); });
}

// A single weights file is a model: its name is a key.
bool names_weights(const std::string& text) {
  return has_ending(text, {".safetensors", ".bin", ".gguf", ".pt", ".pth"});
}

std::string read_file(Disk& disk, const std::string& path, std::uint64_t size) {
  if (size > kMaxRecipeBytes) {
    throw Error(
        ErrorCode::BadRecipe,
        fmt::format("`{}` has {} bytes; a recipe has at most {}", path, size, kMaxRecipeBytes),
        FilePlace{path}, "is this a recipe file?");
  }
  return read_text(disk, path, kMaxRecipeBytes);
}

}  // namespace

std::string folded_name(const Recipe& recipe, const FoldNode& fold) {
  if (!fold.combination) return recipe.adapters[fold.adapters.front().adapter].name;
  std::string text;
  for (const FoldNode::Share& share : fold.adapters) {
    if (!text.empty()) text += "+";
    if (share.weight != 1.0) text += number_text(share.weight) + "*";
    text += recipe.adapters[share.adapter].name;
  }
  return fmt::format("{}; {}", text, fold.combination->rule.name);
}

Recipe bind_recipe(Disk& disk, const std::string& recipe, const Bindings& bindings,
                   const std::string& standard_input) {
  if (recipe == "-") {
    if (!looks_like_recipe_file(standard_input)) return bind_key(disk, standard_input, bindings);
    return bind_file(disk, read_recipe_file(standard_input, "standard input"), bindings);
  }
  const bool has_bracket = recipe.find_first_of("{}[]()") != std::string::npos;
  if (has_bracket || names_weights(recipe)) return bind_key(disk, recipe, bindings);
  if (!recipe.empty() && disk.exists(recipe)) {
    const FileStat stat = disk.stat(recipe);
    if (!stat.is_folder) {
      const std::string text = read_file(disk, recipe, stat.size);
      return bind_file(disk, read_recipe_file(text, recipe), bindings);
    }
  } else if (has_ending(recipe, {".yaml", ".yml"})) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no recipe file `{}`", recipe),
                FilePlace{recipe}, "check the path");
  }
  return bind_key(disk, recipe, bindings);
}

}  // namespace thorns
