// Any bytes as a pickle: values that refer to values, a state dict whose tensors lie within their
// storages, or an error with a place. Nothing is looked up or called on the way.
#include <cstddef>
#include <cstdint>
#include <string>

#include "checkpoint/state_dict.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/pickle_mutator.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

void check(const thorns::Pickle& pickle, std::size_t size) {
  require(pickle.end <= size && pickle.root < pickle.values.size());
  for (const thorns::PickleValue& value : pickle.values) {
    require(value.at < size && *thorns::kind_name(value.kind) != '\0');
    for (const thorns::PickleId item : value.items) require(item < pickle.values.size());
    require(value.kind != thorns::PickleValue::Kind::Dict || value.items.size() % 2 == 0);
  }
}

void check(const thorns::StateDict& state) {
  for (const thorns::TorchTensor& tensor : state.tensors) {
    require(tensor.storage < state.storages.size());
    const std::uint64_t capacity = state.storages[tensor.storage].bytes();
    require(tensor.first_byte <= capacity);
    require(tensor.strides.size() == tensor.info.shape.size());
    if (tensor.info.elements == 0) continue;
    std::uint64_t last = 0;
    for (std::size_t d = 0; d < tensor.strides.size(); ++d) {
      last += (tensor.info.shape[d] - 1) * tensor.strides[d];
    }
    require((last + 1) * size_of(tensor.info.dtype) <= capacity - tensor.first_byte);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thorns::MemoryDisk disk;
  disk.add_file("p.bin", std::string(reinterpret_cast<const char*>(data), size));
  const auto file = disk.open("p.bin");
  try {
    const thorns::Pickle pickle = thorns::read_pickle({*file, 0, size});
    check(pickle, size);
    check(thorns::read_state_dict(pickle));
  } catch (const thorns::Error& error) {
    require(error.code() == thorns::ErrorCode::Corrupt ||
            error.code() == thorns::ErrorCode::Unsupported);
    thorns::fuzz::require_placed(error, size);
    to_string(error);
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace thorns::fuzz;
  Random random(seed);
  if (below(random, 4) == 0) return LLVMFuzzerMutate(data, size, most);
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  return give(mutated_pickle(bytes, random), data, most);
}
