// Any bytes as a LoRA in GGUF: updates of a small model whose factors can be read, or an error.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/refit.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

namespace {

const std::vector<thorns::TensorInfo>& model() {
  static const std::vector<thorns::TensorInfo> tensors = {
      {"model.embed_tokens.weight", thorns::Dtype::F32, {8, 4}, 32},
      {"model.layers.0.mlp.down_proj.weight", thorns::Dtype::F32, {4, 6}, 24},
      {"model.layers.0.mlp.up_proj.weight", thorns::Dtype::F32, {4, 32}, 128},
      {"model.layers.0.self_attn.q_proj.weight", thorns::Dtype::F32, {4, 4}, 16}};
  return tensors;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  thorns::MemoryDisk disk;
  disk.add_file("l.gguf", std::string(reinterpret_cast<const char*>(data), size));
  try {
    auto adapter = open_adapter(disk, "l.gguf");
    thorns::FoldTarget target{model(), "llama"};
    target.head_rows = 4;
    recut(adapter, target);
    for (const thorns::ResolvedUpdate& resolved : resolve(*adapter, target)) {
      const thorns::Update& update = *resolved.update;
      require(std::isfinite(update.scale) && update.kind == thorns::UpdateKind::LowRank);
      std::vector<float> u(resolved.base.rows() * update.rank);
      std::vector<float> v(update.rank * resolved.base.columns());
      load_factors(*adapter, update, resolved.base, u, v);
    }
  } catch (const thorns::Error& error) {
    require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
