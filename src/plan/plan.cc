#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "adapter/combine.h"
#include "adapter/refit.h"
#include "base/text.h"
#include "checkpoint/self_described.h"
#include "plan/build.h"
#include "plan/extension.h"
#include "plan/heads.h"
#include "plan/layout.h"
#include "plan/match.h"
#include "plan/memory.h"
#include "plan/replicate.h"
#include "plan/tensor_sets.h"
#include "plan/vocabulary.h"

namespace thorns {
namespace {

// Runs one step of planning; what it throws joins the list.
template <class Step>
void attempt(std::vector<Error>& problems, Step step) {
  try {
    step();
  } catch (const Error& error) {
    problems.push_back(error);
  }
}

// What the command line says goes before what the recipe says.
void settle(RecipeSettings& settings, const PlanOptions& options) {
  if (options.dtype) settings.dtype = options.dtype;
  if (options.shard_size) settings.shard_size = options.shard_size;
  if (!options.tokenizer.empty()) settings.tokenizer = options.tokenizer;
  if (!options.vocabulary.empty()) settings.vocabulary = options.vocabulary;
}

bool has_tokenizer(const Checkpoint& leaf) {
  const SelfDescribed* const itself = self_described(leaf);
  return !leaf.tokenizer_files().empty() ||
         (itself != nullptr && itself->holds_tokenizer() && itself->why_no_tokenizer().empty());
}

void warn_without_tokenizer(Plan& plan) {
  if (plan.has_tokenizer) return;
  for (std::size_t i = 0; i < plan.leaves.size(); ++i) {
    const SelfDescribed* const leaf = self_described(*plan.leaves[i]);
    if (leaf == nullptr || !leaf->holds_tokenizer()) continue;
    plan.warnings.push_back(fmt::format(
        "the output has no tokenizer: that in the GGUF file of `{}` cannot be read ({}), "
        "and no other model has one",
        plan.recipe.leaves[i].name, leaf->why_no_tokenizer()));
    return;
  }
}

void keep_warnings(Plan& plan) {
  for (std::size_t i = 0; i < plan.leaves.size(); ++i) {
    const std::string format = plan.leaves[i]->quantisation();
    if (format.empty()) continue;
    plan.warnings.push_back(
        fmt::format("`{}` is decoded from {}: the precision that its quantisation took away is "
                    "not in the result",
                    plan.recipe.leaves[i].name, format));
  }
  for (std::size_t i = 0; i < plan.adapters.size(); ++i) {
    for (const std::string& warning : plan.adapters[i]->warnings()) {
      plan.warnings.push_back(fmt::format("{}: {}", plan.recipe.adapters[i].name, warning));
    }
  }
}

// How many rows the token tensors of every node have: of a fold what its adapter brings, if it
// replaces them; of a merge by the rule.
class TokenRows {
 public:
  TokenRows(const Recipe& recipe, const std::vector<LeafView>& views, VocabularyRule rule)
      : recipe_(recipe), views_(views), rule_(rule) {}

  // Nodes are added in order; `updates` are those of a fold.
  void add(const FoldUpdates* updates) {
    const RecipeNode& node = recipe_.nodes[rows_.size()];
    Rows rows;
    if (const auto* leaf = std::get_if<LeafNode>(&node.node)) {
      const LeafView& view = views_[leaf->leaf];
      for (const auto& [name, index] : view.by_name) {
        const auto& shape = view.source->tensors()[index].shape;
        if (has_token_rows(name) && !shape.empty()) rows[name] = shape[0];
      }
    } else if (const auto* fold = std::get_if<FoldNode>(&node.node)) {
      rows = rows_[fold->model];
      for (const auto& [name, resolved] : *updates) {
        if (resolved.update->kind != UpdateKind::Replace || !has_token_rows(name)) continue;
        rows[name] = resolved.base.shape[0];
      }
    } else {
      for (const std::size_t model : std::get<BlendNode>(node.node).models) join(rows, model);
    }
    rows_.push_back(std::move(rows));
  }

  void apply(std::size_t node, std::vector<TensorInfo>& tensors) const {
    for (TensorInfo& tensor : tensors) {
      const auto found = rows_[node].find(tensor.name);
      if (found == rows_[node].end() || tensor.elements == 0) continue;
      tensor.elements = tensor.elements / tensor.shape[0] * found->second;
      tensor.shape[0] = found->second;
    }
  }

