// A bound recipe: every name of the key tied to a folder or file, every method to the catalogue,
// and what is written twice held once. Nothing of the folders' contents is known yet; that is
// plan/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/disk.h"
#include "base/key_map.h"
#include "key/expression.h"
#include "method/combination.h"
#include "method/method.h"
#include "thorns/dtype.h"
#include "thorns/error.h"

namespace thorns {

struct RecipeLeaf {
  std::string name;  // as the key has it (the first of its names)
  std::string path;  // of the folder or weights file
  std::string
      where;     // as the user bound it ("NousResearch/Nous-Hermes-Llama2-13b", "./a"); for credits
  KeySpan span;  // first mention
};

struct RecipeAdapter {
  std::string name;
  std::string path;
  std::string where;
  KeySpan span;
  KeyMap key_map = {};             // how its modules are called in the model; mostly empty
  std::string key_map_path = {};   // of the file that says so
  std::string key_map_where = {};  // as the user named it
};

// Nodes refer to earlier nodes only; equal nodes are one node.
struct LeafNode {
  std::size_t leaf = 0;  // index in Recipe::leaves
};
struct FoldNode {
  struct Share {
    std::size_t adapter = 0;  // index in Recipe::adapters
    double weight = 1.0;
  };
  std::size_t model = 0;                   // index in Recipe::nodes
  std::vector<Share> adapters;             // one; several where `combination` makes them one
  std::optional<Combination> combination;  // its weights are part of the combined adapter

  // What the change as a whole is multiplied by.
  double weight() const { return combination ? 1.0 : adapters.front().weight; }
};
struct BlendNode {
  std::vector<std::size_t> models;  // indices in Recipe::nodes
  std::vector<double> weights;      // one per model; 1 where none is written
  bool weighted = false;
  const SpanMethod* method = nullptr;
  std::vector<Setting> settings;
};
struct RecipeNode {
  std::variant<LeafNode, FoldNode, BlendNode> node;
  std::string key;   // canonical key of this part, for reports
  std::string name;  // the `let` name of this part, where it has one
  KeySpan span;      // first mention
};

struct RecipeSettings {
  std::string name;
  std::optional<Dtype> dtype;
  std::optional<std::uint64_t> shard_size;
  std::string tokenizer;   // a leaf's name; empty: the first that has one
  std::string vocabulary;  // empty: the default
  std::string prompt;
  std::string license;
};

struct Recipe {
  std::vector<RecipeLeaf> leaves;       // distinct by path, in order of first mention
  std::vector<RecipeAdapter> adapters;  // distinct by path
  std::vector<RecipeNode> nodes;
  std::size_t root = 0;
  std::string key;        // canonical, `let` names expanded
  std::string published;  // the key as written by its author
  RecipeSettings settings;
  // Names that lead to no model or adapter, each with what is wrong; their leaves and adapters have
  // no path. With any of these a recipe is good for finding more problems, and for nothing else.
  std::vector<Error> problems;
};

// What a fold folds, for people: "Kimiko", or "0.7*Kimiko+Janine; ties".
std::string folded_name(const Recipe& recipe, const FoldNode& fold);

// One name bound by the user.
struct Binding {
  std::string name;
  std::string where;
};

// Where names are looked up, in this order: the recipe file's own, these, the search paths
// (`DIR/NAME`; a blank in NAME also matches - and _), the file system.
struct Bindings {
  std::vector<Binding> models;
  std::vector<Binding> adapters;
  std::vector<std::string> paths;
  std::vector<std::string> fallback_paths;  // searched where `paths` hold nothing of that name
  // Adapters to files that rename their modules; without a name, for all that have none of their
  // own.
  std::vector<Binding> key_maps = {};
};

// `recipe`: a key, the path of a recipe file, or "-" with its text in `standard_input`. Throws
// BadRecipe, NotFound or Unsupported (a mergekit configuration, until it can be read); what is
// wrong with single names is left in `problems`, so that all of it can be said at once.
Recipe bind_recipe(Disk& disk, const std::string& recipe, const Bindings& bindings,
                   const std::string& standard_input = {});

}  // namespace thorns
