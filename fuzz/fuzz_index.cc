// Any bytes as a shard index beside two shards: file names that lead nowhere else, every tensor
// once, and a comparison with what the shards hold; or an error.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "checkpoint/index.h"
#include "checkpoint/weights_file.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::Dtype;
  using thorns::fuzz::require;
  using thorns::test::SafetensorsBuilder;
  static const std::string first =
      SafetensorsBuilder().add("a", Dtype::F32, {2}, {1, 2}).add("b", Dtype::F16, {}, {1}).bytes();
  static const std::string second = SafetensorsBuilder().add("c", Dtype::I8, {1}, {1}).bytes();
  thorns::MemoryDisk disk;
  disk.add_file("m/model-00001-of-00002.safetensors", first);
  disk.add_file("m/model-00002-of-00002.safetensors", second);
  disk.add_file("m/index.json", std::string(reinterpret_cast<const char*>(data), size));
  try {
    const thorns::ShardIndex index = thorns::read_shard_index(disk, "m/index.json");
    require(!index.files.empty() && !index.tensors.empty());
    std::vector<std::string> paths;
    for (const std::string& name : index.files) {
      require(!name.empty() && name != "." && name != ".." &&
              name.find_first_of("/\\") == std::string::npos);
      thorns::shard_count_of(name);
      paths.push_back(thorns::join_path("m", name));
    }
    for (std::size_t i = 0; i < index.tensors.size(); ++i) {
      require(index.tensors[i].second < index.files.size());
      require(i == 0 || index.tensors[i - 1].first < index.tensors[i].first);
    }
    const auto source = std::make_unique<thorns::ShardedSource>(disk, paths);
    check_shard_index(index, *source, "m/index.json");
    require(source->tensors().size() == index.tensors.size());
  } catch (const thorns::Error& error) {
    to_string(error);
  }
  return 0;
}
