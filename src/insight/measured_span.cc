#include "insight/measured_span.h"

#include <algorithm>

#include "kernel/kernels.h"

namespace thorns {

MeasuredSpan::MeasuredSpan(const Program& program, const CellGrams& grams, const Solution& solution)
    : program_(program),
      grams_(grams),
      solution_(solution),
      operands_(program.operands.size()),
      cells_(program.cells_before(1)) {
  for (std::size_t i = 0; i < program.nodes.size(); ++i) last_[program.nodes[i].recipe_node()] = i;
}

MeasuredSpan::Vector MeasuredSpan::operand(std::size_t index) const {
  Vector vector = zero();
  for (std::size_t cell = 0; cell < cells_; ++cell) vector[cell * operands_ + index] = 1;
  return vector;
}

MeasuredSpan::Vector MeasuredSpan::node(std::size_t program_node) const {
  const Vector& values = solution_.points[program_node].values;
  return {values.begin(), values.begin() + static_cast<std::ptrdiff_t>(cells_ * operands_)};
}

void MeasuredSpan::add(Vector& to, double scale, const Vector& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += scale * from[i];
}

double MeasuredSpan::product(const Vector& x, const Vector& y) const {
  double sum = 0;
  for (std::size_t cell = 0; cell < cells_; ++cell) {
    const double* const gram = grams_.of(cell);
    const double* const left = x.data() + cell * operands_;
    const double* const right = y.data() + cell * operands_;
    for (std::size_t i = 0; i < operands_; ++i) {
      if (left[i] == 0) continue;
      double row = 0;
      for (std::size_t j = 0; j < operands_; ++j) {
        row += gram[pair_index(std::min(i, j), std::max(i, j), operands_)] * right[j];
      }
      sum += left[i] * row;
    }
  }
  return sum;
}

std::optional<MeasuredSpan::Added> MeasuredSpan::added_by(std::size_t recipe_node) const {
  const auto last = find(recipe_node);
  if (!last) return std::nullopt;
  const auto first =
      std::find_if(program_.nodes.begin(), program_.nodes.end(),
                   [&](const ProgramNode& node) { return node.recipe_node() == recipe_node; });
  std::optional<std::size_t> model;
  if (first->map) {
    model = first->map->model;
  } else if (first->norm) {
    model = first->norm->model;
  } else {
    for (const SumNode::Term& term : first->sum->terms) {
      if (!term.is_operand) model = term.index;
    }
  }
  if (!model) return std::nullopt;
  Added added{node(*last), *model, *last};
  add(added.delta, -1, node(*model));
  return added;
}

std::optional<std::size_t> MeasuredSpan::find(std::size_t recipe_node) const {
  const auto at = last_.find(recipe_node);
  if (at == last_.end()) return std::nullopt;
  return at->second;
}

std::vector<double> MeasuredSpan::shares() const {
  std::vector<double> shares(program_.nodes.size(), 0.0);
  if (shares.empty()) return shares;
  shares.back() = 1;
  std::size_t method = solution_.nodes.size();
  for (std::size_t n = shares.size(); n-- > 0;) {
    const ProgramNode& node = program_.nodes[n];
    if (node.sum) {
      for (const SumNode::Term& term : node.sum->terms) {
        if (!term.is_operand) shares[term.index] += shares[n] * term.scale;
      }
    } else if (node.method) {
      const std::vector<double>& coefficients = solution_.nodes[--method].coefficients;
      for (std::size_t i = 0; i < coefficients.size(); ++i) {
        shares[node.method->models[i]] += shares[n] * coefficients[i];
      }
    } else {
      shares[node.map ? node.map->model : node.norm->model] += shares[n];
    }
  }
  return shares;
}

}  // namespace thorns
