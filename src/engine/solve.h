// The second step of a blend: from inner products to coefficients, in scalars.
#pragma once

#include <span>
#include <vector>

#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

struct Solution {
  std::vector<double> coefficients;  // of the program's operands
  double norm = 0.0;                 // of the weighted sum
  std::vector<NodeFacts> nodes;      // one per method node, in program order
};

// `gram`: n x n inner products of the program's operands, row-major. The inner product of two nodes
// with coefficient vectors x and y is x^T G y, so every node is solved without touching a tensor
// again.
Solution solve(const Program& program, std::span<const double> gram);

}  // namespace thorns
