#include "insight/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/text.h"
#include "insight/brief.h"
#include "insight/measured_span.h"
#include "kernel/kernels.h"

namespace thorns {
namespace {

// From here on a finding is a warning. Fine-tunes of one base stand 1 to 40 degrees apart, and
// LoRAs add a few hundredths of the norm they are added to.
constexpr double kStrong = 0.3;     // norm added / norm there
constexpr double kNothing = 1e-6;   // the same
constexpr double kDiluted = 0.15;   // weight in the result
constexpr double kWhole = 0.5;      // below it, a note
constexpr double kAmplified = 1.1;  // norm of a sum / that of independent ones
constexpr double kCancelled = 0.9;
constexpr double kOtherFamily = std::numbers::pi / 3;  // radians
constexpr double kBaseLike = 0.03;                     // cosine of two differences from a base
constexpr double kOpposed = -0.2;                      // cosine of two differences that cancel

double degrees(double radians) { return radians * 180.0 / std::numbers::pi; }

double root(double square) { return std::sqrt(std::max(0.0, square)); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

WeightSurvey::WeightSurvey(const Plan& plan)
    : plan_(plan),
      stacks_(stacks_of(plan.recipe)),
      leaf_products_(plan.leaves.size() * plan.leaves.size(), 0.0) {
  for (const FoldStack& stack : stacks_) {
    stack_sums_.push_back({std::vector<double>(stack.folds.size() * stack.folds.size(), 0.0), 0});
  }
}

void WeightSurvey::add(std::size_t program, const CellGrams& grams) {
  const Program& made = plan_.programs[program];
  const Solution solution = solve(made, grams);
  ++tensors_;
  for (const NodeFacts& node : solution.nodes) {
    if (!node.angle) continue;
    angles_[node.recipe_node].push_back({*node.angle, made.shape.size() > 1, node.fell_back});
  }
  const MeasuredSpan span(made, grams, solution);
  add_leaves(made, span);
  add_folds(made, span, solution.norm);
}

void WeightSurvey::add_leaves(const Program& program, const MeasuredSpan& span) {
  const std::size_t n = program.operands.size();
  std::vector<std::size_t> operand_of(plan_.leaves.size(), n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t leaf = 0; leaf < plan_.leaves.size(); ++leaf) {
      if (program.operands[i].source == plan_.leaves[leaf].get()) operand_of[leaf] = i;
    }
  }
  // Only tensors that all leaves take part in, so that the sums are of the same vectors.
  if (std::find(operand_of.begin(), operand_of.end(), n) != operand_of.end()) return;
  for (std::size_t i = 0; i < operand_of.size(); ++i) {
    const MeasuredSpan::Vector leaf = span.operand(operand_of[i]);
    for (std::size_t j = 0; j < operand_of.size(); ++j) {
      leaf_products_[i * operand_of.size() + j] += span.product(leaf, span.operand(operand_of[j]));
    }
  }
}

void WeightSurvey::add_folds(const Program& program, const MeasuredSpan& span, double norm) {
  const std::vector<double> shares = span.shares();
  MeasuredSpan::Vector mean = span.zero();
  double leaves = 0;
  for (std::size_t i = 0; i < program.operands.size(); ++i) {
    if (program.operands[i].adapter != nullptr) continue;
    MeasuredSpan::add(mean, 1, span.operand(i));
    ++leaves;
  }
  std::map<std::size_t, MeasuredSpan::Added> deltas;  // by recipe node
  for (std::size_t node = 0; node < plan_.recipe.nodes.size(); ++node) {
    const auto* fold = std::get_if<FoldNode>(&plan_.recipe.nodes[node].node);
    if (fold == nullptr) continue;
    auto added = span.added_by(node);
    if (!added) continue;
    FoldSums& sums = folds_[node];
    const double square = span.product(added->delta, added->delta);
    const MeasuredSpan::Vector model = span.node(added->model);
    MeasuredSpan::Vector apart = model;
    MeasuredSpan::add(apart, -1 / leaves, mean);
    const double share = shares[added->last];
    sums.delta += square;
    sums.model += span.product(model, model);
    sums.apart += span.product(apart, apart);
    sums.cross += span.product(added->delta, apart);
    sums.reach += square * share * fold->weight();
    sums.effect += square * share * share;
    sums.result += norm * norm;
    ++sums.tensors;
    deltas.emplace(node, std::move(*added));
  }
  for (std::size_t s = 0; s < stacks_.size(); ++s) {
    const std::vector<std::size_t>& folds = stacks_[s].folds;
    bool touched = false;
    for (std::size_t i = 0; i < folds.size(); ++i) {
      const auto a = deltas.find(folds[i]);
      if (a == deltas.end()) continue;
      if (!touched) {
        const MeasuredSpan::Vector model = span.node(a->second.model);
        stack_sums_[s].model += span.product(model, model);
      }
      touched = true;
      for (std::size_t j = 0; j < folds.size(); ++j) {
        const auto b = deltas.find(folds[j]);
        if (b == deltas.end()) continue;
        stack_sums_[s].products[i * folds.size() + j] +=
            span.product(a->second.delta, b->second.delta);
      }
    }
  }
}

std::vector<FoldMeasure> WeightSurvey::folds() const {
  std::vector<FoldMeasure> list;
  for (const auto& [node, sums] : folds_) {
    const auto& fold = std::get<FoldNode>(plan_.recipe.nodes[node].node);
    list.push_back({folded_name(plan_.recipe, fold), plan_.recipe.nodes[fold.model].key,
                    root(ratio(sums.delta, sums.model)),
                    ratio(sums.cross, root(sums.delta) * root(sums.apart)),
                    ratio(sums.reach, sums.delta), std::nullopt, sums.tensors});
  }
  return list;
}

std::vector<std::size_t> WeightSurvey::fold_nodes() const {
  std::vector<std::size_t> list;
  for (const auto& [node, sums] : folds_) list.push_back(node);
  return list;
}

std::vector<NodeMeasure> WeightSurvey::nodes() const {
  std::vector<NodeMeasure> list;
  for (const auto& [node, angles] : angles_) {
    const bool matrices =
        std::any_of(angles.begin(), angles.end(), [](const Angle& angle) { return angle.matrix; });
    NodeMeasure measure;
    measure.key = plan_.recipe.nodes[node].key;
    std::vector<double> shown;
    for (const Angle& angle : angles) {
      ++measure.tensors;
      measure.fell_back += angle.fell_back ? 1 : 0;
      if (angle.matrix == matrices) shown.push_back(angle.radians);
    }
    measure.smallest = *std::min_element(shown.begin(), shown.end());
    measure.largest = *std::max_element(shown.begin(), shown.end());
    measure.median = median(shown);
    list.push_back(std::move(measure));
  }
  return list;
}

std::vector<Finding> WeightSurvey::findings() const {
  std::vector<Finding> list;
  find_stacks(list);
  find_folds(list);
  find_nodes(list);
  find_leaves(list);
  return list;
}

void WeightSurvey::find_folds(std::vector<Finding>& findings) const {
  const std::vector<FoldMeasure> measures = folds();
  std::size_t at = 0;
  for (const auto& entry : folds_) {
    const std::size_t node = entry.first;  // a plain name, for the lambda
    const FoldMeasure& measure = measures[at++];
    const std::string& folded = plan_.recipe.nodes[node].key;
    const auto& fold = std::get<FoldNode>(plan_.recipe.nodes[node].node);
    const auto add = [&](const char* code, Severity severity, std::string message,
                         std::string advice, const char* name, double value) {
      Finding finding{code, severity, std::move(message), std::move(advice),
                      plan_.recipe.adapters[fold.adapters.front().adapter].span};
      finding.adapter = measure.adapter;
      finding.node = folded;
      finding.measured = {{name, value}};
      findings.push_back(std::move(finding));
    };
    if (measure.strength < kNothing) {
      add("adapter-changes-nothing", Severity::Warning,
          fmt::format("`{}` changes nothing in {}: what it adds is {:.1g} of the weights",
                      measure.adapter, brief(measure.model), measure.strength),
          "its factors are zero or nearly so; was it saved before it was trained?", "strength",
          measure.strength);
      continue;
    }
    if (measure.strength > kStrong) {
      add("adapter-strong", Severity::Warning,
          fmt::format("`{}` adds {:.2f} of the norm of {}", measure.adapter, measure.strength,
                      brief(measure.model)),
          fmt::format("far more than fine-tuning usually moves; a weight below 1 softens it: "
                      "`[0.5*{}]`",
                      measure.adapter),
          "strength", measure.strength);
    }
    if (measure.reaches >= kWhole) continue;
    const bool weak = measure.reaches < kDiluted;
    add("adapter-diluted", weak ? Severity::Warning : Severity::Note,
        fmt::format("{:.2f} of `{}` reaches the result: the merges above it share it out",
                    measure.reaches, measure.adapter),
        weak ? "fold it nearer to the root if it should be felt" : "", "weight_at_root",
        measure.reaches);
  }
}

void WeightSurvey::find_stacks(std::vector<Finding>& findings) const {
  for (std::size_t s = 0; s < stacks_.size(); ++s) {
    const std::size_t n = stacks_[s].folds.size();
    if (n < 2) continue;
    const std::vector<double>& products = stack_sums_[s].products;
    double sum = 0;
    double squares = 0;
    double closest = 0;  // cosine, of largest magnitude
    std::vector<std::string> names;
    std::vector<std::string> strengths;
    for (std::size_t i = 0; i < n; ++i) {
      squares += products[i * n + i];
      const auto& fold = std::get<FoldNode>(plan_.recipe.nodes[stacks_[s].folds[i]].node);
      names.push_back("`" + folded_name(plan_.recipe, fold) + "`");
      strengths.push_back(
          fmt::format("{:.2f}", root(ratio(products[i * n + i], stack_sums_[s].model))));
      for (std::size_t j = 0; j < n; ++j) {
        sum += products[i * n + j];
        if (j <= i) continue;
        const double cosine =
            ratio(products[i * n + j], root(products[i * n + i]) * root(products[j * n + j]));
        if (std::abs(cosine) > std::abs(closest)) closest = cosine;
      }
    }
    if (squares == 0) continue;
    const double together = root(ratio(sum, stack_sums_[s].model));
    const double gain = root(ratio(sum, squares));
    const char* effect = gain > kAmplified   ? "they amplify one another"
                         : gain < kCancelled ? "they cancel in part"
                                             : "they are independent";
    const RecipeNode& model = plan_.recipe.nodes[stacks_[s].model];
    const RecipeNode& top = plan_.recipe.nodes[stacks_[s].folds.back()];
    Finding finding{
        "adapters-stacked", Severity::Warning,
        fmt::format("{} adapters are stacked on {}: {} add {} of its norm, together {:.2f}; {} "
                    "({:.2f} of the root of the sum of squares, largest cosine {:+.2f})",
                    n, brief(model.key), list_text(names, 4), list_text(strengths, 4), together,
                    effect, gain, closest),
        "none of them was trained with the others in place; fold each into a model of its own and "
        "merge those",
        top.span};
    finding.node = top.key;
    finding.measured = {{"strength", together},
                        {"of_independent", gain},
                        {"largest_cosine", closest},
                        {"adapters", static_cast<double>(n)}};
    findings.push_back(std::move(finding));
  }
}

void WeightSurvey::find_nodes(std::vector<Finding>& findings) const {
  const std::vector<NodeMeasure> measures = nodes();
  std::size_t at = 0;
  for (const auto& [node, angles] : angles_) {
    const NodeMeasure& measure = measures[at++];
    const RecipeNode& recipe_node = plan_.recipe.nodes[node];
    const auto& blend = std::get<BlendNode>(recipe_node.node);
    const auto matrices = static_cast<double>(
        std::count_if(angles.begin(), angles.end(), [](const Angle& a) { return a.matrix; }));
    const auto parallel = static_cast<double>(std::count_if(
        angles.begin(), angles.end(), [](const Angle& a) { return a.matrix && a.fell_back; }));
    const auto add = [&](const char* code, std::string message, const char* advice) {
      Finding finding{code, Severity::Warning, std::move(message), advice, recipe_node.span};
      finding.node = recipe_node.key;
      finding.measured = {{"median_degrees", degrees(measure.median)},
                          {"smallest_degrees", degrees(measure.smallest)},
                          {"largest_degrees", degrees(measure.largest)},
                          {"averaged_tensors", static_cast<double>(measure.fell_back)},
                          {"tensors", static_cast<double>(measure.tensors)}};
      findings.push_back(std::move(finding));
    };
    if (blend.method->name() == "slerp" && matrices > 0 && parallel > 0.9 * matrices) {
      add("slerp-averages",
          fmt::format("the models of {} are so close (median angle {:.2f} degrees, cosines above "
                      "0.9995) that SLERP is an average in {:g} of {:g} matrices",
                      brief(recipe_node.key), degrees(measure.median), parallel, matrices),
          "`linear` says the same more plainly; are they the same model twice?");
    }
    if (measure.median > kOtherFamily) {
      add("not-one-family",
          fmt::format("the models of {} stand {:.0f} degrees apart (median; {:.0f} to {:.0f}), "
                      "too far for fine-tunes of one base",
                      brief(recipe_node.key), degrees(measure.median), degrees(measure.smallest),
                      degrees(measure.largest)),
          "models that were not trained from one another have no common coordinates, and a merge "
          "of them is mostly noise");
    }
  }
}

std::optional<std::size_t> WeightSurvey::base() const {
  const std::size_t n = plan_.leaves.size();
  if (n < 3) return std::nullopt;
  for (std::size_t b = 0; b < n; ++b) {
    bool good = true;
    for (std::size_t i = 0; i < n && good; ++i) {
      for (std::size_t j = i + 1; j < n && good; ++j) {
        if (i == b || j == b) continue;
        const auto product = [&](std::size_t x, std::size_t y) {
          return leaf_product(x, y) - leaf_product(x, b) - leaf_product(b, y) + leaf_product(b, b);
        };
        const double norms = root(product(i, i)) * root(product(j, j));
        const double cosine = ratio(product(i, j), norms);
        good = norms > 0 && cosine < kBaseLike;
      }
    }
    if (good) return b;
  }
  return std::nullopt;
}

void WeightSurvey::find_leaves(std::vector<Finding>& findings) const {
  const std::size_t n = plan_.leaves.size();
  const auto& leaves = plan_.recipe.leaves;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j) {
      const double apart = leaf_product(i, i) - 2 * leaf_product(i, j) + leaf_product(j, j);
      if (apart != 0 || leaf_product(i, i) == 0) continue;
      Finding finding{
          "leaves-equal", Severity::Warning,
          fmt::format("`{}` and `{}` hold the same weights", leaves[i].name, leaves[j].name),
          "a merge of a model with itself is that model; is one of the folders a copy of the "
          "other?",
          leaves[j].span};
      finding.leaf = leaves[j].name;
      finding.measured = {{"distance", 0.0}};
      findings.push_back(std::move(finding));
    }
  }
  const auto base = this->base();
  if (!base) return;
  Finding finding{
      "leaf-is-base", Severity::Note,
      fmt::format("`{}` looks like the base of the others: they differ from it independently",
                  leaves[*base].name),
      "merging with the base takes back part of what the others learned", leaves[*base].span};
  finding.leaf = leaves[*base].name;
  findings.push_back(std::move(finding));
  const auto product = [&](std::size_t x, std::size_t y) {
    return leaf_product(x, y) - leaf_product(x, *base) - leaf_product(*base, y) +
           leaf_product(*base, *base);
  };
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j) {
      if (i == *base || j == *base) continue;
      const double cosine = ratio(product(i, j), root(product(i, i)) * root(product(j, j)));
      if (cosine >= kOpposed) continue;
      Finding opposed{"task-vectors-cancel", Severity::Warning,
                      fmt::format("what `{}` and `{}` learned points in opposite directions "
                                  "(cosine {:.2f}, seen from `{}`)",
                                  leaves[i].name, leaves[j].name, cosine, leaves[*base].name),
                      "merged, they cancel in part; merge only one of them", leaves[j].span};
      opposed.leaf = leaves[j].name;
      opposed.measured = {{"cosine", cosine}};
      findings.push_back(std::move(opposed));
    }
  }
}

}  // namespace thorns
