// How two checkpoints differ, tensor by tensor; and which models an unknown merge was made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thorns/observer.h"
#include "thorns/thorns.h"

namespace thorns {

struct DiffOptions {
  std::string a;  // a model's folder or weights file
  std::string b;
  std::uint64_t memory = 512'000'000;  // ceiling on resident memory, bytes
  std::size_t threads = 0;             // 0: one per core; fewer run where the ceiling asks for it
};

// A tensor that both have, in one shape.
struct TensorDiff {
  std::string tensor;
  std::string dtype_a;
  std::string dtype_b;
  std::uint64_t elements = 0;
  std::uint64_t differing = 0;  // elements that are not the same number; two NaN are the same
  bool same_bytes = false;
  // None where the elements are integers. NaN and Inf count as 0 here, and only here.
  std::optional<double> norm_a;  // L2
  std::optional<double> norm_b;
  std::optional<double> distance;  // L2 norm of the difference
  std::optional<double> relative;  // distance / norm in A; none where that is 0
  std::optional<double> angle;     // radians; none where a norm is 0
  std::optional<double> largest;   // largest magnitude of a difference
};

// Several tensors that both have, taken together as if they were one vector; integers count as
// elements only.
struct DiffGroup {
  std::string name;  // "layer 3", "before the layers"; "model.layers.*.self_attn.q_proj.weight"
  std::uint64_t tensors = 0;
  std::uint64_t elements = 0;
  std::uint64_t differing = 0;
  double distance = 0.0;
  std::optional<double> relative;  // as in TensorDiff
  std::optional<double> angle;
  double largest = 0.0;
};

struct DiffReport {
  std::string a;
  std::string b;
  std::vector<std::string> only_a;  // names
  std::vector<std::string> only_b;
  std::vector<std::string> reshaped;  // "name: [2, 3] in A, [2, 4] in B"
  std::vector<TensorDiff> tensors;    // by name
  std::vector<DiffGroup> layers;      // in the order of the model
  std::vector<DiffGroup> modules;     // by name; layers and experts together
  std::uint64_t equal = 0;            // tensors of equal numbers
  std::uint64_t bytes_read = 0;
};

// Reads both once. Throws what opening a checkpoint throws, NoSpace, Io and Cancelled.
DiffReport diff(const DiffOptions& options, Observer& observer);

std::string to_json(const DiffReport& report);

// ---------------------------------------------------------------- blame

// One tensor of a model as the weighted sum of a recipe's models and adapters that comes nearest to
// it; or all of them: means over the tensors by squared norm, and the whole of what is left.
struct Explanation {
  std::string tensor;                // empty: all of them
  std::string best;                  // the model that adds the longest vector; empty: of all
  std::vector<double> coefficients;  // like BlameReport::candidates; 0 where one has no part
  double residual = 0.0;             // norm of what is left / norm of the tensor
};

struct BlameReport {
  std::string model;
  std::string recipe;                   // canonical key
  std::vector<std::string> candidates;  // models of the recipe, then its adapters
  std::size_t models = 0;               // of them
  Explanation whole;                    // coefficients: over tensors in which one has a part
  std::vector<Explanation> tensors;     // by name
  std::uint64_t bytes_read = 0;
};

// Explains the model at `model` by those of a recipe, whose brackets and weights play no part:
// least squares in their inner products, which one sweep measures under the ceiling of `options`.
// An adapter's coefficient is its weight as a fold. Throws what `plan` has among its problems, and
// what reading throws.
BlameReport blame(const std::string& model, const MergeOptions& options, Observer& observer);

std::string to_json(const BlameReport& report);

}  // namespace thorns
