// The tensors of a file as people read them: the layers of a model on one line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thorns/inspect.h"

namespace thorns {

struct GroupedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::string type;
  std::uint64_t elements = 0;
  std::uint64_t bytes = 0;
};

// Tensors of one shape and type whose names differ in whole components that are numbers, by name in
// the order in which people count. Without `fold` every tensor is a group.
std::vector<TensorGroup> group_tensors(const std::vector<GroupedTensor>& tensors, bool fold);

}  // namespace thorns
