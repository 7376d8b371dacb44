// Where the names of a key lead: folders and files, found level by level, the Hub's cache last.
// Private to recipe/.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "recipe/recipe.h"
#include "recipe/recipe_file.h"

namespace thorns {

enum class NameKind { Model, Adapter };

struct Found {
  std::string path;
  std::string where;  // as the user bound it
};

class Names {
 public:
  // `file` may be null. All arguments must outlive this.
  Names(Disk& disk, const Bindings& bindings, const RecipeFile* file);

  // The folder or file that `name` stands for. Throws BadRecipe or NotFound: a name that is
  // unknown, of the other kind, ambiguous, or bound to something that is not there. `span` is where
  // the key has it, `context` the end of the message ("" or " in the key of r.yaml:3").
  Found find(NameKind kind, const std::string& name, const KeySpan& span,
             const std::string& context);
  // The path of what the recipe file says, relative to that file.
  std::string located_in_file(const std::string& where) const;
  // One spelling for all paths of one folder or file; for comparing.
  std::string canonical(const std::string& path) const { return disk_.canonical(path); }

 private:
  struct Mention;
  struct Look {
    bool exists = false;
    bool folder = false;
    bool model = false;  // a folder with config.json or a GGUF file, or a weights file
    bool adapter =
        false;  // a folder with adapter_config.json, or a weights file that is no model's
  };

  Look look(const std::string& path);
  bool holds_lone_adapter(const std::string& folder);
  bool holds_adapter(const std::string& folder);
  bool holds_gguf(const std::string& folder);
  Found follow(const Mention& mention, const std::string& where, const std::string& folder,
               const Where& place);
  bool find_bound(const Mention& mention, Found& found);
  bool find_on_paths(const Mention& mention, Found& found);
  bool find_itself(const Mention& mention, Found& found);
  std::vector<std::string> on_paths(NameKind kind, const std::string& name);
  std::vector<std::string> fallback_paths();
  const std::vector<std::string>& entries_of(const std::string& folder);
  std::string in_hub(const std::string& name);
  bool find_in_hub(const Mention& mention, Found& found);
  bool known_as(NameKind kind, const std::string& name);
  std::vector<std::string> candidates(NameKind kind);
  [[noreturn]] void fail_unknown(const Mention& mention);

  Disk& disk_;
  const Bindings& bindings_;
  const RecipeFile* file_;
  std::string folder_;  // of the recipe file; empty: paths are taken as they are
  std::map<std::string, std::vector<std::string>> listed_;
};
}  // namespace thorns
