// The second step of a blend: from inner products to coefficients, in scalars.
#pragma once

#include <span>
#include <vector>

#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

struct Solution {
  std::vector<std::vector<double>> coefficients;  // per block, of the program's operands
  double norm = 0.0;                              // of the weighted sum
  std::vector<double> distances;                  // from it to every operand, as in TensorFacts
  std::vector<NodeFacts> nodes;                   // one per method node, in program order
};

// `grams`: per block the n x n inner products of the program's operands, row-major. The inner
// product of two nodes with coefficient vectors x and y is x^T G y, so every node is solved without
// touching a tensor again.
//
// Where vocabularies differ, a node has some blocks and lacks others. A method measures its models
// over the blocks that all of them have, and is applied there. In the other blocks the models that
// have them are added up by their weights (Union), or nothing is left (Truncate). Under Zero a node
// has every block, as zeros where its models lack it.
Solution solve(const Program& program, std::span<const std::vector<double>> grams);

}  // namespace thorns
