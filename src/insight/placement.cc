#include "insight/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "insight/findings.h"
#include "insight/measured_span.h"
#include "key/expression.h"
#include "plan/build.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr double kLeastFactor = 1e-6;  // so that the product of a hopeless placement stays a number

using Set = std::uint32_t;  // of adapters

double log_of(double factor) { return std::log(std::max(factor, kLeastFactor)); }

std::size_t without_folds(const Recipe& recipe, std::size_t node) {
  while (const auto* fold = std::get_if<FoldNode>(&recipe.nodes[node].node)) node = fold->model;
  return node;
}

// The program as it would be without any fold: every node of one passes its model on.
Program stripped(const Program& program, const Recipe& recipe) {
  Program bare = program;
  for (ProgramNode& node : bare.nodes) {
    const std::size_t index = node.recipe_node();
    if (!std::holds_alternative<FoldNode>(recipe.nodes[index].node)) continue;
    std::optional<std::size_t> model;
    if (node.map) model = node.map->model;
    if (node.norm) model = node.norm->model;
    if (node.sum) {
      for (const SumNode::Term& term : node.sum->terms) {
        if (!term.is_operand && !model) model = term.index;
      }
    }
    if (!model) continue;  // replaced whole: the model's own tensor is not there
    node = ProgramNode{};
    node.sum = SumNode{{{false, *model, 1.0}}, index};
  }
  return bare;
}

// How good a placement is: first the number of pairs that share a model, then of adapters that are
// far from the model they were trained on, then the logarithm of the product of all factors.
struct Worth {
  std::size_t stacked = 0;
  std::size_t strange = 0;
  double product = 0;

  bool is_better_than(const Worth& other) const {
    if (stacked != other.stacked) return stacked < other.stacked;
    if (strange != other.strange) return strange < other.strange;
    return product > other.product;
  }
};
Worth operator+(const Worth& a, const Worth& b) {
  return {a.stacked + b.stacked, a.strange + b.strange, a.product + b.product};
}

// The numbers that the search is about.
struct Measures {
  std::map<std::pair<std::size_t, std::size_t>, double> held;  // adapter, recipe node
  // The same: whether the adapter names a model of the recipe as its base, and this has no part of
  // it.
  std::map<std::pair<std::size_t, std::size_t>, bool> strange;
  std::map<std::pair<std::size_t, std::size_t>, std::vector<double>> parts;  // (blend, term)
  std::vector<double> cosines;                                               // adapters x adapters
  std::size_t adapters = 0;
};

// The best placement of every set of adapters in every part of a recipe, whole parts before their
// pieces.
class Search {
 public:
  Search(const Recipe& recipe, const Measures& measures) : recipe_(recipe), measures_(measures) {}

  // What `expression`, which `node` is made from, becomes with the adapters of `set` placed in it.
  ExpressionPtr place(const ExpressionPtr& expression, std::size_t node, Set set,
                      const std::vector<KeyAdapter>& names) {
    if (const auto* fold = std::get_if<FoldExpression>(&expression->node)) {
      for (std::size_t i = 0; i < fold->adapters.size(); ++i) {
        node = std::get<FoldNode>(recipe_.nodes[node].node).model;
      }
      return place(fold->model, node, set, names);
    }
    if (const auto* composite = std::get_if<CompositeExpression>(&expression->node)) {
      return make({CompositeExpression{place(composite->inside, node, set, names)}, {}});
    }
    const Choice& choice = best(node)[set];
    ExpressionPtr model = expression;
    if (const auto* blend = std::get_if<BlendExpression>(&expression->node)) {
      BlendExpression made = *blend;
      const std::vector<std::size_t>& models = std::get<BlendNode>(recipe_.nodes[node].node).models;
      for (std::size_t i = 0; i < models.size(); ++i) {
        const Set part = choice.here ? 0 : choice.parts[i];
        made.terms[i].model = place(made.terms[i].model, models[i], part, names);
      }
      model = make({std::move(made), {}});
    }
    if (!choice.here || set == 0) return model;
    std::vector<KeyAdapter> folded;
    for (std::size_t a = 0; a < measures_.adapters; ++a) {
      if ((set >> a & 1U) == 0) continue;
      folded.push_back(names[a]);
      chosen_.emplace_back(a, node);
    }
    return make(fold_into(model, std::move(folded), {}, {}));
  }

  // (adapter, recipe node), after `place`.
  const std::vector<std::pair<std::size_t, std::size_t>>& chosen() const { return chosen_; }

 private:
  struct Choice {
    Worth worth;
    bool here = false;       // folded into this part itself
    std::vector<Set> parts;  // else: what each term of the blend gets
  };

  static ExpressionPtr make(Expression expression) {
    return std::make_shared<const Expression>(std::move(expression));
  }

  const std::vector<Choice>& best(std::size_t node) {
    node = without_folds(recipe_, node);
    const auto known = best_.find(node);
    if (known != best_.end()) return known->second;
    std::vector<Choice> choices(std::size_t{1} << measures_.adapters);
    choices[0] = {{}, false, {}};
    for (Set set = 1; set < choices.size(); ++set) choices[set] = {worth_here(node, set), true, {}};
    if (const auto* blend = std::get_if<BlendNode>(&recipe_.nodes[node].node)) {
      share_out(node, *blend, choices);
    }
    return best_.emplace(node, std::move(choices)).first->second;
  }

