#include "plan/build.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "thorns/error.h"

namespace thorns {
namespace {

class Builder {
 public:
  Builder(const Workshop& workshop, const LayerStack& stack, const std::string& tensor)
      : shop_(workshop), recipe_(*workshop.recipe), stack_(stack) {
    program_.tensor = tensor;
  }

  Program build() {
    const LeafView& view = (*shop_.views)[0];
    const TensorInfo& info = view.source->tensors()[view.by_name.at(program_.tensor)];
    program_.shape = info.shape;
    program_.dtype = output_type(info.nominal.value_or(info.dtype));
    program_.vocabulary = shop_.vocabulary;
    add_node(recipe_.root);
    prune();
    cut_blocks(info);
    choose_kind();
    return std::move(program_);
  }

  const std::vector<std::string>& lost() const { return lost_; }

 private:
  Dtype output_type(Dtype stored) const {
    if (!is_blendable(stored)) return stored;
    if (shop_.dtype) return *shop_.dtype;
    return stored == Dtype::F64 ? Dtype::F32 : stored;
  }

  std::size_t add_operand(const Operand& operand) {
    const auto same = [&](const Operand& other) {
      return other.is_product() || operand.is_product()
                 ? other.update == operand.update && other.adapter == operand.adapter
                 : other.source == operand.source && other.tensor == operand.tensor;
    };
    const auto at = std::find_if(program_.operands.begin(), program_.operands.end(), same);
    if (at != program_.operands.end())
      return static_cast<std::size_t>(at - program_.operands.begin());
    program_.operands.push_back(operand);
    return program_.operands.size() - 1;
  }

  std::size_t push(ProgramNode node) {
    program_.nodes.push_back(std::move(node));
    return program_.nodes.size() - 1;
  }
  std::size_t push(SumNode sum) {
    ProgramNode node;
    node.sum = std::move(sum);
    return push(std::move(node));
  }

  // The program node of a recipe node; each recipe node is added once.
  std::size_t add_node(std::size_t index) {
    const auto known = made_.find(index);
    if (known != made_.end()) return known->second;
    const auto& node = recipe_.nodes[index].node;
    std::size_t made = 0;
    if (const auto* leaf = std::get_if<LeafNode>(&node)) {
      made = add_leaf(index, leaf->leaf);
    } else if (const auto* fold = std::get_if<FoldNode>(&node)) {
      made = add_fold(index, *fold);
    } else {
      made = add_blend(index, std::get<BlendNode>(node));
    }
    made_.emplace(index, made);
    return made;
  }

  std::size_t add_leaf(std::size_t index, std::size_t leaf) {
    const LeafView& view = (*shop_.views)[leaf];
    Operand operand;
    operand.source = view.source;
    operand.tensor = view.by_name.at(program_.tensor);
    operand.dtype = view.source->tensors()[operand.tensor].dtype;
    operand.elements = view.source->tensors()[operand.tensor].elements;
    operand.label = recipe_.leaves[leaf].name;
    return push(SumNode{{{true, add_operand(operand), 1.0}}, index});
  }

  std::size_t add_fold(std::size_t index, const FoldNode& fold) {
    std::size_t current = add_node(fold.model);
    const FoldUpdates& updates = shop_.folds.at(index);
    const auto add_all = [&](const std::string& tensor) {
      const auto [begin, end] = updates.equal_range(tensor);
      for (auto at = begin; at != end; ++at) current = add_update(current, index, at->second);
    };
    if (const auto embedding = shared_embedding(fold.model)) add_all(*embedding);
    add_all(program_.tensor);
    return current;
  }

  // The embedding that is the head at hand in all models below: what is folded into it changes
  // both.
  std::optional<std::string> shared_embedding(std::size_t node) const {
    if (program_.tensor != kOutputHead) return std::nullopt;
    std::optional<std::string> shared;
    for (const std::size_t leaf : leaves_below(recipe_, node)) {
      const auto& embedding = (*shop_.views)[leaf].embedding;
      if (!embedding || (shared && shared != embedding)) return std::nullopt;
      shared = embedding;
    }
    return shared;
  }

  // W + weight * scale * D, or for a replacement (1 - weight) * W + weight * R: a weight scales
  // what the adapter changes.
  std::size_t add_update(std::size_t base, std::size_t index, const ResolvedUpdate& resolved) {
    const auto& fold = std::get<FoldNode>(recipe_.nodes[index].node);
    const Update& update = *resolved.update;
    const Adapter& adapter = *(*shop_.adapters)[fold.adapter];
    const std::string& name = recipe_.adapters[fold.adapter].name;
    Operand operand;
    operand.adapter = &adapter;
    const auto tensors = adapter.source().tensors();
    if (update.kind == UpdateKind::LowRank) {
      operand.update = &update;
      operand.elements = (tensors[update.first].elements / update.rank) *
                         (tensors[update.second].elements / update.rank);
      operand.transposed = resolved.transposed;
      operand.label = name;
      const std::size_t vector = add_operand(operand);
      return push(SumNode{{{false, base, 1.0}, {true, vector, fold.weight * update.scale}}, index});
    }
    operand.source = &adapter.source();
    operand.tensor = update.first;
    operand.dtype = tensors[update.first].dtype;
    operand.elements = tensors[update.first].elements;
    operand.label = name;
    const std::size_t vector = add_operand(operand);
    if (update.kind == UpdateKind::Add) {
      return push(SumNode{{{false, base, 1.0}, {true, vector, fold.weight * update.scale}}, index});
    }
    if (fold.weight == 1.0) return push(SumNode{{{true, vector, 1.0}}, index});
    return push(SumNode{{{false, base, 1.0 - fold.weight}, {true, vector, fold.weight}}, index});
  }

