#include "checkpoint/weights_file.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "checkpoint/json_events.h"
#include "checkpoint/pytorch.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/shards.h"

namespace thorns {

WeightsHeader read_weights_header(const ReadFile& file) {
  std::array<char, kPyTorchStart> bytes{};
  const std::size_t looked = std::min<std::uint64_t>(file.size(), bytes.size());
  file.read(0, std::as_writable_bytes(std::span(bytes).first(looked)));
  const std::string_view start(bytes.data(), looked);
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
