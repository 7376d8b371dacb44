#include "checkpoint/weights_file.h"

#include <algorithm>
#include <utility>

#include "checkpoint/gguf_header.h"
#include "checkpoint/json_events.h"
#include "checkpoint/pytorch.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/shards.h"

namespace thorns {

namespace {

std::string start_of(const ReadFile& file) {
  std::string start(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kPyTorchStart)),
                    '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start;
}

}  // namespace

const char* weights_format(const ReadFile& file) {
  const std::string start = start_of(file);
  if (is_gguf(start)) return "GGUF";
  return is_pytorch(start, file.path()) ? "PyTorch" : "safetensors";
}

WeightsHeader read_weights_header(const ReadFile& file) {
  const std::string start = start_of(file);
  refuse_lfs_pointer(start, file.path());
  if (is_pytorch(start, file.path())) {
    return {WeightsFormat::PyTorch, read_pytorch_header(file), {}};
  }
  SafetensorsHeader header = read_safetensors_header(file);
  return {WeightsFormat::Safetensors, std::move(header.entries), std::move(header.metadata)};
}

std::unique_ptr<TensorSource> open_weights(Disk& disk, const std::string& path) {
  return std::make_unique<ShardedSource>(disk, std::vector<std::string>{path});
}

std::unique_ptr<TensorSource> open_tensors(Disk& disk, const std::string& path,
                                           std::vector<StoredTensor> tensors) {
  return std::make_unique<ShardedSource>(disk, path, std::move(tensors));
}

}  // namespace thorns
