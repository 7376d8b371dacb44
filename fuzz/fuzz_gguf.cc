// Any bytes as a GGUF file: a header whose tensors lie within the file without overlap, and a model
// whose tensors can be read, or an error that says why not.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/gguf.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  thorns::MemoryDisk disk;
  disk.add_file("fuzz.gguf", std::string(reinterpret_cast<const char*>(data), size));
  try {
    std::uint64_t end = 0;
    for (const auto& tensor : read_gguf_header(*disk.open("fuzz.gguf")).tensors) {
      require(tensor.offset >= end && tensor.offset <= size);
      require(tensor.bytes <= size - tensor.offset);
      end = tensor.offset + tensor.bytes;
    }
    const auto model = thorns::open_gguf(disk, "fuzz.gguf");
    for (std::size_t i = 0; i < model->tensors().size(); ++i) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(model->tensors()[i].bytes()));
      model->will_need(i, 0, model->tensors()[i].elements);
      model->read(i, 0, bytes);
    }
  } catch (const thorns::Error& error) {
    to_string(error);
  }
  return 0;
}
