#include "insight/points.h"

namespace thorns {

double inner_product(const Point& x, const Point& y, std::span<const double> gram) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == 0) continue;
    double row = 0;
    for (std::size_t j = 0; j < y.size(); ++j) row += gram[i * y.size() + j] * y[j];
    sum += x[i] * row;
  }
  return sum;
}

std::vector<Point> node_points(const Program& program, std::span<const NodeFacts> solved) {
  std::vector<Point> points;
  const auto add = [](Point& to, double scale, const Point& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += scale * from[i];
  };
  std::size_t method = 0;
  for (const ProgramNode& node : program.nodes) {
    Point point(program.operands.size(), 0.0);
    if (node.sum) {
      for (const SumNode::Term& term : node.sum->terms) {
        if (term.is_operand) {
          point[term.index] += term.scale;
        } else {
          add(point, term.scale, points[term.index]);
        }
      }
    } else {
      const std::vector<double>& coefficients = solved[method++].coefficients;
      for (std::size_t i = 0; i < coefficients.size(); ++i) {
        add(point, coefficients[i], points[node.method->models[i]]);
      }
    }
    points.push_back(std::move(point));
  }
  return points;
}

std::vector<double> node_shares(const Program& program, std::span<const NodeFacts> solved) {
  std::vector<double> shares(program.nodes.size(), 0.0);
  if (shares.empty()) return shares;
  shares.back() = 1;
  std::size_t method = solved.size();
  for (std::size_t n = shares.size(); n-- > 0;) {
    const ProgramNode& node = program.nodes[n];
    if (node.sum) {
      for (const SumNode::Term& term : node.sum->terms) {
        if (!term.is_operand) shares[term.index] += shares[n] * term.scale;
      }
    } else {
      const std::vector<double>& coefficients = solved[--method].coefficients;
      for (std::size_t i = 0; i < coefficients.size(); ++i) {
        shares[node.method->models[i]] += shares[n] * coefficients[i];
      }
    }
  }
  return shares;
}

}  // namespace thorns
