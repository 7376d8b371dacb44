// Any bytes as a PyTorch file from before the zip archives: five pickles, then the storages. What
// is read lies within the file, or there is an error with a place in it.
#include <cstddef>
#include <cstdint>
#include <string>

#include "checkpoint/torch_file.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/pickle_mutator.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  thorns::MemoryDisk disk;
  disk.add_file("m.bin", std::string(reinterpret_cast<const char*>(data), size));
  try {
    const thorns::TorchFile file = thorns::read_torch_legacy(*disk.open("m.bin"));
    require(file.storages.size() == file.state.storages.size());
    for (std::size_t i = 0; i < file.storages.size(); ++i) {
      require(file.storages[i] <= size);
      require(file.state.storages[i].bytes() <= size - file.storages[i]);
    }
  } catch (const thorns::Error& error) {
    thorns::fuzz::require_placed(error, size);
    to_string(error);
  }
  return 0;
}

// Changes one of the pickles; the rest of the file stays.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace thorns::fuzz;
  constexpr std::size_t kPickles = 5;
  Random random(seed);
  if (below(random, 4) == 0) return LLVMFuzzerMutate(data, size, most);
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string changed;
  const std::size_t chosen = below(random, kPickles);
  for (std::size_t i = 0; i < kPickles && !rest.empty(); ++i) {
    std::size_t length = 0;
    for (const std::string& opcode : opcodes_of(rest)) length += opcode.size();
    changed += i == chosen ? mutated_pickle(rest.substr(0, length), random)
                           : std::string(rest.substr(0, length));
    rest.remove_prefix(length);
  }
  return give(changed += rest, data, most);
}