 private:
  using Rows = std::map<std::string, std::uint64_t>;

  void join(Rows& rows, std::size_t model) const {
    for (const auto& [name, count] : rows_[model]) {
      const auto [at, is_new] = rows.emplace(name, count);
      if (is_new) continue;
      at->second = rule_ == VocabularyRule::Truncate ? std::min(at->second, count)
                                                     : std::max(at->second, count);
    }
  }

  const Recipe& recipe_;
  const std::vector<LeafView>& views_;
  VocabularyRule rule_;
  std::vector<Rows> rows_;  // by node
};

// An adapter that was trained with more tokens brings its own embedding, and head.
void warn_of_resized(Plan& plan, const FoldNode& fold, const std::vector<TensorInfo>& tensors,
                     const FoldUpdates& updates) {
  for (const TensorInfo& tensor : tensors) {
    const auto [begin, end] = updates.equal_range(tensor.name);
    for (auto at = begin; at != end; ++at) {
      if (at->second.update->kind != UpdateKind::Replace || at->second.base.shape == tensor.shape)
        continue;
      plan.warnings.push_back(fmt::format(
          "`{}` brings {} token rows where its model has {} (`{}`); a tokenizer with its tokens, "
          "if "
          "there is one, lies in the adapter's folder",
          folded_name(plan.recipe, fold), at->second.base.shape[0], tensor.shape[0], tensor.name));
      return;
    }
  }
}

// What a fold folds: an adapter, or several made one.
const Adapter& folded_adapter(Plan& plan, std::size_t node, const FoldNode& fold) {
  if (!fold.combination) return *plan.adapters[fold.adapters.front().adapter];
  std::vector<CombinedMember> members;
  for (const FoldNode::Share& share : fold.adapters) {
    members.push_back({plan.adapters[share.adapter].get(), share.weight,
                       plan.recipe.adapters[share.adapter].name});
  }
  return *(plan.combined[node] =
               combine(std::move(members), *fold.combination, folded_name(plan.recipe, fold)));
}

// How many rows q and k have for each head, as config.json says it; 0 where it does not.
std::uint64_t head_rows(const Json& config) {
  const auto number = [&](const char* name) -> std::uint64_t {
    const auto found = config.find(name);
    return found != config.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
  };
  if (!config.is_object()) return 0;
  const std::uint64_t heads = number("num_attention_heads");
  if (const std::uint64_t rows = number("head_dim"); rows != 0) return rows;
  return heads == 0 ? 0 : number("hidden_size") / heads;
}

// What a fold may address: the tensors of the first leaf below it, and those that only others have.
std::vector<TensorInfo> tensors_below(const Recipe& recipe, std::size_t node,
                                      const std::vector<LeafView>& views) {
  const std::vector<std::size_t> leaves = leaves_below(recipe, node);
  std::vector<TensorInfo> tensors = views[leaves.front()].tensors;
  const std::size_t first = tensors.size();
  std::set<std::string> added;
  for (const std::size_t leaf : leaves) {
    for (const TensorInfo& tensor : views[leaf].tensors) {
      if (views[leaves.front()].by_name.contains(tensor.name)) continue;
      if (added.insert(tensor.name).second) tensors.push_back(tensor);
    }
  }
  const auto by_name = [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; };
  if (tensors.size() > first) std::sort(tensors.begin(), tensors.end(), by_name);
  return tensors;
}

// Resolves every fold against what is below it.
void resolve_folds(Plan& plan, const std::vector<LeafView>& views, Workshop& workshop,
                   std::vector<Error>& problems) {
  TokenRows rows(plan.recipe, views, workshop.vocabulary);
  for (std::size_t i = 0; i < plan.recipe.nodes.size(); ++i) {
    const auto* fold = std::get_if<FoldNode>(&plan.recipe.nodes[i].node);
    if (fold == nullptr) {
      rows.add(nullptr);
      continue;
    }
    FoldUpdates& updates = workshop.folds[i];
    const std::size_t leaf = leaves_below(plan.recipe, fold->model).front();
    std::vector<TensorInfo> tensors = tensors_below(plan.recipe, fold->model, views);
    rows.apply(fold->model, tensors);
    FoldTarget target;
    target.tensors = tensors;
    target.model_type = plan.leaves[leaf]->model_type();
    if (views[leaf].embedding) target.tied_head = views[leaf].head;
    target.head_rows = head_rows(plan.leaves[leaf]->config());
    attempt(problems, [&] {
      for (const FoldNode::Share& share : fold->adapters) {
        recut(plan.adapters[share.adapter], target);
      }
      workshop.folded[i] = &folded_adapter(plan, i, *fold);
      for (const ResolvedUpdate& update : resolve(*workshop.folded[i], target)) {
        updates.emplace(update.tensor, update);
      }
      if (views[leaf].embedding) settle_head(workshop, i, views[leaf]);
      warn_of_shared(plan, *fold, *workshop.folded[i], tensors);
    });
    warn_of_resized(plan, *fold, tensors, updates);
    rows.add(&updates);
  }
}

// Says which changes go with a tensor that the output does without.
void warn_of_lost_changes(Plan& plan, const Workshop& workshop) {
  for (const auto& [node, updates] : workshop.folds) {
    std::vector<std::string> lost;
    for (const auto& [name, update] : updates) {
      if (!workshop.set.names.contains(name)) lost.push_back(name);
    }
    if (lost.empty()) continue;
    const auto& fold = std::get<FoldNode>(plan.recipe.nodes[node].node);
    plan.warnings.push_back(fmt::format("what `{}` changes is no part of the output: {}",
                                        folded_name(plan.recipe, fold), list_text(lost, 4)));
  }
}

// One vocabulary for embedding and head, where an adapter brings rows for one of them alone.
void check_token_rows(const Plan& plan, const Workshop& workshop, std::vector<Error>& problems) {
  const auto stored_shape = [&](const std::string& tensor) {
    return described(*workshop.views, tensor).shape;
  };
  const auto resizes = [&](const auto& entry) {
    return entry.second.update->kind == UpdateKind::Replace && has_token_rows(entry.first) &&
           workshop.set.names.contains(entry.first) &&
           entry.second.base.shape != stored_shape(entry.first);
  };
  if (std::none_of(workshop.folds.begin(), workshop.folds.end(), [&](const auto& fold) {
        return std::any_of(fold.second.begin(), fold.second.end(), resizes);
      })) {
    return;
  }
  const Program* one = nullptr;
  for (const Program& program : plan.programs) {
    if (!has_token_rows(program.tensor) || program.shape.size() != 2) continue;
    if (one == nullptr) one = &program;
    if (program.shape[0] == one->shape[0] ||
        stored_shape(program.tensor)[0] != stored_shape(one->tensor)[0]) {
      continue;
    }
    problems.emplace_back(
        ErrorCode::Mismatch,
        fmt::format("the output would have {} rows in `{}` and {} in `{}`", one->shape[0],
                    one->tensor, program.shape[0], program.tensor),
        TensorPlace{program.tensor},
        "an adapter brings token rows for one of the two alone; save it with both");
    return;
  }
}

void build_programs(Plan& plan, const Workshop& workshop, std::vector<Error>& problems) {
  std::vector<std::string> names;
  for (const auto& [name, absent] : workshop.set.names) names.push_back(name);
  const LayerStack stack(names);
  std::map<std::string, std::vector<std::string>> lost;  // tensors by adapter
  for (const std::string& name : names) {
    attempt(problems, [&] {
      std::vector<std::string> labels;
      plan.programs.push_back(build_program(workshop, stack, name, labels));
      for (const std::string& label : labels) lost[label].push_back(name);
    });
  }
  for (const auto& [adapter, tensors] : lost) {
    plan.warnings.push_back(
        fmt::format("what `{}` changes is replaced whole by a later adapter and lost in: {}",
                    adapter, list_text(tensors, 4)));
  }
}

// Says once which models have how many token rows, where they differ.
void warn_of_vocabularies(Plan& plan, const std::vector<LeafView>& views, const TensorSet& set,
                          VocabularyRule rule) {
  for (const auto& [name, absent] : set.names) {
    if (!has_token_rows(name)) continue;
    std::map<std::uint64_t, std::vector<std::string>> by_rows;
    for (std::size_t i = 0; i < views.size(); ++i) {
      const auto found = views[i].by_name.find(name);
      if (found == views[i].by_name.end()) continue;
      const TensorInfo& tensor = views[i].tensor(name);
      by_rows[tensor.shape.empty() ? 0 : tensor.shape[0]].push_back(plan.recipe.leaves[i].name);
    }
    if (by_rows.size() < 2) continue;
    std::string text = fmt::format("the vocabularies differ (rows of `{}`: ", name);
    const char* separator = "";
    for (const auto& [rows, leaves] : by_rows) {
      text += fmt::format("{}{} in {}", separator, rows, list_text(leaves, 4));
      separator = "; ";
    }
    plan.warnings.push_back(
        text + fmt::format("); rows are matched by {} and {}", plan.vocabulary ? "text" : "number",
                           rule == VocabularyRule::Union ? "those of some models taken from these"
                           : rule == VocabularyRule::Gradient
                               ? "those that a model lacks run from its last "
                                 "row to the longest model's"
                           : rule == VocabularyRule::Zero
                               ? "those that a model lacks are zero in it"
                               : "those of some models dropped"));
    return;
  }
}

// Says how many token rows no model has.
void warn_of_empty_rows(Plan& plan) {
  for (const Program& program : plan.programs) {
    std::uint64_t elements = 0;
    for (const Block& block : program.blocks) {
      const bool any = std::any_of(program.operands.begin(), program.operands.end(),
                                   [&](const Operand& operand) { return block.has(operand); });
      if (!any) elements += block.count;
    }
    if (elements == 0) continue;
    plan.warnings.push_back(
        fmt::format("{} rows of `{}` stand for tokens that no model has a row for: they are zero",
                    elements / (program.elements / program.shape[0]), program.tensor));
    return;
  }
}

void choose_tokenizer(Plan& plan, const std::string& wanted, std::vector<Error>& problems) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < plan.recipe.leaves.size(); ++i) {
    const RecipeLeaf& leaf = plan.recipe.leaves[i];
    names.push_back(leaf.name);
    const bool has = has_tokenizer(*plan.leaves[i]);
    if (wanted.empty() ? has && !plan.has_tokenizer : leaf.name == wanted) {
      plan.tokenizer_leaf = i;
      plan.has_tokenizer = has;
      if (!wanted.empty() && !has) {
        problems.emplace_back(
            ErrorCode::NotFound,
            fmt::format("the tokenizer of `{}` is wanted, but it has none", leaf.name),
            FilePlace{leaf.path});
      }
      if (!wanted.empty()) return;
    }
  }
  if (!wanted.empty()) {
    const std::string hint = did_you_mean(wanted, names);
    problems.emplace_back(
        ErrorCode::BadRecipe,
        fmt::format("the tokenizer of `{}` is wanted, but no model has that name", wanted), Where{},
        hint.empty() ? "models: " + list_text(names) : hint);
  }
}