  Worth worth_here(std::size_t node, Set set) const {
    Worth worth;
    for (std::size_t a = 0; a < measures_.adapters; ++a) {
      if ((set >> a & 1U) == 0) continue;
      worth.strange += measures_.strange.at({a, node}) ? 1 : 0;
      worth.product += log_of(1 - std::max(0.0, measures_.held.at({a, node})));
      for (std::size_t b = 0; b < a; ++b) {
        if ((set >> b & 1U) == 0) continue;
        ++worth.stacked;
        worth.product += log_of(1 - std::abs(measures_.cosines[a * measures_.adapters + b]));
      }
    }
    return worth;
  }

  // Term by term: the best that the first of them can do with every set.
  void share_out(std::size_t node, const BlendNode& blend, std::vector<Choice>& choices) {
    std::vector<std::optional<Choice>> shared(choices.size());
    shared[0] = Choice{};
    for (std::size_t term = 0; term < blend.models.size(); ++term) {
      const std::vector<Choice> below = best(blend.models[term]);
      const std::vector<double>& parts = measures_.parts.at({node, term});
      std::vector<Worth> given(choices.size());
      for (Set set = 0; set < given.size(); ++set) {
        given[set] = below[set].worth;
        for (std::size_t a = 0; a < measures_.adapters; ++a) {
          if ((set >> a & 1U) != 0) given[set].product += log_of(std::abs(parts[a]));
        }
      }
      std::vector<std::optional<Choice>> next(choices.size());
      for (Set set = 0; set < next.size(); ++set) {
        for (Set part = set;; part = (part - 1) & set) {
          const std::optional<Choice>& rest = shared[set & ~part];
          if (rest) {
            const Worth worth = rest->worth + given[part];
            if (!next[set] || worth.is_better_than(next[set]->worth)) {
              next[set] = Choice{worth, false, rest->parts};
              next[set]->parts.push_back(part);
            }
          }
          if (part == 0) break;
        }
      }
      shared = std::move(next);
    }
    for (Set set = 0; set < choices.size(); ++set) {
      if (set == 0 || shared[set]->worth.is_better_than(choices[set].worth)) {
        choices[set] = std::move(*shared[set]);
      }
    }
  }

  const Recipe& recipe_;
  const Measures& measures_;
  std::map<std::size_t, std::vector<Choice>> best_;  // by recipe node
  std::vector<std::pair<std::size_t, std::size_t>> chosen_;
};

// The key of a part as it would be without any fold.
ExpressionPtr bare(const ExpressionPtr& expression) {
  if (const auto* fold = std::get_if<FoldExpression>(&expression->node)) return bare(fold->model);
  if (const auto* composite = std::get_if<CompositeExpression>(&expression->node)) {
    return bare(composite->inside);
  }
  const auto* blend = std::get_if<BlendExpression>(&expression->node);
  if (blend == nullptr) return expression;
  BlendExpression made = *blend;
  for (KeyTerm& term : made.terms) term.model = bare(term.model);
  return std::make_shared<const Expression>(Expression{std::move(made), {}});
}

}  // namespace

PlacementSurvey::PlacementSurvey(const Plan& plan, const std::vector<std::size_t>& same_adapter)
    : plan_(plan) {
  const Recipe& recipe = plan.recipe;
  std::vector<bool> placed(recipe.adapters.size(), false);
  for (std::size_t node = 0; node < recipe.nodes.size(); ++node) {
    const auto* fold = std::get_if<FoldNode>(&recipe.nodes[node].node);
    if (fold == nullptr) {
      models_.push_back(node);
      continue;
    }
    if (fold->combination) {
      throw Error(ErrorCode::BadUsage,
                  fmt::format("`{}` are combined into one adapter; a placement is searched for "
                              "adapters that are folded one by one",
                              folded_name(recipe, *fold)),
                  recipe.nodes[node].span, "leave the combination out: `A[L+K]`");
    }
    const std::size_t adapter = same_adapter[fold->adapters.front().adapter];
    if (placed[adapter]) continue;
    placed[adapter] = true;
    folds_.push_back(node);
  }
  if (folds_.empty()) {
    throw Error(ErrorCode::BadUsage, "the recipe folds no adapter, so there is none to place", {},
                "fold the adapters anywhere: `{A+B}[L+K]`");
  }
  if (folds_.size() > kMostPlaced) {
    throw Error(ErrorCode::BadUsage,
                fmt::format("the recipe folds {} adapters; a placement is searched for at most {}",
                            folds_.size(), kMostPlaced),
                {}, "leave some out");
  }
  sums_.resize(folds_.size());
  for (Sums& sums : sums_) sums.with.assign(folds_.size(), 0.0);
}

