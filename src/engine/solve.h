// The second step of a blend: from inner products to coefficients, in scalars.
#pragma once

#include <span>
#include <vector>

#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

// The inner products of a program's operands in every cell (Program::cells_of): per cell the pairs
// i <= j in the order of pair_index (kernel/kernels.h).
struct CellGrams {
  std::size_t operands = 0;
  std::vector<double> products;  // cells x pairs

  const double* of(std::size_t cell) const {
    return products.data() + cell * (operands * (operands + 1) / 2);
  }
};

// The last node of a program, worked out as a chain of pairwise tools does it: from models that
// were stored before it. Coefficients are those of the first block.
struct LastStep {
  std::vector<std::vector<double>>
      models;                        // of the operands; none that is a stored tensor as it is
  std::vector<double> coefficients;  // of the result: of the operands, then of `models`
};

// A node in the span of the operands.
struct NodePoint {
  std::vector<bool> present;   // by block: whether the node has it
  std::vector<double> values;  // cells x operands; 0 in blocks that it lacks
};

struct Solution {
  std::vector<double> coefficients;  // per cell, of the program's operands
  double norm = 0.0;                 // of the weighted sum
  std::vector<double> distances;     // from it to every operand, as in TensorFacts
  std::vector<NodeFacts> nodes;      // one per method node, in program order
  LastStep last;                     // no models where it is no step of a tool, or by lines
  std::vector<NodePoint> points;     // one per node
};

// The inner product of two nodes with coefficient vectors x and y in a cell is x^T G y, so every
// node is solved without touching a tensor again; a method's models are measured over all cells.
//
// Where vocabularies differ, a node has some blocks and lacks others. A method measures its models
// over the blocks that all of them have, and is applied there. In the other blocks the models that
// have them are added up by their weights (Union), or nothing is left (Truncate). Under Zero a node
// has every block, as zeros where its models lack it; under Gradient, too, where its leaves have
// the rows that extend them as one more operand.
//
// Throws NonFinite where a line that is to be scaled to a norm is zero.
Solution solve(const Program& program, const CellGrams& grams);

}  // namespace thorns