void count_bytes(Plan& plan) {
  std::map<Dtype, std::uint64_t> by_type;
  for (const Program& program : plan.programs) {
    plan.bytes_in += program.stored_bytes() + program.update_bytes();
    plan.bytes_read += read_bytes(program, plan.memory);
    plan.bytes_out += program.bytes();
    if (is_blendable(program.dtype)) by_type[program.dtype] += program.bytes();
  }
  std::uint64_t most = 0;
  for (const auto& [dtype, bytes] : by_type) {
    if (bytes < most) continue;
    most = bytes;
    plan.base_dtype = torch_name(dtype);
  }
}

// What a thread computes and what a disk moves in a second, roughly (bench/run.py --only ranks
// measures the first): for a word of warning, no more.
constexpr double kRankElements = 1.2e10;  // elements of a product times its rank, both sweeps
constexpr double kDiskBytes = 1e9;
constexpr double kWorthSaying = 1.0;  // seconds

// Whether multiplying out factors takes longer than the files.
void warn_of_ranks(Plan& plan) {
  double work = 0;
  std::uint64_t highest = 0;
  std::string name;
  for (const Program& program : plan.programs) {
    for (const Operand& operand : program.operands) {
      if (operand.is_stored() || operand.update->rank == 0) continue;
      work += static_cast<double>(operand.update->rank) * static_cast<double>(operand.elements);
      if (operand.update->rank <= highest) continue;
      highest = operand.update->rank;
      name = operand.label;
    }
  }
  const double compute = work / kRankElements / static_cast<double>(plan.threads);
  const double moved = static_cast<double>(plan.bytes_read + plan.bytes_out) / kDiskBytes;
  if (compute < kWorthSaying || compute < moved) return;
  plan.warnings.push_back(
      fmt::format("computing takes longer than reading and writing: the products of the adapters' "
                  "factors need about {:.0f} s on {} thread{}, the files about {:.0f} s at 1 GB/s "
                  "(`{}` has rank {})",
                  compute, plan.threads, plan.threads == 1 ? "" : "s", moved, name, highest));
}

