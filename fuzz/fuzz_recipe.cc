// Any bytes as a recipe file and, if they are no key, as standard input of `thorns merge -`: a
// recipe that holds together, or an error. The adapter `Kimiko` has a key map, `names.yaml`.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "recipe/recipe.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

namespace {

// The folders and the key map that the seeds name.
thorns::MemoryDisk& disk() {
  static thorns::MemoryDisk disk = [] {
    thorns::MemoryDisk made;
    for (const char* name : {"A", "B", "C", "NousHermes", "Chronos", "Platypus", "Holodeck"}) {
      made.add_model(std::string("models/") + name);
    }
    for (const char* name : {"L", "K", "Kimiko", "Janine", "LIMA-RP"}) {
      made.add_adapter(std::string("adapters/") + name);
    }
    made.add_file("names.yaml", "layers: model.layers\n");
    return made;
  }();
  return disk;
}

void check(const thorns::Recipe& recipe) {
  const auto require = [](bool holds) {
    if (!holds) std::abort();
  };
  require(recipe.root < recipe.nodes.size());
  for (std::size_t i = 0; i < recipe.nodes.size(); ++i) {
    const auto& node = recipe.nodes[i].node;
    if (const auto* leaf = std::get_if<thorns::LeafNode>(&node)) {
      require(leaf->leaf < recipe.leaves.size());
    } else if (const auto* fold = std::get_if<thorns::FoldNode>(&node)) {
      require(fold->model < i && !fold->adapters.empty() && !folded_name(recipe, *fold).empty());
      for (const auto& share : fold->adapters) require(share.adapter < recipe.adapters.size());
    } else {
      const auto& blend = std::get<thorns::BlendNode>(node);
      require(blend.method != nullptr && blend.models.size() == blend.weights.size());
      for (const std::size_t model : blend.models) require(model < i);
    }
  }
  if (recipe.key.size() <= thorns::kMaxKeyBytes) {
    require(to_string(*thorns::parse_key(recipe.key)) == recipe.key);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  thorns::Bindings bindings;
  bindings.models = {{"X", "models/A"}};
  bindings.paths = {"models", "adapters"};
  // What begins like a key gets a key map for all adapters that have none.
  if (text.starts_with('{') || text.starts_with('(')) bindings.key_maps = {{"", "names.yaml"}};
  disk().add_file("recipe.yaml", text);
  for (const char* recipe : {"recipe.yaml", "-"}) {
    try {
      const thorns::Recipe bound = bind_recipe(disk(), recipe, bindings, text);
      if (bound.problems.empty()) check(bound);
      for (const thorns::Error& problem : bound.problems) to_string(problem);
    } catch (const thorns::Error& error) {
      to_string(error);
    }
  }
  return 0;
}