void PlacementSurvey::add(std::size_t program, const CellGrams& grams) {
  const Program& made = plan_.programs[program];
  const Recipe& recipe = plan_.recipe;
  const Solution solution = solve(made, grams);
  const MeasuredSpan span(made, grams, solution);
  std::vector<std::optional<MeasuredSpan::Added>> added;
  for (const std::size_t fold : folds_) added.push_back(span.added_by(fold));
  if (std::none_of(added.begin(), added.end(), [](const auto& one) { return one.has_value(); })) {
    return;
  }
  const Program bare_program = stripped(made, recipe);
  const Solution bare_solution = solve(bare_program, grams);
  const MeasuredSpan bare_span(bare_program, grams, bare_solution);
  const bool whole = std::all_of(models_.begin(), models_.end(), [&](std::size_t model) {
    return bare_span.find(model).has_value();
  });
  if (!whole) return;  // a replacement has cut off a part of the recipe here
  const std::vector<double> shares = bare_span.shares();
  for (std::size_t a = 0; a < folds_.size(); ++a) {
    if (!added[a]) continue;
    const MeasuredSpan::Vector& delta = added[a]->delta;
    Sums& sums = sums_[a];
    const double square = span.product(delta, delta);
    const double weight = std::get<FoldNode>(recipe.nodes[folds_[a]].node).weight();
    sums.delta += square;
    for (std::size_t b = 0; b < folds_.size(); ++b) {
      if (added[b]) sums.with[b] += span.product(delta, added[b]->delta);
    }
    for (const std::size_t node : models_) {
      const std::size_t at = *bare_span.find(node);
      const MeasuredSpan::Vector model = bare_span.node(at);
      Against& against = sums.against[node];
      against.model += span.product(model, model);
      against.cross += span.product(delta, model);
      against.reach += square * shares[at] * weight;
    }
    for (const NodeFacts& facts : bare_solution.nodes) {
      for (std::size_t term = 0; term < facts.coefficients.size(); ++term) {
        sums.parts[{facts.recipe_node, term}] += square * facts.coefficients[term];
      }
    }
  }
}

Suggestion PlacementSurvey::suggest(std::optional<std::size_t> base) const {
  const Recipe& recipe = plan_.recipe;
  Suggestion suggestion;
  if (base) suggestion.seen_from = recipe.leaves[*base].name;
  Measures measures;
  measures.adapters = folds_.size();
  std::vector<KeyAdapter> names;
  std::map<std::pair<std::size_t, std::size_t>, std::size_t> row_of;
  for (std::size_t a = 0; a < folds_.size(); ++a) {
    const Sums& sums = sums_[a];
    const auto& fold = std::get<FoldNode>(recipe.nodes[folds_[a]].node);
    const auto [adapter, weight] = fold.adapters.front();
    const std::string& name = recipe.adapters[adapter].name;
    names.push_back({weight == 1 ? std::nullopt : std::optional(weight), {name, {}}});
    const auto against = [&](std::size_t node) {
      const auto at = sums.against.find(node);
      return at == sums.against.end() ? Against{} : at->second;
    };
    const std::vector<std::size_t> bases = trained_on(plan_, adapter);
    double origin = 0;  // <delta, what the models are seen from>
    for (const std::size_t node : models_) {
      const auto* leaf = std::get_if<LeafNode>(&recipe.nodes[node].node);
      if (leaf == nullptr || (base && leaf->leaf != *base)) continue;
      origin += against(node).cross / static_cast<double>(base ? 1 : recipe.leaves.size());
    }
    for (const std::size_t node : models_) {
      const Against sum = against(node);
      const double held = ratio(sum.cross - origin, sums.delta);
      measures.held[{a, node}] = held;
      const std::vector<std::size_t> below = leaves_below(recipe, node);
      measures.strange[{a, node}] =
          !bases.empty() && std::none_of(bases.begin(), bases.end(), [&](std::size_t leaf) {
            return std::find(below.begin(), below.end(), leaf) != below.end();
          });
      row_of[{a, node}] = suggestion.table.size();
      suggestion.table.push_back({name, to_string(*bare(parse_key(recipe.nodes[node].key))),
                                  std::sqrt(ratio(sums.delta, sum.model)), held,
                                  ratio(sum.reach, sums.delta)});
      const auto* blend = std::get_if<BlendNode>(&recipe.nodes[node].node);
      for (std::size_t term = 0; blend != nullptr && term < blend->models.size(); ++term) {
        const auto part = sums.parts.find({node, term});
        measures.parts[{node, term}].push_back(
            part == sums.parts.end() ? 0.0 : ratio(part->second, sums.delta));
      }
    }
    for (std::size_t b = 0; b < folds_.size(); ++b) {
      const double norms = std::sqrt(sums.delta) * std::sqrt(sums_[b].delta);
      measures.cosines.push_back(ratio(sums.with[b], norms));
    }
  }
  Search search(recipe, measures);
  const Set all = static_cast<Set>((std::size_t{1} << folds_.size()) - 1);
  suggestion.key = to_string(*search.place(parse_key(recipe.key), recipe.root, all, names));
  for (const auto& place : search.chosen()) {
    suggestion.chosen.push_back(suggestion.table[row_of.at(place)]);
  }
  return suggestion;
}

}  // namespace thorns