// Models of several types are rounded to one output type: said, once per model.
void warn_of_casts(Plan& plan) {
  std::map<std::string, std::size_t> casts;
  for (const Program& program : plan.programs) {
    for (const Operand& operand : program.operands) {
      if (operand.adapter != nullptr || operand.dtype == program.dtype) continue;
      // A decoded tensor is no cast: the warning of its leaf says more.
      if (!is_blendable(operand.dtype) || operand.source->tensors()[operand.tensor].nominal) {
        continue;
      }
      ++casts[fmt::format("of `{}` {{}} {}, the output's {}", operand.label,
                          to_string(operand.dtype), to_string(program.dtype))];
    }
  }
  for (const auto& [what, count] : casts) {
    plan.warnings.push_back(
        fmt::format("{} tensor{} {}", count, count == 1 ? "" : "s",
                    fmt::format(fmt::runtime(what), count == 1 ? "is" : "are")));
  }
}

}  // namespace

VocabularyRule vocabulary_rule(const std::string& word) {
  if (word.empty() || word == "union") return VocabularyRule::Union;
  if (word == "zero") return VocabularyRule::Zero;
  if (word == "truncate") return VocabularyRule::Truncate;
  if (word == "strict") return VocabularyRule::Strict;
  if (word == "gradient") return VocabularyRule::Gradient;
  throw Error(ErrorCode::BadRecipe, fmt::format("unknown vocabulary rule `{}`", word), Where{},
              did_you_mean(word, std::vector<std::string>{"union", "gradient", "zero", "truncate",
                                                          "strict"}));
}

