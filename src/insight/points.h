// The nodes of a program as points in the span of its operands, after it was measured.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

using Point = std::vector<double>;  // one coefficient per operand

// x^T G y, `gram` being n x n, row-major.
double inner_product(const Point& x, const Point& y, std::span<const double> gram);

// Every node of a Blend program, in the rows that all operands have. `solved`: as `solve` found
// them.
std::vector<Point> node_points(const Program& program, std::span<const NodeFacts> solved);

// How much of every node is in the last one: the result changes by this many times what is added to
// the node, as long as the coefficients stay as they are.
std::vector<double> node_shares(const Program& program, std::span<const NodeFacts> solved);

}  // namespace thorns
