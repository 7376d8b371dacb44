// The small JSON files of a model folder: config.json, then, behind lines `---`, its shard index
// and hf_quant_config.json. Without an index the folder has one weights file. The folder opens as a
// model that can be read from end to end, or with an error.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using thorns::Dtype;
using thorns::fuzz::require;
using thorns::test::ModelFolder;
using thorns::test::SafetensorsBuilder;

// "embed" and "norm" lie in the first file, "head" in the second.
thorns::MemoryDisk folder(const std::vector<std::string>& parts) {
  static const std::string first = SafetensorsBuilder()
                                       .add("embed", Dtype::BF16, {2, 2}, {1, 2, 3, 4})
                                       .add("norm", Dtype::F32, {2}, {1, 2})
                                       .bytes();
  static const std::string second =
      SafetensorsBuilder().add("head", Dtype::F16, {2, 1}, {1, 2}).bytes();
  thorns::MemoryDisk disk;
  disk.add_file("model/config.json", parts[0]);
  if (parts[1].empty()) {
    disk.add_file("model/model.safetensors", first);
  } else {
    disk.add_file("model/" + ModelFolder::shard_name(0, 2), first);
    disk.add_file("model/" + ModelFolder::shard_name(1, 2), second);
    disk.add_file("model/model.safetensors.index.json", parts[1]);
  }
  if (!parts[2].empty()) disk.add_file("model/hf_quant_config.json", parts[2]);
  disk.add_file("secret.safetensors", second);  // an index may not lead here
  return disk;
}

void check(const thorns::Checkpoint& model) {
  require(model.config().is_object());
  model.model_type();
  model.architecture();
  model.ties_embeddings();
  require(!model.files().empty());
  for (const thorns::InputFile& file : model.files()) {
    require(thorns::parent_path(file.path) == "model" && file.size > 0);
  }
  const auto tensors = model.tensors();
  require(!tensors.empty());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(i == 0 || tensors[i - 1].name < tensors[i].name);
    require(model.find(tensors[i].name) == i);
    require(thorns::parent_path(model.file_of(i)) == "model");
    std::vector<std::byte> bytes(tensors[i].bytes());
    model.read(i, 0, bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thorns::MemoryDisk disk = folder(thorns::fuzz::split_parts(data, size, 3));
  std::unique_ptr<thorns::Checkpoint> model;
  try {
    model = open_checkpoint(disk, "model");
  } catch (const thorns::Error& error) {
    to_string(error);
    return 0;
  }
  check(*model);
  return 0;
}
