#include "engine/solve.h"

#include <algorithm>
#include <cmath>

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

Vector solve_sum(const SumNode& sum, const std::vector<Vector>& points, std::size_t n) {
  Vector point(n, 0.0);
  for (const SumNode::Term& term : sum.terms) {
    if (term.is_operand) {
      point[term.index] += term.scale;
    } else {
      add(point, term.scale, points[term.index]);
    }
  }
  return point;
}

Vector solve_method(const MethodNode& node, const std::vector<Vector>& points,
                    std::span<const double> gram, std::size_t n, std::vector<NodeFacts>& facts) {
  const std::size_t models = node.models.size();
  Vector products(models * models);
  for (std::size_t i = 0; i < models; ++i) {
    for (std::size_t j = i; j < models; ++j) {
      const double product = inner(points[node.models[i]], points[node.models[j]], gram);
      // A square is never negative, whatever rounding says.
      products[i * models + j] = products[j * models + i] =
          i == j ? std::max(0.0, product) : product;
    }
  }
  const Coefficients found =
      node.method->coefficients(Gram(products, models), node.weights, node.parameters);
  Vector point(n, 0.0);
  for (std::size_t i = 0; i < models; ++i) add(point, found.values[i], points[node.models[i]]);
  facts.push_back({node.recipe_node, found.values, found.angle, found.fell_back});
  return point;
}

}  // namespace

Solution solve(const Program& program, std::span<const double> gram) {
  const std::size_t n = program.operands.size();
  Solution solution;
  std::vector<Vector> points;
  points.reserve(program.nodes.size());
  for (const ProgramNode& node : program.nodes) {
    points.push_back(node.sum ? solve_sum(*node.sum, points, n)
                              : solve_method(*node.method, points, gram, n, solution.nodes));
  }
  solution.coefficients = points.back();
  solution.norm = std::sqrt(std::max(0.0, inner(points.back(), points.back(), gram)));
  return solution;
}

}  // namespace thorns
