// Any bytes as standard input of `thorns merge -`: a recipe that holds together, or an error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "recipe/recipe.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

namespace {

// The folders that the seeds name.
thorns::MemoryDisk& disk() {
  static thorns::MemoryDisk disk = [] {
    thorns::MemoryDisk made;
    for (const char* name : {"A", "B", "C", "NousHermes", "Chronos", "Platypus", "Holodeck"}) {
      made.add_model(std::string("models/") + name);
    }
    for (const char* name : {"L", "K", "Kimiko", "Janine", "LIMA-RP"}) {
      made.add_adapter(std::string("adapters/") + name);
    }
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
      require(fold->model < i && !fold->adapters.empty());
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
  try {
    const thorns::Recipe recipe = bind_recipe(disk(), "-", bindings, text);
    if (recipe.problems.empty()) check(recipe);
    for (const thorns::Error& problem : recipe.problems) to_string(problem);
  } catch (const thorns::Error& error) {
    to_string(error);
  }
  return 0;
}