std::uint64_t Program::stored_bytes() const {
  std::uint64_t bytes = 0;
  for (const Operand& operand : operands)
    bytes += operand.is_stored() ? operand.elements * size_of(operand.dtype) : 0;
  return bytes;
}

std::uint64_t Program::update_bytes() const {
  std::uint64_t bytes = 0;
  const auto add = [&](const Adapter& adapter, const Update& update, const BaseTensor& base) {
    if (update.change != nullptr) {
      bytes += update.change->bytes(adapter.source(), base);
      return;
    }
    for (const std::size_t tensor : update.tensors())
      bytes += adapter.source().tensors()[tensor].bytes();
  };
  for (const Operand& operand : operands) {
    if (!operand.is_stored()) add(*operand.adapter, *operand.update, operand.base);
  }
  for (const ProgramNode& node : nodes) {
    if (node.norm) add(*node.norm->adapter, *node.norm->update, {});
  }
  return bytes;
}

std::uint64_t Program::stored_width() const {
  std::uint64_t width = 0;
  for (const Operand& operand : operands) width += operand.is_stored() ? size_of(operand.dtype) : 0;
  return width;
}

std::uint64_t Program::measured_rows() const {
  const std::uint64_t width = columns();
  const std::uint64_t all = blocks.empty() ? elements : blocks.back().first + blocks.back().count;
  return width == 0 ? 0 : all / width;
}

std::size_t Program::cells_of(std::size_t block) const {
  switch (lines) {
    case Lines::Rows:
      return columns() == 0 ? 0 : static_cast<std::size_t>(blocks[block].count / columns());
    case Lines::Columns:
      return static_cast<std::size_t>(columns());
    case Lines::None:
      break;
  }
  return 1;
}

std::size_t Program::cells_before(std::size_t block) const {
  std::size_t cells = 0;
  for (std::size_t i = 0; i < block; ++i) cells += cells_of(i);
  return cells;
}

