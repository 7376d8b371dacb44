#include "insight/blame.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "insight/measured_span.h"
#include "plan/build.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// A fold of weight 1 may leave nothing of its model (a tensor that is replaced whole); at any other
// weight both are measured.
constexpr double kFoldWeight = 0.5;

// Of the largest eigenvalue: directions below it are rounding, and no candidate is told from
// another by them.
constexpr double kNoise = 1e-12;

// Inner products of the candidates with each other, with the unknown, and of the unknown.
struct Products {
  std::vector<double> gram;  // n x n
  std::vector<double> with;  // n
  double own = 0;
};

// The shortest c that minimises |u - sum of c_i v_i|, from the eigenvectors of the Gram matrix,
// whose rows and columns are scaled to unit vectors before: a model is thousands of times longer
// than an adapter. Candidates that are one direction share its coefficient.
Explanation explain(const Products& products, std::size_t candidates) {
  const auto n = static_cast<Eigen::Index>(candidates);
  Eigen::VectorXd lengths(n);
  for (Eigen::Index i = 0; i < n; ++i) {
    lengths[i] = std::sqrt(std::max(0.0, products.gram[static_cast<std::size_t>(i * n + i)]));
  }
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(n, n);
  Eigen::VectorXd with = Eigen::VectorXd::Zero(n);
  for (Eigen::Index i = 0; i < n; ++i) {
    if (lengths[i] == 0) continue;
    with[i] = products.with[static_cast<std::size_t>(i)] / lengths[i];
    for (Eigen::Index j = 0; j < n; ++j) {
      if (lengths[j] == 0) continue;
      gram(i, j) = products.gram[static_cast<std::size_t>(i * n + j)] / lengths[i] / lengths[j];
    }
  }
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::VectorXd& values = solver.eigenvalues();
  Eigen::VectorXd along = solver.eigenvectors().transpose() * with;
  for (Eigen::Index i = 0; i < n; ++i) {
    along[i] = values[i] > kNoise * values[n - 1] ? along[i] / values[i] : 0.0;
  }
  const Eigen::VectorXd scaled = solver.eigenvectors() * along;

  Explanation found;
  for (Eigen::Index i = 0; i < n; ++i) {
    found.coefficients.push_back(lengths[i] == 0 ? 0.0 : scaled[i] / lengths[i]);
  }
  const double left = products.own - 2 * scaled.dot(with) + scaled.dot(gram * scaled);
  found.residual = products.own > 0 ? std::sqrt(std::max(0.0, left) / products.own) : 0.0;
  return found;
}

}  // namespace

Recipe blame_recipe(Recipe recipe, RecipeLeaf unknown) {
  const SpanMethod* const linear = find_method("linear");
  const auto blend_of = [&](std::vector<std::size_t> models) {
    BlendNode blend;
    blend.weights.assign(models.size(), 1.0);
    blend.models = std::move(models);
    blend.method = linear;
    return blend;
  };
  std::vector<RecipeNode> nodes = {{LeafNode{0}, unknown.name, "", {}}};
  for (std::size_t i = 0; i < recipe.leaves.size(); ++i) {
    nodes.push_back({LeafNode{i + 1}, recipe.leaves[i].name, "", {}});
  }
  const std::size_t leaves = nodes.size();
  std::set<std::size_t> known;
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < leaves; ++i) all.push_back(i);
  // Each adapter on what the recipe folds it into, as far as its shapes are concerned.
  for (const RecipeNode& node : recipe.nodes) {
    const auto* fold = std::get_if<FoldNode>(&node.node);
    if (fold == nullptr) continue;
    for (const FoldNode::Share& share : fold->adapters) {
      if (!known.insert(share.adapter).second) continue;
      std::vector<std::size_t> below = leaves_below(recipe, fold->model);
      for (std::size_t& leaf : below) ++leaf;
      std::size_t model = below.front();
      if (below.size() > 1) {
        nodes.push_back({blend_of(std::move(below)), "", "", {}});
        model = nodes.size() - 1;
      }
      all.push_back(nodes.size());
      nodes.push_back(
          {FoldNode{model, {{share.adapter, kFoldWeight}}, std::nullopt}, node.key, "", node.span});
    }
  }
  nodes.push_back({blend_of(std::move(all)), recipe.key, "", {}});
  recipe.root = nodes.size() - 1;
  recipe.nodes = std::move(nodes);
  recipe.leaves.insert(recipe.leaves.begin(), std::move(unknown));
  return recipe;
}

