// The tensors of a PyTorch state dict, as its pickle describes them. Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/pickle.h"
#include "checkpoint/source.h"

namespace thorns {

struct TorchStorage {
  std::string key;  // decimal digits; its name in the file
  const TorchGlobal* type = nullptr;
  std::uint64_t elements = 0;  // of the type's element_size
  std::uint32_t at = 0;        // where the pickle speaks of it

  std::uint64_t bytes() const { return elements * type->element_size; }
};

struct TorchTensor {
  TensorInfo info;
  std::vector<std::uint64_t> strides;  // in elements, one per dimension
  std::uint64_t first_byte = 0;        // of element [0, 0, ...], from the beginning of its storage
  std::size_t storage = 0;             // index into StateDict::storages
};

struct StateDict {
  std::vector<TorchStorage> storages;  // all that the pickle speaks of, each once
  std::vector<TorchTensor> tensors;    // names unique; every element lies within its storage
};

// `pickle` must be a dict of tensors by name, or hold one as `state_dict`, `model` or `module`.
// Throws Corrupt for what does not hold together, Unsupported for types and kinds of tensors that
// cannot be merged; both with the place in the pickle.
StateDict read_state_dict(const Pickle& pickle);

}  // namespace thorns