PlanResult make_plan(Disk& disk, Recipe recipe, const PlanOptions& options) {
  std::vector<std::unique_ptr<Checkpoint>> leaves;
  std::vector<std::unique_ptr<Adapter>> adapters;
  std::vector<Error> problems = std::move(recipe.problems);
  for (const RecipeLeaf& leaf : recipe.leaves) {
    if (leaf.path.empty()) continue;
    attempt(problems, [&] { leaves.push_back(open_checkpoint(disk, leaf.path)); });
  }
  for (const RecipeAdapter& adapter : recipe.adapters) {
    if (adapter.path.empty()) continue;
    attempt(problems, [&] {
      adapters.push_back(rename_modules(open_adapter(disk, adapter.path), adapter.key_map));
    });
  }
  if (problems.empty()) {
    return make_plan(std::move(recipe), std::move(leaves), std::move(adapters), options, &disk);
  }
  PlanResult result;
  result.plan.recipe = std::move(recipe);
  result.problems = std::move(problems);
  return result;
}

PlanResult make_plan(Recipe recipe, std::vector<std::unique_ptr<Checkpoint>> leaves,
                     std::vector<std::unique_ptr<Adapter>> adapters, const PlanOptions& options,
                     Disk* disk) {
  PlanResult result;
  Plan& plan = result.plan;
  std::vector<Error>& problems = result.problems;
  plan.recipe = std::move(recipe);
  plan.leaves = std::move(leaves);
  plan.adapters = std::move(adapters);
  plan.threads = std::max<std::size_t>(1, options.threads);
  plan.findings = options.findings;
  settle(plan.recipe.settings, options);
  const RecipeSettings& settings = plan.recipe.settings;
  keep_warnings(plan);
  Workshop workshop;
  attempt(problems, [&] { workshop.vocabulary = vocabulary_rule(settings.vocabulary); });

  std::vector<LeafView> views;
  for (std::size_t i = 0; i < plan.leaves.size(); ++i) {
    attempt(problems, [&] {
      views.push_back(view_leaf(*plan.leaves[i], plan.recipe.leaves[i].name, plan.dropped));
    });
  }
  if (views.size() < plan.leaves.size()) return result;
  warn_of_heads(plan, views);
  for (std::string& line : align_names(plan.recipe, views))
    plan.warnings.push_back(std::move(line));
  workshop.recipe = &plan.recipe;
  workshop.views = &views;
  workshop.dtype = settings.dtype;
  replicate_layers(plan, views, problems);
  resolve_folds(plan, views, workshop, problems);
  lend_heads(views, folds_into_head(workshop));
  if (same_architecture(plan.recipe, views, problems)) {
    workshop.set = settle_tensors(plan.recipe, views, plan.dropped, plan.warnings, problems);
    compare_tensors(plan.recipe, views, workshop.vocabulary, problems);
    warn_of_lost_changes(plan, workshop);
  }
  plan.config = workshop.set.config;
  keep_scale_of_head(plan, views, problems);
  warn_of_untied(plan, views);
  choose_tokenizer(plan, settings.tokenizer, problems);
  if (!problems.empty()) return result;

  if (workshop.vocabulary == VocabularyRule::Gradient) extend_views(plan, views);
  if (workshop.vocabulary == VocabularyRule::Union && disk != nullptr) {
    align_by_text(*disk, plan, views);
  }
  warn_without_tokenizer(plan);
  warn_of_vocabularies(plan, views, workshop.set, workshop.vocabulary);
  build_programs(plan, workshop, problems);
  warn_of_empty_rows(plan);
  check_token_rows(plan, workshop, problems);
  if (plan.programs.empty() && problems.empty()) {
    problems.emplace_back(ErrorCode::Mismatch, "the models hold no tensors", Where{});
  }
  plan.tied = plan.leaves[0]->ties_embeddings() && !views[0].has_head();
  plan.shards = lay_out(plan.programs, settings.shard_size.value_or(kDefaultShardSize));
  attempt(problems, [&] { plan.memory = plan_memory(plan, options.memory, plan.threads); });
  if (!problems.empty()) return result;
  count_bytes(plan);
  warn_of_casts(plan);
  warn_of_ranks(plan);
  return result;
}

}  // namespace thorns
