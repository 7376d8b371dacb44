// What the inner products of a recipe's models and adapters say of it, added up over all tensors.
//
// Everything is a ratio of norms and inner products, summed over tensors as if all of them together
// were one vector.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "engine/solve.h"
#include "insight/measured_span.h"
#include "insight/stacks.h"
#include "plan/plan.h"
#include "thorns/check.h"

namespace thorns {

class WeightSurvey {
 public:
  // `plan` must outlive this.
  explicit WeightSurvey(const Plan& plan);

  // What `survey` of the engine measured of one program. Linear in its nodes and operands.
  void add(std::size_t program, const CellGrams& grams);

  std::uint64_t tensors() const { return tensors_; }
  std::vector<FoldMeasure> folds() const;       // without `fit`
  std::vector<std::size_t> fold_nodes() const;  // of the same, in Recipe::nodes
  std::vector<NodeMeasure> nodes() const;
  std::vector<Finding> findings() const;
  // A leaf from which all others differ independently, where there is one of three or more.
  std::optional<std::size_t> base() const;

 private:
  struct FoldSums {
    double delta = 0;   // squared norm of what is added, all tensors
    double model = 0;   // of what it is added to
    double apart = 0;   // of model - mean of the leaves
    double cross = 0;   // <delta, model - mean>
    double reach = 0;   // delta, times its share of the result
    double effect = 0;  // squared norm of what arrives in the result
    double result = 0;  // of the result
    std::uint64_t tensors = 0;
  };
  struct StackSums {  // like FoldStack::folds, n x n
    std::vector<double> products;
    double model = 0;
  };
  struct Angle {
    double radians = 0;
    bool matrix = false;
    bool fell_back = false;
  };

  void add_leaves(const Program& program, const MeasuredSpan& span);
  void add_folds(const Program& program, const MeasuredSpan& span, double norm);
  void find_folds(std::vector<Finding>& findings) const;
  void find_stacks(std::vector<Finding>& findings) const;
  void find_nodes(std::vector<Finding>& findings) const;
  void find_leaves(std::vector<Finding>& findings) const;
  double leaf_product(std::size_t i, std::size_t j) const {
    return leaf_products_[i * plan_.leaves.size() + j];
  }

  const Plan& plan_;
  std::vector<FoldStack> stacks_;
  std::uint64_t tensors_ = 0;
  std::vector<double> leaf_products_;                 // leaves x leaves
  std::map<std::size_t, FoldSums> folds_;             // by recipe node
  std::vector<StackSums> stack_sums_;                 // like stacks_
  std::map<std::size_t, std::vector<Angle>> angles_;  // by recipe node
};

}  // namespace thorns
