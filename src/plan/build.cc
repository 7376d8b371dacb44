#include "plan/build.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "plan/memory.h"
#include "thorns/error.h"

namespace thorns {
namespace {

bool replaces(const FoldUpdates& updates, const std::string& tensor) {
  const auto [begin, end] = updates.equal_range(tensor);
  return std::any_of(begin, end, [](const auto& entry) {
    return entry.second.update->kind == UpdateKind::Replace;
  });
}

class Builder {
 public:
  Builder(const Workshop& workshop, const LayerStack& stack, const std::string& tensor)
      : shop_(workshop), recipe_(*workshop.recipe), stack_(stack) {
    program_.tensor = tensor;
  }

  Program build() {
    const TensorInfo& info = described(*shop_.views, program_.tensor);
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
      if (other.update != operand.update || other.adapter != operand.adapter) return false;
      return operand.is_stored() ? other.source == operand.source && other.tensor == operand.tensor
                                 : other.mapped == operand.mapped;
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

  // The program node of a recipe node, none where all leaves below stand apart from this tensor;
  // each recipe node is added once.
  std::optional<std::size_t> add_node(std::size_t index) {
    const auto known = made_.find(index);
    if (known != made_.end()) return known->second;
    const auto& node = recipe_.nodes[index].node;
    std::optional<std::size_t> made;
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

  std::optional<std::size_t> add_leaf(std::size_t index, std::size_t leaf) {
    const LeafView& view = (*shop_.views)[leaf];
    if (!view.by_name.contains(program_.tensor)) {
      if (shop_.set.names.at(program_.tensor) == Absent::Apart) return std::nullopt;
      return push(SumNode{{}, index});  // a sum of nothing is zero
    }
    Operand operand;
    operand.source = view.source;
    operand.tensor = view.by_name.at(program_.tensor);
    operand.dtype = view.source->tensors()[operand.tensor].dtype;
    operand.elements = view.source->tensors()[operand.tensor].elements;
    operand.label = recipe_.leaves[leaf].name;
    place(operand, rows_of(view));
    SumNode node{{{true, add_operand(operand), 1.0}}, index};
    if (const auto extension = extension_of(view, operand)) {
      node.terms.push_back({true, add_operand(*extension), 1.0});
    }
    return push(std::move(node));
  }

  std::shared_ptr<const RowRuns> rows_of(const LeafView& view) const {
    const auto found = view.rows.find(program_.tensor);
    return found == view.rows.end() ? nullptr : found->second;
  }

  static void place(Operand& operand, std::shared_ptr<const RowRuns> rows) {
    if (rows == nullptr) return;
    operand.elements = 0;
    for (const RowRun& run : *rows) operand.elements += run.count;
    operand.rows = std::move(rows);
  }

  // Where the rows lie that an adapter has for the model below its fold: where that model has them.
  std::shared_ptr<const RowRuns> rows_below(std::size_t fold, const std::string& label) const {
    const auto& views = *shop_.views;
    const std::vector<std::size_t> leaves = leaves_below(recipe_, fold);
    if (leaves.size() == 1) return rows_of(views[leaves.front()]);
    if (std::all_of(leaves.begin(), leaves.end(),
                    [&](std::size_t leaf) { return rows_of(views[leaf]) == nullptr; })) {
      return nullptr;
    }
    refuse(fmt::format("`{}` changes token rows of a merge of models that number their tokens "
                       "differently",
                       label),
           "fold it into one of the models, or merge them into a model of its own first");
  }

  // Of the tensor, in those of the leaves that have it.
  std::uint64_t most_elements(const std::vector<std::size_t>& leaves) const {
    std::uint64_t most = 0;
    for (const std::size_t leaf : leaves) {
      const LeafView& view = (*shop_.views)[leaf];
      if (view.by_name.contains(program_.tensor))
        most = std::max(most, view.tensor(program_.tensor).elements);
    }
    return most;
  }

  // An adapter with tokens of its own: what they are is not known.
  void check_tokens(std::size_t fold, const Operand& replacement) const {
    const auto& views = *shop_.views;
    if (std::all_of(views.begin(), views.end(),
                    [&](const LeafView& view) { return rows_of(view) == nullptr; })) {
      return;
    }
    if (replacement.elements == most_elements(leaves_below(recipe_, fold))) return;
    refuse(fmt::format("`{}` brings another number of token rows, and rows are matched by the "
                       "tokens' texts, which it does not have",
                       replacement.label),
           "merge it into its model first, with a tokenizer that has its tokens");
  }

  std::optional<Operand> extension_of(const LeafView& view, const Operand& own) const {
    if (view.extension == nullptr) return std::nullopt;
    const auto tensor = view.extension->find(program_.tensor);
    if (!tensor) return std::nullopt;
    Operand operand;
    set_stored(operand, *view.extension, *tensor);
    operand.rows = std::make_shared<RowRuns>(RowRuns{{own.elements, 0, operand.elements}});
    operand.label = own.label + "[gradient]";
    return operand;
  }

  std::optional<std::size_t> add_fold(std::size_t index, const FoldNode& fold) {
    const std::optional<std::size_t> model = add_node(fold.model);
    if (!model) return std::nullopt;
    const std::size_t base = *model;
    const FoldUpdates& updates = shop_.folds.at(index);
    std::vector<const ResolvedUpdate*> all = shared_updates(index, fold.model, updates);
    const auto [begin, end] = updates.equal_range(program_.tensor);
    for (auto at = begin; at != end; ++at) all.push_back(&at->second);
    // A weight scales what the adapter changes: a sum's terms at once, anything else by going that
    // part of the way from the model to the changed one.
    const bool additive = std::all_of(all.begin(), all.end(), [](const ResolvedUpdate* resolved) {
      return resolved->update->kind != UpdateKind::Map &&
             resolved->update->kind != UpdateKind::Normalise;
    });
    std::size_t current = base;
    for (const ResolvedUpdate* resolved : all) {
      const std::size_t before = current;
      current = add_update(before, index, additive ? fold.weight() : 1.0, *resolved);
      if (resolved->update->kind != UpdateKind::Replace) grounds_[current] = ground_of(before);
    }
    const double weight = fold.weight();
    if (additive || weight == 1.0) return current;
    const std::size_t part =
        push(SumNode{{{false, base, 1.0 - weight}, {false, current, weight}}, index});
    if (ground_of(base) == ground_of(current)) grounds_[part] = ground_of(base);
    return part;
  }

  // What the folds that made a node started from; the node itself where no fold did.
  std::size_t ground_of(std::size_t node) const {
    const auto found = grounds_.find(node);
    return found == grounds_.end() ? node : found->second;
  }

  // What is folded into the embedding that is the head at hand in all models below changes both.
  // Where the fold parts the two, the head keeps what the model has, or becomes the larger one that
  // the adapter was trained on.
  std::vector<const ResolvedUpdate*> shared_updates(std::size_t index, std::size_t model,
                                                    const FoldUpdates& updates) const {
    std::vector<const ResolvedUpdate*> shared;
    const LeafView* const view = sharing_view(model);
    if (view == nullptr) return shared;
    const bool parted = shop_.parting.contains(index);
    const bool replaced = replaces(updates, program_.tensor);
    const auto [begin, end] = updates.equal_range(*view->embedding);
    for (auto at = begin; at != end; ++at) {
      const ResolvedUpdate& resolved = at->second;
      const bool larger = resolved.update->kind == UpdateKind::Replace && !replaced &&
                          !is_apart(resolved, view->tensor(*view->embedding));
      if (larger || !parted) shared.push_back(&resolved);
    }
    return shared;
  }

  // One of the leaves below where the tensor is a head that all of them share with their
  // embeddings of one name, and no fold below has parted the two; null elsewhere.
  const LeafView* sharing_view(std::size_t node) const {
    if (program_.tensor != shop_.views->front().head) return nullptr;
    if (const auto* below = std::get_if<FoldNode>(&recipe_.nodes[node].node)) {
      return shop_.parting.contains(node) ? nullptr : sharing_view(below->model);
    }
    const LeafView* shared = nullptr;
    for (const std::size_t leaf : leaves_below(recipe_, node)) {
      const LeafView& view = (*shop_.views)[leaf];
      if (!view.embedding || (shared != nullptr && shared->embedding != view.embedding)) {
        return nullptr;
      }
      if (shared == nullptr) shared = &view;
    }
    return shared;
  }

  std::size_t add_update(std::size_t base, std::size_t index, double weight,
                         const ResolvedUpdate& resolved) {
    const Update& update = *resolved.update;
    const Adapter& adapter = *shop_.folded.at(index);
    Operand operand;
    operand.adapter = &adapter;
    operand.label = folded_name(recipe_, std::get<FoldNode>(recipe_.nodes[index].node));
    operand.base = resolved.base;
    operand.elements = resolved.base.elements();
    const auto rows = has_token_rows(program_.tensor) ? rows_below(index, operand.label) : nullptr;
    if (update.kind != UpdateKind::Map) place(operand, rows);
    switch (update.kind) {
      case UpdateKind::LowRank:
      case UpdateKind::Generate:
        operand.update = &update;
        return add_term(index, base, operand, weight * update.scale);
      case UpdateKind::Add:
        set_stored(operand, adapter.source(), update.first);
        place(operand, rows);
        return add_term(index, base, operand, weight * update.scale);
      case UpdateKind::Replace: {
        set_stored(operand, adapter.source(), update.first);
        if (weight != 1.0) check_rows(base, operand);
        check_longest(operand);
        check_tokens(index, operand);
        place(operand, rows);
        const std::size_t vector = add_operand(operand);
        const std::size_t ground =
            update.below && as_long(ground_of(base), vector) ? ground_of(base) : base;
        SumNode node{{{true, vector, weight}}, index};
        if (weight != 1.0) node.terms.push_back({false, ground, 1.0 - weight});
        const std::size_t made = push(std::move(node));
        if (ground == base) return made;
        // What other folds changed stays.
        const std::size_t all =
            push(SumNode{{{false, base, 1.0}, {false, made, 1.0}, {false, ground, -1.0}}, index});
        grounds_[all] = made;
        return all;
      }
      case UpdateKind::Map:
        operand.update = &update;
        return add_map(index, base, operand);
      case UpdateKind::Normalise:
        break;
    }
    return add_norm(index, base, operand, update);
  }

  bool as_long(std::size_t node, std::size_t operand) const {
    const auto below = operands_below(node);
    return std::all_of(below.begin(), below.end(), [&](std::size_t one) {
      return program_.operands[one].elements == program_.operands[operand].elements;
    });
  }

  // Going a part of the way needs the same rows at both ends.
  void check_rows(std::size_t base, const Operand& replacement) const {
    for (const std::size_t below : operands_below(base)) {
      if (program_.operands[below].elements == replacement.elements) continue;
      refuse(fmt::format("`{}` replaces this tensor by one of another number of rows, and a weight "
                         "would mix the two",
                         replacement.label),
             fmt::format("fold it without a weight: `[{}]`", replacement.label));
    }
  }

  // The rows that extend a shorter model are made of leaves alone.
  void check_longest(const Operand& replacement) const {
    if (shop_.vocabulary != VocabularyRule::Gradient || !has_token_rows(program_.tensor)) return;
    const std::vector<std::size_t> leaves = leaves_below(recipe_, recipe_.root);
    if (leaves.size() == 1 || replacement.elements == most_elements(leaves)) return;
    refuse(fmt::format("`{}` brings another number of token rows than the longest model has, and "
                       "`gradient` extends models, not adapters",
                       replacement.label),
           "use --vocabulary union, or fold it in a merge of its own first");
  }

  static void set_stored(Operand& operand, const TensorSource& source, std::size_t tensor) {
    operand.source = &source;
    operand.tensor = tensor;
    operand.dtype = source.tensors()[tensor].dtype;
    operand.elements = source.tensors()[tensor].elements;
  }

  std::size_t add_term(std::size_t index, std::size_t base, const Operand& operand, double scale) {
    return push(SumNode{{{false, base, 1.0}, {true, add_operand(operand), scale}}, index});
  }

  [[noreturn]] void refuse(const std::string& what, const std::string& hint) const {
    throw Error(ErrorCode::Unsupported, what, TensorPlace{program_.tensor}, hint);
  }

  std::size_t add_map(std::size_t index, std::size_t base, Operand image) {
    const auto& change = static_cast<const MapChange&>(*image.update->change);
    const std::uint64_t together = change.rows_together();
    program_.rows_together = std::lcm(program_.rows_together, together);
    if (together > 1) {
      if (has_norm_below(base, Lines::Rows)) refuse_axes(image.label);
    } else if (!change.elementwise()) {
      if (image.base.columns() > kMostGrain) {
        refuse(fmt::format("`{}` mixes the elements of a row, and a row of this tensor has {}",
                           image.label, image.base.columns()),
               fmt::format("rows of at most {} elements can be mixed", kMostGrain));
      }
      if (has_norm_below(base, Lines::Columns)) refuse_axes(image.label);
    }
    MapNode node;
    node.model = base;
    node.update = image.update;
    node.label = image.label;
    node.recipe_node = index;
    for (const std::size_t from : operands_below(base)) {
      image.mapped = from;
      image.elements = program_.operands[from].elements;
      image.rows = program_.operands[from].rows;
      image.label = fmt::format("{}[{}]", program_.operands[from].label, node.label);
      node.images.push_back({from, add_operand(image)});
    }
    ProgramNode made;
    made.map = std::move(node);
    return push(std::move(made));
  }

  std::size_t add_norm(std::size_t index, std::size_t base, const Operand& operand,
                       const Update& update) {
    const auto& change = static_cast<const NormChange&>(*update.change);
    const Lines axis = change.by_column(operand.base) ? Lines::Columns : Lines::Rows;
    if (program_.lines != Lines::None && program_.lines != axis) refuse_axes(operand.label);
    if (axis == Lines::Rows && operand.base.columns() > kMostGrain) {
      refuse(fmt::format("`{}` scales whole rows, and a row of this tensor has {} elements",
                         operand.label, operand.base.columns()),
             fmt::format("rows of at most {} elements can be scaled", kMostGrain));
    }
    if (axis == Lines::Rows && operand.rows != nullptr) {
      refuse(fmt::format("`{}` scales rows of this tensor, whose places in the output are others",
                         operand.label),
             "merge it into its model first");
    }
    program_.lines = axis;
    ProgramNode made;
    made.norm = NormNode{base, operand.adapter, &update, operand.base, operand.label, index};
    return push(std::move(made));
  }

  [[noreturn]] void refuse_axes(const std::string& label) const {
    refuse(fmt::format("`{}` works along one axis of this tensor, what is folded or merged with it "
                       "scales the lines of the other",
                       label),
           "fold one of the two into its model in a merge of its own");
  }

  // Operands that may have a part in a node.
  std::set<std::size_t> operands_below(std::size_t node) const {
    std::set<std::size_t> found;
    for (const std::size_t below : nodes_below(node, false)) {
      if (const auto& sum = program_.nodes[below].sum) {
        for (const SumNode::Term& term : sum->terms) {
          if (term.is_operand) found.insert(term.index);
        }
      } else if (const auto& map = program_.nodes[below].map) {
        for (const MapNode::Image& image : map->images) found.insert(image.to);
      }
    }
    return found;
  }

  bool has_norm_below(std::size_t node, Lines axis) const {
    if (program_.lines != axis) return false;
    const std::set<std::size_t> below = nodes_below(node, true);
    return std::any_of(below.begin(), below.end(),
                       [&](std::size_t index) { return program_.nodes[index].norm.has_value(); });
  }

  // A node and all that it is made of. What is below a map has a part in the span by its images
  // alone.
  std::set<std::size_t> nodes_below(std::size_t node, bool through_maps) const {
    std::set<std::size_t> seen;
    std::vector<std::size_t> open = {node};
    while (!open.empty()) {
      const std::size_t index = open.back();
      open.pop_back();
      if (!seen.insert(index).second) continue;
      const ProgramNode& next = program_.nodes[index];
      if (next.map && !through_maps) continue;
      for (const std::size_t model : models_of(next)) open.push_back(model);
    }
    return seen;
  }

  static std::vector<std::size_t> models_of(const ProgramNode& node) {
    if (node.method) return node.method->models;
    if (node.map) return {node.map->model};
    if (node.norm) return {node.norm->model};
    std::vector<std::size_t> models;
    for (const SumNode::Term& term : node.sum->terms) {
      if (!term.is_operand) models.push_back(term.index);
    }
    return models;
  }

  std::optional<std::size_t> add_blend(std::size_t index, const BlendNode& blend) {
    std::vector<std::optional<std::size_t>> models;
    for (const std::size_t model : blend.models) models.push_back(add_node(model));
    const auto apart = std::count(models.begin(), models.end(), std::nullopt);
    if (apart > 0) return add_remaining(index, blend, models);
    MethodNode node;
    node.method = blend.method;
    for (const auto& model : models) node.models.push_back(*model);
    node.weights = blend.weights;
    node.parameters =
        evaluate(*blend.method, blend.settings, program_.tensor, stack_.position(program_.tensor));
    node.recipe_node = index;
    ProgramNode made;
    made.method = std::move(node);
    return push(std::move(made));
  }

  // A blend of which some models stand apart: the average of the others by their weights, of one
  // this itself. As in a union of vocabularies, where each row is such a tensor.
  std::optional<std::size_t> add_remaining(std::size_t index, const BlendNode& blend,
                                           const std::vector<std::optional<std::size_t>>& models) {
    MethodNode node;
    double sum = 0;
    std::size_t count = 0;
    std::size_t last = 0;
    for (std::size_t i = 0; i < models.size(); ++i) {
      node.weights.push_back(models[i] ? blend.weights[i] : 0);
      sum += node.weights.back();
      count += models[i] ? 1U : 0U;
      last = models[i].value_or(last);
    }
    if (count == 0) return std::nullopt;
    if (count == 1) return last;
    for (std::size_t i = 0; i < models.size(); ++i) {
      if (sum == 0 && models[i]) node.weights[i] = 1;  // they cancel out
      // One that stands apart keeps its place, so that coefficients stay those of the key's models.
      node.models.push_back(models[i] ? *models[i] : push(SumNode{{}, blend.models[i]}));
    }
    node.method = find_method("linear");
    node.parameters = evaluate(*node.method, {}, program_.tensor, stack_.position(program_.tensor));
    node.recipe_node = index;
    ProgramNode made;
    made.method = std::move(node);
    return push(std::move(made));
  }

  struct Used {
    std::vector<bool> nodes;
    std::vector<bool> operands;
  };

  // What `root` is made of.
  Used used_by(std::size_t root) const {
    Used used{std::vector<bool>(program_.nodes.size()),
              std::vector<bool>(program_.operands.size())};
    used.nodes[root] = true;
    for (std::size_t i = root + 1; i-- > 0;) {
      if (!used.nodes[i]) continue;
      const ProgramNode& node = program_.nodes[i];
      for (const std::size_t model : models_of(node)) used.nodes[model] = true;
      if (node.sum) {
        for (const SumNode::Term& term : node.sum->terms) {
          if (term.is_operand) used.operands[term.index] = true;
        }
      } else if (node.map) {
        for (const MapNode::Image& image : node.map->images) used.operands[image.to] = true;
      }
    }
    for (std::size_t i = program_.operands.size(); i-- > 0;) {
      if (used.operands[i] && program_.operands[i].is_mapped())
        used.operands[program_.operands[i].mapped] = true;
    }
    return used;
  }

  // Gives what `node` refers to its new numbers.
  static void redirect(ProgramNode& node, const std::vector<std::size_t>& nodes,
                       const std::vector<std::size_t>& operands) {
    if (node.sum) {
      for (SumNode::Term& term : node.sum->terms) {
        term.index = (term.is_operand ? operands : nodes)[term.index];
      }
    } else if (node.method) {
      for (std::size_t& model : node.method->models) model = nodes[model];
    } else if (node.map) {
      node.map->model = nodes[node.map->model];
      for (MapNode::Image& image : node.map->images) {
        image = {operands[image.from], operands[image.to]};
      }
    } else {
      node.norm->model = nodes[node.norm->model];
    }
  }

  // Drops nodes and operands that a replacement has cut off.
  void prune() {
    const std::size_t root = *made_.at(recipe_.root);  // a leaf at least has each tensor
    const Used used = used_by(root);
    const std::vector<std::size_t> nodes = renumber(used.nodes);
    const std::vector<std::size_t> operands = renumber(used.operands);
    std::vector<ProgramNode> kept_nodes;
    for (std::size_t i = 0; i <= root; ++i) {
      ProgramNode node = std::move(program_.nodes[i]);
      if (!used.nodes[i]) {
        if (node.map) lost_.push_back(node.map->label);
        if (node.norm) lost_.push_back(node.norm->label);
        continue;
      }
      redirect(node, nodes, operands);
      kept_nodes.push_back(std::move(node));
    }
    if (std::none_of(kept_nodes.begin(), kept_nodes.end(),
                     [](const ProgramNode& node) { return node.norm.has_value(); })) {
      program_.lines = Lines::None;
    }
    std::vector<Operand> kept_operands;
    for (std::size_t i = 0; i < program_.operands.size(); ++i) {
      if (used.operands[i]) {
        kept_operands.push_back(std::move(program_.operands[i]));
        kept_operands.back().mapped = operands[kept_operands.back().mapped];
      } else if (program_.operands[i].adapter != nullptr && !program_.operands[i].is_mapped()) {
        lost_.push_back(program_.operands[i].label);
      }
    }
    program_.nodes = std::move(kept_nodes);
    program_.operands = std::move(kept_operands);
  }

  // A block ends where an operand begins or ends.
  void cut_blocks(const TensorInfo& first_leaf) {
    std::set<std::uint64_t> ends;
    for (const Operand& operand : program_.operands) {
      if (operand.rows == nullptr) ends.insert(operand.elements);
      for (const RowRun& run : operand.rows ? *operand.rows : RowRuns()) {
        if (run.to > 0 && !operand.has(run.to - 1)) ends.insert(run.to);
        if (!operand.has(run.to + run.count)) ends.insert(run.to + run.count);
      }
    }
    const bool truncate = shop_.vocabulary == VocabularyRule::Truncate;
    program_.elements = truncate ? *ends.begin() : *ends.rbegin();
    if (program_.elements != first_leaf.elements) {
      program_.shape[0] = program_.elements / (first_leaf.elements / first_leaf.shape[0]);
    }
    if (program_.rows_together > 1 && (ends.size() > 1 || has_own_rows())) {
      refuse("an adapter mixes rows of this tensor, and the models have other rows of it",
             "fold it into its model in a merge of its own first");
    }
    std::uint64_t at = 0;
    for (const std::uint64_t end : ends) {
      program_.blocks.push_back({at, end - at, end <= program_.elements});
      at = end;
    }
  }

  // Whether the rows of some operand have other places than the program's.
  bool has_own_rows() const {
    return std::any_of(program_.operands.begin(), program_.operands.end(),
                       [](const Operand& operand) { return operand.rows != nullptr; });
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
      if (operand.is_stored() && !is_blendable(operand.dtype)) integers.push_back(operand.label);
    }
    if (!integers.empty() || !is_blendable(program_.dtype)) {
      const bool all = integers.size() == program_.operands.size();
      if (!all || std::any_of(program_.operands.begin(), program_.operands.end(),
                              [&](const Operand& o) { return o.dtype != program_.dtype; })) {
        throw Error(ErrorCode::Mismatch, "an integer tensor cannot be blended or folded into",
                    TensorPlace{program_.tensor});
      }
      if (program_.blocks.size() > 1) {
        refuse("the models have different numbers of rows of this integer tensor",
               "integers are copied when all models agree; they cannot be blended");
      }
      program_.kind = ProgramKind::Same;
      return;
    }
    const ProgramNode& result = program_.nodes.back();
    const bool plain = result.sum && result.sum->terms.size() == 1 &&
                       result.sum->terms[0].is_operand && result.sum->terms[0].scale == 1.0 &&
                       program_.operands[0].is_stored() && program_.operands[0].rows == nullptr;
    if (plain) {
      program_.kind =
          program_.operands[0].dtype == program_.dtype ? ProgramKind::Copy : ProgramKind::Cast;
    }
  }

  const Workshop& shop_;
  const Recipe& recipe_;
  const LayerStack& stack_;
  Program program_;
  std::map<std::size_t, std::size_t> grounds_;  // by node that a fold made (ground_of)
  std::vector<std::string> lost_;
  std::map<std::size_t, std::optional<std::size_t>> made_;  // recipe node -> program node
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

bool is_apart(const ResolvedUpdate& resolved, const TensorInfo& embedding) {
  return resolved.update->saved_module && resolved.base.shape == embedding.shape;
}

std::vector<std::size_t> leaves_below(const Recipe& recipe, std::size_t node) {
  std::set<std::size_t> seen;
  std::set<std::size_t> leaves;
  collect_leaves(recipe, node, seen, leaves);
  return {leaves.begin(), leaves.end()};
}

const TensorInfo& described(const std::vector<LeafView>& views, const std::string& tensor) {
  const auto first = std::find_if(views.begin(), views.end(), [&](const LeafView& view) {
    return view.by_name.contains(tensor);
  });
  return first->tensor(tensor);
}

Program build_program(const Workshop& workshop, const LayerStack& stack, const std::string& tensor,
                      std::vector<std::string>& lost) {
  Builder builder(workshop, stack, tensor);
  Program program = builder.build();
  lost = builder.lost();
  return program;
}

}  // namespace thorns