  std::size_t add_blend(std::size_t index, const BlendNode& blend) {
    MethodNode node;
    node.method = blend.method;
    for (const std::size_t model : blend.models) node.models.push_back(add_node(model));
    node.weights = blend.weights;
    node.parameters =
        evaluate(*blend.method, blend.settings, program_.tensor, stack_.position(program_.tensor));
    node.recipe_node = index;
    ProgramNode made;
    made.method = std::move(node);
    return push(std::move(made));
  }

  // Drops nodes and operands that a replacement has cut off.
  void prune() {
    std::vector<bool> node_used(program_.nodes.size(), false);
    std::vector<bool> operand_used(program_.operands.size(), false);
    const std::size_t root = made_.at(recipe_.root);
    node_used[root] = true;
    for (std::size_t i = root + 1; i-- > 0;) {
      if (!node_used[i]) continue;
      if (const auto& sum = program_.nodes[i].sum) {
        for (const SumNode::Term& term : sum->terms) {
          (term.is_operand ? operand_used : node_used)[term.index] = true;
        }
      } else {
        for (const std::size_t model : program_.nodes[i].method->models) node_used[model] = true;
      }
    }
    const std::vector<std::size_t> nodes = renumber(node_used);
    const std::vector<std::size_t> operands = renumber(operand_used);
    std::vector<ProgramNode> kept_nodes;
    for (std::size_t i = 0; i <= root; ++i) {
      if (!node_used[i]) continue;
      ProgramNode node = std::move(program_.nodes[i]);
      if (node.sum) {
        for (SumNode::Term& term : node.sum->terms) {
          term.index = (term.is_operand ? operands : nodes)[term.index];
        }
      } else {
        for (std::size_t& model : node.method->models) model = nodes[model];
      }
      kept_nodes.push_back(std::move(node));
    }
    std::vector<Operand> kept_operands;
    for (std::size_t i = 0; i < program_.operands.size(); ++i) {
      if (operand_used[i]) {
        kept_operands.push_back(std::move(program_.operands[i]));
      } else if (program_.operands[i].adapter != nullptr) {
        lost_.push_back(program_.operands[i].label);
      }
    }
    program_.nodes = std::move(kept_nodes);
    program_.operands = std::move(kept_operands);
  }

  // A block ends where an operand ends.
  void cut_blocks(const TensorInfo& first_leaf) {
    std::set<std::uint64_t> ends;
    for (const Operand& operand : program_.operands) ends.insert(operand.elements);
    const bool truncate = shop_.vocabulary == VocabularyRule::Truncate;
    program_.elements = truncate ? *ends.begin() : *ends.rbegin();
    if (program_.elements != first_leaf.elements) {
      program_.shape[0] = program_.elements / (first_leaf.elements / first_leaf.shape[0]);
    }
    std::uint64_t at = 0;
    for (const std::uint64_t end : ends) {
      program_.blocks.push_back({at, end - at, end <= program_.elements});
      at = end;
    }
  }

  static std::vector<std::size_t> renumber(const std::vector<bool>& used) {
    std::vector<std::size_t> numbers(used.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < used.size(); ++i) {
      numbers[i] = next;
      next += used[i] ? 1U : 0U;
    }
    return numbers;
  }

  void choose_kind() {
    std::vector<std::string> integers;
    for (const Operand& operand : program_.operands) {
      if (!operand.is_product() && !is_blendable(operand.dtype)) integers.push_back(operand.label);
    }
    if (!integers.empty() || !is_blendable(program_.dtype)) {
      const bool all = integers.size() == program_.operands.size();
      if (!all || std::any_of(program_.operands.begin(), program_.operands.end(),
                              [&](const Operand& o) { return o.dtype != program_.dtype; })) {
        throw Error(ErrorCode::Mismatch, "an integer tensor cannot be blended or folded into",
                    TensorPlace{program_.tensor});
      }
      program_.kind = ProgramKind::Same;
      return;
    }
    const ProgramNode& result = program_.nodes.back();
    const bool plain = result.sum && result.sum->terms.size() == 1 &&
                       result.sum->terms[0].is_operand && result.sum->terms[0].scale == 1.0 &&
                       !program_.operands[0].is_product();
    if (plain) {
      program_.kind =
          program_.operands[0].dtype == program_.dtype ? ProgramKind::Copy : ProgramKind::Cast;
    }
  }

  const Workshop& shop_;
  const Recipe& recipe_;
  const LayerStack& stack_;
  Program program_;
  std::vector<std::string> lost_;
  std::map<std::size_t, std::size_t> made_;  // recipe node -> program node
};

void collect_leaves(const Recipe& recipe, std::size_t node, std::set<std::size_t>& seen,
                    std::set<std::size_t>& leaves) {
  if (!seen.insert(node).second) return;
  const auto& value = recipe.nodes[node].node;
  if (const auto* leaf = std::get_if<LeafNode>(&value)) {
    leaves.insert(leaf->leaf);
  } else if (const auto* fold = std::get_if<FoldNode>(&value)) {
    collect_leaves(recipe, fold->model, seen, leaves);
  } else {
    for (const std::size_t model : std::get<BlendNode>(value).models) {
      collect_leaves(recipe, model, seen, leaves);
    }
  }
}

}  // namespace

std::vector<std::size_t> leaves_below(const Recipe& recipe, std::size_t node) {
  std::set<std::size_t> seen;
  std::set<std::size_t> leaves;
  collect_leaves(recipe, node, seen, leaves);
  return {leaves.begin(), leaves.end()};
}

Program build_program(const Workshop& workshop, const LayerStack& stack, const std::string& tensor,
                      std::vector<std::string>& lost) {
  Builder builder(workshop, stack, tensor);
  Program program = builder.build();
  lost = builder.lost();
  return program;
}

}  // namespace thorns
