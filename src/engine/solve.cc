#include "engine/solve.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

namespace thorns {
namespace {

using Vector = std::vector<double>;  // coefficients over the operands

double inner(const Vector& x, const Vector& y, std::span<const double> gram) {
  const std::size_t n = x.size();
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (x[i] == 0) continue;
    double row = 0;
    for (std::size_t j = 0; j < n; ++j) row += gram[i * n + j] * y[j];
    sum += x[i] * row;
  }
  return sum;
}

void add(Vector& to, double scale, const Vector& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += scale * from[i];
}

// A node: its coefficients in every block that it has.
using Point = std::vector<std::optional<Vector>>;

class Solver {
 public:
  Solver(const Program& program, std::span<const Vector> grams)
      : program_(program), grams_(grams), n_(program.operands.size()) {}

  Solution run() {
    for (const ProgramNode& node : program_.nodes) {
      points_.push_back(node.sum ? solve_sum(*node.sum) : solve_method(*node.method));
    }
    double square = 0;
    for (std::size_t b = 0; b < grams_.size(); ++b) {
      if (!program_.blocks[b].written) break;
      const Vector& x = *points_.back()[b];
      solution_.coefficients.push_back(x);
      square += inner(x, x, grams_[b]);
    }
    solution_.norm = std::sqrt(std::max(0.0, square));
    for (std::size_t i = 0; i < n_; ++i) solution_.distances.push_back(distance(i));
    return std::move(solution_);
  }

 private:
  bool is_zero_rule() const { return program_.vocabulary == VocabularyRule::Zero; }

  // From the result to an operand, over the written blocks that both have.
  double distance(std::size_t operand) const {
    if (program_.operands[operand].adapter != nullptr) {
      return std::numeric_limits<double>::quiet_NaN();
    }
    double square = 0;
    for (std::size_t b = 0; b < solution_.coefficients.size(); ++b) {
      if (!program_.blocks[b].has(program_.operands[operand])) continue;
      Vector difference = solution_.coefficients[b];
      difference[operand] -= 1;
      square += inner(difference, difference, grams_[b]);
    }
    return std::sqrt(std::max(0.0, square));
  }

  Point solve_sum(const SumNode& sum) const {
    Point point(grams_.size());
    for (std::size_t b = 0; b < grams_.size(); ++b) {
      Vector x(n_, 0.0);
      bool whole = true;
      for (const SumNode::Term& term : sum.terms) {
        const bool present = term.is_operand ? program_.blocks[b].has(program_.operands[term.index])
                                             : points_[term.index][b].has_value();
        whole = whole && present;
        if (!present) continue;
        if (term.is_operand) {
          x[term.index] += term.scale;
        } else {
          add(x, term.scale, *points_[term.index][b]);
        }
      }
      if (whole || is_zero_rule()) point[b] = std::move(x);
    }
    return point;
  }

  bool all_have(const MethodNode& node, std::size_t block) const {
    return std::all_of(node.models.begin(), node.models.end(),
                       [&](std::size_t model) { return points_[model][block].has_value(); });
  }

  Point solve_method(const MethodNode& node) {
    const std::size_t models = node.models.size();
    Vector products(models * models, 0.0);
    for (std::size_t i = 0; i < models; ++i) {
      for (std::size_t j = i; j < models; ++j) {
        double product = 0;
        for (std::size_t b = 0; b < grams_.size(); ++b) {
          if (!all_have(node, b)) continue;
          product += inner(*points_[node.models[i]][b], *points_[node.models[j]][b], grams_[b]);
        }
        // A square is never negative, whatever rounding says.
        products[i * models + j] = products[j * models + i] =
            i == j ? std::max(0.0, product) : product;
      }
    }
    const Coefficients found =
        node.method->coefficients(Gram(products, models), node.weights, node.parameters);
    solution_.nodes.push_back({node.recipe_node, found.values, found.angle, found.fell_back});
    Point point(grams_.size());
    for (std::size_t b = 0; b < grams_.size(); ++b) {
      if (all_have(node, b)) {
        point[b] = combine(node, found.values, b);
      } else if (program_.vocabulary == VocabularyRule::Union) {
        const Vector shares = shares_of(node, b);
        if (!shares.empty()) point[b] = combine(node, shares, b);
      }
    }
    return point;
  }

  Vector combine(const MethodNode& node, const Vector& values, std::size_t block) const {
    Vector x(n_, 0.0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::optional<Vector>& model = points_[node.models[i]][block];
      if (model) add(x, values[i], *model);
    }
    return x;
  }

  // The weights of the models that have the block, among themselves; empty where none has it.
  Vector shares_of(const MethodNode& node, std::size_t block) const {
    Vector shares(node.models.size(), 0.0);
    double sum = 0;
    double count = 0;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (!points_[node.models[i]][block]) continue;
      shares[i] = node.weights[i];
      sum += shares[i];
      ++count;
    }
    if (count == 0) return {};
    // One model's rows are taken as they are, whatever its weight; so are equal shares of several
    // whose weights cancel out.
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (!points_[node.models[i]][block]) continue;
      shares[i] = count == 1 || sum == 0 ? 1 / count : shares[i] / sum;
    }
    return shares;
  }

  const Program& program_;
  std::span<const Vector> grams_;
  std::size_t n_;
  std::vector<Point> points_;
  Solution solution_;
};

}  // namespace

Solution solve(const Program& program, std::span<const std::vector<double>> grams) {
  return Solver(program, grams).run();
}

}  // namespace thorns
