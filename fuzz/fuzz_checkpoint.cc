// A model folder: config.json, then, behind lines `---`, its shard index, hf_quant_config.json and
// the other files that it holds, one a line: NAME and, for weights, `first`, `second`, `named` or
// `quantised`; else the content. `open NAME` opens that file in place of the folder. Without such a
// list the folder has the weights that its index calls for. What is opened is a model that can be
// read from end to end, or there is an error.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "support/fuzz_parts.h"
#include "support/json_mutator.h"
#include "support/memory_disk.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using thorns::Dtype;
using thorns::fuzz::require;
using thorns::test::ModelFolder;
using thorns::test::SafetensorsBuilder;

// "embed" and "norm" lie in the first file, "head" in the second.
const std::map<std::string, std::string>& weights() {
  static const std::map<std::string, std::string> files = {
      {"first", SafetensorsBuilder()
                    .add("embed", Dtype::BF16, {2, 2}, {1, 2, 3, 4})
                    .add("norm", Dtype::F32, {2}, {1, 2})
                    .bytes()},
      {"second", SafetensorsBuilder().add("head", Dtype::F16, {2, 1}, {1, 2}).bytes()},
      {"named", SafetensorsBuilder().add("module.a", Dtype::F16, {2}, {1, 2}).bytes()},
      {"quantised", SafetensorsBuilder()
                        .add("a.qweight", Dtype::I32, {1, 2}, {0, 0})
                        .add("a.SCB", Dtype::F32, {1}, {1})
                        .bytes()}};
  return files;
}

// Adds what the list names; returns the path to open.
std::string add_listed(thorns::MemoryDisk& disk, const std::string& list) {
  std::string opened = "model";
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t blank = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, blank);
    const std::string content = line.substr(std::min(blank + 1, line.size()));
    if (name == "open") {
      opened = "model/" + content;
    } else if (!name.empty() && name.find("..") == std::string::npos) {
      const auto known = weights().find(content);
      disk.add_file("model/" + name, known == weights().end() ? content : known->second);
    }
  }
  return opened;
}

// The folder of the input; returns the path to open.
std::string fill(thorns::MemoryDisk& disk, const std::vector<std::string>& parts) {
  disk.add_file("model/config.json", parts[0]);
  if (!parts[1].empty()) disk.add_file("model/model.safetensors.index.json", parts[1]);
  if (!parts[2].empty()) disk.add_file("model/hf_quant_config.json", parts[2]);
  disk.add_file("secret.safetensors", weights().at("second"));  // an index may not lead here
  if (!parts[3].empty()) return add_listed(disk, parts[3]);
  if (parts[1].empty()) {
    disk.add_file("model/model.safetensors", weights().at("first"));
  } else {
    disk.add_file("model/" + ModelFolder::shard_name(0, 2), weights().at("first"));
    disk.add_file("model/" + ModelFolder::shard_name(1, 2), weights().at("second"));
  }
  return "model";
}

void check(const thorns::Checkpoint& model) {
  require(model.config().is_object() || model.path() != "model");
  model.model_type();
  model.architecture();
  model.ties_embeddings();
  model.quantisation();
  model.generation_config();
  require(!model.files().empty());
  for (const thorns::InputFile& file : model.files()) {
    require(file.path.starts_with("model/") && file.size > 0);
  }
  for (const std::string& name : model.tokenizer_files()) require(!name.starts_with(".."));
  const auto tensors = model.tensors();
  require(!tensors.empty());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(i == 0 || tensors[i - 1].name < tensors[i].name);
    require(model.find(tensors[i].name) == i);
    require(model.file_of(i).starts_with("model/"));
    model.will_need(i, 0, tensors[i].elements);
    std::vector<std::byte> bytes(tensors[i].bytes());
    model.read(i, 0, bytes);
    require((model.stored_as(i).bytes == 0) == bytes.empty());
    // The disk maps nothing.
    require(!model.map(i, 0, tensors[i].elements) && !model.map_codes(i, 0, tensors[i].elements));
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  return thorns::fuzz::mutate_documents(data, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thorns::MemoryDisk disk;
  const std::string path = fill(disk, thorns::fuzz::split_parts(data, size, 4));
  std::unique_ptr<thorns::Checkpoint> model;
  try {
    model = open_checkpoint(disk, path);
  } catch (const thorns::Error& error) {
    to_string(error);
    return 0;
  }
  check(*model);
  return 0;
}
