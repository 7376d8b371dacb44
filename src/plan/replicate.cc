#include "plan/replicate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "adapter/replication.h"

namespace thorns {
namespace {

class Replicator {
 public:
  Replicator(const Plan& plan, std::vector<LeafView>& views) : plan_(plan), views_(views) {}

  // What was done, one line for each leaf.
  std::vector<std::string> run() {
    std::vector<std::string> done;
    walk(plan_.recipe.root, std::nullopt);
    for (const auto& [leaf, fold] : above_leaf_) {
      if (fold) done.push_back(expand(leaf, *fold));
    }
    return done;
  }

 private:
  using Fold = std::optional<std::size_t>;  // the replicating one above, in Recipe::nodes

  // Every way from the root down, each node once for what stands above it.
  void walk(std::size_t index, Fold above) {
    if (!seen_.emplace(index, above).second) return;
    const RecipeNode& node = plan_.recipe.nodes[index];
    if (const auto* leaf = std::get_if<LeafNode>(&node.node)) {
      const auto [at, is_new] = above_leaf_.emplace(leaf->leaf, above);
      if (!is_new && !same(at->second, above)) {
        refuse(above ? *above : *at->second,
               fmt::format("`{}` stands in this key with two numbers of layers",
                           plan_.recipe.leaves[leaf->leaf].name));
      }
    } else if (const auto* fold = std::get_if<FoldNode>(&node.node)) {
      if (above) refuse(*above, "something is folded below an adapter that repeats layers");
      walk(fold->model, replicates(*fold, index) ? Fold(index) : above);
    } else {
      for (const std::size_t model : std::get<BlendNode>(node.node).models) walk(model, above);
    }
  }

  bool replicates(const FoldNode& fold, std::size_t index) const {
    const bool any =
        std::any_of(fold.adapters.begin(), fold.adapters.end(), [&](const FoldNode::Share& share) {
          return !layer_replication(*plan_.adapters[share.adapter]).empty();
        });
    if (any && fold.combination) refuse(index, "adapters that repeat layers cannot be combined");
    return any;
  }

  std::vector<LayerRange> ranges(std::size_t fold) const {
    return layer_replication(*plan_.adapters[adapter_of(fold)]);
  }
  std::size_t adapter_of(std::size_t fold) const {
    return std::get<FoldNode>(plan_.recipe.nodes[fold].node).adapters.front().adapter;
  }

  bool same(Fold a, Fold b) const {
    if (!a || !b) return a == b;
    const auto left = ranges(*a);
    const auto right = ranges(*b);
    return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                      [](const LayerRange& x, const LayerRange& y) {
                        return x.first == y.first && x.end == y.end;
                      });
  }

  std::string expand(std::size_t leaf, std::size_t fold) {
    LeafView& view = views_[leaf];
    std::vector<std::string> names;
    for (const auto& [name, index] : view.by_name) names.push_back(name);
    const LayerStack stack(names);
    std::vector<std::uint64_t> layers;
    for (const LayerRange& range : ranges(fold)) {
      if (range.end > stack.layers()) {
        refuse(fold, fmt::format("its adapter repeats layers up to {}, and `{}` has {}", range.end,
                                 plan_.recipe.leaves[leaf].name, stack.layers()));
      }
      for (std::uint64_t layer = range.first; layer < range.end; ++layer) layers.push_back(layer);
    }
    std::multimap<std::uint64_t, std::pair<std::string, std::string>> inside;  // around the number
    std::set<std::string> stacks;
    std::map<std::string, std::size_t> by_name;
    for (const auto& [name, index] : view.by_name) {
      const LayerPosition position = stack.position(name);
      if (position.part != LayerPosition::Inside) {
        by_name.emplace(name, index);
        continue;
      }
      const std::string number = fmt::format(".{}.", position.layer);
      const std::size_t at = name.find(number);
      const auto place = inside.emplace(
          position.layer, std::pair(name.substr(0, at + 1), name.substr(at + number.size() - 1)));
      stacks.insert(place->second.first);
    }
    if (stacks.size() > 1) {
      refuse(fold,
             fmt::format("`{}` has more than one stack of layers", plan_.recipe.leaves[leaf].name));
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto [begin, end] = inside.equal_range(layers[i]);
      for (auto part = begin; part != end; ++part) {
        const auto& [before, after] = part->second;
        by_name.emplace(fmt::format("{}{}{}", before, i, after),
                        view.by_name.at(fmt::format("{}{}{}", before, layers[i], after)));
      }
    }
    view.by_name = std::move(by_name);
    view.tensors.clear();
    for (const auto& [name, index] : view.by_name) {
      view.tensors.push_back(view.source->tensors()[index]);
      view.tensors.back().name = name;
    }
    return fmt::format("`{}` repeats layers of `{}`: the output has {} in place of {}",
                       plan_.recipe.adapters[adapter_of(fold)].name, plan_.recipe.leaves[leaf].name,
                       layers.size(), stack.layers());
  }

  [[noreturn]] void refuse(std::size_t fold, const std::string& what) const {
    throw Error(ErrorCode::Unsupported, what, plan_.recipe.nodes[fold].span,
                "merge it into a model of its own first");
  }

  const Plan& plan_;
  std::vector<LeafView>& views_;
  std::set<std::pair<std::size_t, Fold>> seen_;
  std::map<std::size_t, Fold> above_leaf_;
};

}  // namespace

void replicate_layers(Plan& plan, std::vector<LeafView>& views, std::vector<Error>& problems) {
  try {
    for (std::string& line : Replicator(plan, views).run())
      plan.warnings.push_back(std::move(line));
  } catch (const Error& error) {
    problems.push_back(error);
  }
}

}  // namespace thorns
