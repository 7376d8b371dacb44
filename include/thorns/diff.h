// How two checkpoints differ, tensor by tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thorns/observer.h"

namespace thorns {

struct DiffOptions {
  std::string a;  // a model's folder or weights file
  std::string b;
  std::size_t threads = 0;  // 0: one per core
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
  std::optional<double> distance;  // L2 norm of the difference
  std::optional<double> relative;  // distance / norm in A; none where that is 0
  std::optional<double> angle;     // radians; none where a norm is 0
  std::optional<double> largest;   // largest magnitude of a difference
};

struct DiffReport {
  std::string a;
  std::string b;
  std::vector<std::string> only_a;  // names
  std::vector<std::string> only_b;
  std::vector<std::string> reshaped;  // "name: [2, 3] in A, [2, 4] in B"
  std::vector<TensorDiff> tensors;    // by name
  std::uint64_t equal = 0;            // tensors of equal numbers
  std::uint64_t bytes_read = 0;
};

// Reads both once. Throws what opening a checkpoint throws, Io and Cancelled.
DiffReport diff(const DiffOptions& options, Observer& observer);

std::string to_json(const DiffReport& report);

}  // namespace thorns
