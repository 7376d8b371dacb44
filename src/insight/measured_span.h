// The vectors in the span of one program's operands, with the inner products that were measured:
// everything that is said of weights is computed from these.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "engine/solve.h"
#include "plan/plan.h"

namespace thorns {

// A part of a sum of squares; 0 of nothing.
inline double ratio(double a, double b) { return b > 0 ? a / b : 0; }

class MeasuredSpan {
 public:
  // Coefficients of the operands in every cell of the first block, whose rows all operands have.
  using Vector = std::vector<double>;

  // All three must outlive this. `solution` is that of `program`.
  MeasuredSpan(const Program& program, const CellGrams& grams, const Solution& solution);

  std::size_t operands() const { return operands_; }
  Vector zero() const { return Vector(cells_ * operands_, 0.0); }
  Vector operand(std::size_t index) const;
  Vector node(std::size_t program_node) const;
  // Of the vector `from`, added to `to`.
  static void add(Vector& to, double scale, const Vector& from);
  double product(const Vector& x, const Vector& y) const;

  // What a fold of the recipe adds to its model; none where it replaces the model whole or does not
  // touch this tensor.
  struct Added {
    Vector delta;
    std::size_t model = 0;  // program node
    std::size_t last = 0;   // the model with what is added
  };
  std::optional<Added> added_by(std::size_t recipe_node) const;

  // The program node that a recipe node ends in.
  std::optional<std::size_t> find(std::size_t recipe_node) const;

  // Per program node, how much of it is in the result: the result changes by this many times what
  // is added to the node, as long as the coefficients stay as they are. Maps and normalisations
  // count as if they passed on what they are given.
  std::vector<double> shares() const;

 private:
  const Program& program_;
  const CellGrams& grams_;
  const Solution& solution_;
  std::size_t operands_;
  std::size_t cells_;
  std::map<std::size_t, std::size_t> last_;  // by recipe node: the last program node of it
};

}  // namespace thorns
