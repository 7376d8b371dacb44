// Where the engine's output goes. The engine knows neither files nor formats behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plan/plan.h"

namespace thorns {

// What was measured and done at one node that a method solved.
struct NodeFacts {
  std::size_t recipe_node = 0;
  std::vector<double> coefficients;  // of the node's models
  std::optional<double> angle;       // radians
  bool fell_back = false;
  // What the angle would be, were the rows that only some of its models have zero in the others;
  // where there are such rows.
  std::optional<double> padded_angle = std::nullopt;
};

// What is known of one output tensor when it has been written.
struct TensorFacts {
  std::vector<double> coefficients;         // one per operand of the program, in the first block
  std::vector<std::vector<double>> blocks;  // the same per written block; empty where there is one
  // Where the program is solved by lines: the coefficients above are means over the lines, and
  // these their least and largest. Else empty.
  std::vector<double> least;
  std::vector<double> most;
  std::vector<double> norms;  // L2 norm of each operand; empty for Same
  // L2 norm of the exact result minus the operand, over the rows that it has; NaN for an update,
  // which is no model. Empty where nothing was measured.
  std::vector<double> distances;
  double norm = 0.0;  // of the exact result
  std::vector<NodeFacts> nodes;
  std::uint64_t rounded = 0;    // output elements that are not the exact sum
  std::uint64_t clipped = 0;    // finite sums beyond the output type's range
  std::uint64_t nonfinite = 0;  // NaN or Inf in the output (only with allow_nonfinite)
  // What one more rounding would do: of a sample of the output's elements, those that would differ
  // had the models of the last node been stored in the output's type before it. 0 of 0 where they
  // are stored models or the output has no 16 bits.
  std::uint64_t sampled = 0;
  std::uint64_t changed = 0;
};

// Called by one thread at a time, not always the same one: for every program of the plan in order,
// all of its bytes in order, then `finished`.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void write(std::size_t program, std::span<const std::byte> bytes) = 0;
  virtual void finished(std::size_t program, const TensorFacts& facts) = 0;
};

}  // namespace thorns