BlameSurvey::BlameSurvey(const Plan& plan)
    : plan_(plan),
      models_(plan.leaves.size() - 1),
      candidates_(models_ + plan.adapters.size()),
      coefficients_(candidates_, 0.0),
      weights_(candidates_, 0.0) {}

void BlameSurvey::add(std::size_t program, const CellGrams& grams) {
  const Program& made = plan_.programs[program];
  const Solution solution = solve(made, grams);
  const MeasuredSpan span(made, grams, solution);
  MeasuredSpan::Vector unknown;
  std::vector<MeasuredSpan::Vector> vectors(candidates_);  // empty: has no part
  for (std::size_t node = 0; node + 1 < plan_.recipe.nodes.size(); ++node) {
    if (const auto* leaf = std::get_if<LeafNode>(&plan_.recipe.nodes[node].node)) {
      const auto at = span.find(node);
      if (!at) continue;
      (leaf->leaf == 0 ? unknown : vectors[leaf->leaf - 1]) = span.node(*at);
    } else if (const auto* fold = std::get_if<FoldNode>(&plan_.recipe.nodes[node].node)) {
      const auto added = span.added_by(node);
      if (!added) continue;
      MeasuredSpan::Vector& vector = vectors[models_ + fold->adapters.front().adapter];
      vector = span.zero();
      MeasuredSpan::add(vector, 1 / fold->weight(), added->delta);
    }
  }
  if (unknown.empty()) return;
  Products products{std::vector<double>(candidates_ * candidates_, 0.0),
                    std::vector<double>(candidates_, 0.0), span.product(unknown, unknown)};
  for (std::size_t i = 0; i < candidates_; ++i) {
    if (vectors[i].empty()) continue;
    products.with[i] = span.product(vectors[i], unknown);
    for (std::size_t j = 0; j < candidates_; ++j) {
      if (vectors[j].empty()) continue;
      products.gram[i * candidates_ + j] = span.product(vectors[i], vectors[j]);
    }
  }
  Explanation found = explain(products, candidates_);
  found.tensor = made.tensor;
  for (std::size_t i = 0; i < candidates_; ++i) {
    if (vectors[i].empty()) continue;
    coefficients_[i] += products.own * found.coefficients[i];
    weights_[i] += products.own;
  }
  double longest = 0;
  for (std::size_t i = 0; i < models_; ++i) {
    const double square = std::max(0.0, products.gram[i * candidates_ + i]);
    const double length = std::abs(found.coefficients[i]) * std::sqrt(square);
    if (length <= longest) continue;
    longest = length;
    found.best = plan_.recipe.leaves[i + 1].name;
  }
  left_ += found.residual * found.residual * products.own;
  all_ += products.own;
  tensors_.push_back(std::move(found));
}

BlameReport BlameSurvey::report() const {
  BlameReport report;
  for (std::size_t i = 0; i < models_; ++i) {
    report.candidates.push_back(plan_.recipe.leaves[i + 1].name);
  }
  for (const RecipeAdapter& adapter : plan_.recipe.adapters) {
    report.candidates.push_back(adapter.name);
  }
  report.models = models_;
  report.tensors = tensors_;
  std::sort(report.tensors.begin(), report.tensors.end(),
            [](const Explanation& a, const Explanation& b) { return a.tensor < b.tensor; });
  for (std::size_t i = 0; i < candidates_; ++i) {
    report.whole.coefficients.push_back(weights_[i] > 0 ? coefficients_[i] / weights_[i] : 0.0);
  }
  report.whole.residual = all_ > 0 ? std::sqrt(left_ / all_) : 0.0;
  return report;
}

}  // namespace thorns
