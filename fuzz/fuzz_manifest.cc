// Any bytes as the manifest of a folder: one in which everything refers to something, or an Error.
#include <cstddef>
#include <cstdint>
#include <string>

#include "output/manifest_reader.h"
#include "support/fuzz_parts.h"
#include "support/json_mutator.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  return thorns::fuzz::mutate_documents(data, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  thorns::MemoryDisk disk;
  disk.add_file("model/thorns.json", std::string(reinterpret_cast<const char*>(data), size));
  try {
    const thorns::Manifest manifest = thorns::read_manifest(disk, "model");
    require(manifest.root < manifest.nodes.size());
    for (std::size_t i = 0; i < manifest.nodes.size(); ++i) {
      for (const std::size_t model : manifest.nodes[i].models) require(model < i);
      require(manifest.nodes[i].kind != thorns::ManifestNodeKind::Fold ||
              manifest.nodes[i].adapter < manifest.adapters.size());
    }
    for (const thorns::ManifestFile& file : manifest.files) {
      require(!file.name.starts_with("../") && file.name.find('/') != 0 &&
              file.sha256.size() == 64);
    }
    for (const thorns::ManifestTensor& tensor : manifest.tensors) {
      require(tensor.rounded <= tensor.elements);
    }
  } catch (const thorns::Error&) {
    return 0;
  }
  return 0;
}
