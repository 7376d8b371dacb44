// Where the names of a recipe lead: to folders and files of models and adapters.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "recipe/recipe.h"
#include "thorns/error.h"

namespace thorns {

// Names bound by a recipe file.
struct RecipeNames {
  std::string folder;  // of the file; relative paths start there
  std::map<std::string, std::string> models;
  std::map<std::string, std::string> adapters;
  std::vector<std::string> lets;
};

struct Found {
  std::string path;   // of the folder or file
  std::string where;  // as the user wrote it
};

// Looks names up in the order of Bindings. The references must outlive it.
class NameBook {
 public:
  NameBook(Disk& disk, const RecipeNames& recipe, const Bindings& bindings)
      : disk_(disk), recipe_(recipe), bindings_(bindings) {}

  // Throws BadRecipe (unknown, ambiguous, of the other kind) with `where`, NotFound for a name that
  // is bound to nothing.
  Found model(const std::string& name, const Where& where) const;
  Found adapter(const std::string& name, const Where& where) const;

 private:
  enum class Kind { Model, Adapter };

  std::optional<Found> find(Kind kind, const std::string& name, const Where& where) const;
  std::optional<Found> bound(Kind kind, const std::string& name, const Where& where) const;
  std::optional<Found> on_paths(Kind kind, const std::string& name, const Where& where) const;
  std::optional<Found> itself(Kind kind, const std::string& name) const;
  bool is_of(Kind kind, const std::string& folder) const;
  std::vector<std::string> known_names(Kind kind) const;
  [[noreturn]] void fail_unknown(Kind kind, const std::string& name, const Where& where) const;

  Disk& disk_;
  const RecipeNames& recipe_;
  const Bindings& bindings_;
};

}  // namespace thorns
