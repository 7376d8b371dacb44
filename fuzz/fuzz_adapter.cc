// An adapter: adapter_config.json, then, behind a line `---`, the tensors of its
// adapter_model.safetensors, one a line: NAME DTYPE and the dimensions, for example
//   base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight F32 2 4
// Without a configuration the file stands alone, as those of Kohya's trainer do.
// It opens, its updates hold together and are matched to a small model, or there is an error.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/refit.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using thorns::Update;
using thorns::UpdateKind;
using thorns::fuzz::require;

constexpr std::uint64_t kMostElements = 4096;  // of one tensor
constexpr std::size_t kMostTensors = 200;

// A file of the tensors that `list` describes, all zeros; lines that describe none are left out.
std::string weights(const std::string& list) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::uint64_t size = 0;
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line) && header.size() < kMostTensors;) {
    std::istringstream words(line);
    std::string name;
    std::string type;
    words >> name >> type;
    const auto dtype = thorns::dtype_from_safetensors(type);
    if (!dtype) continue;
    std::vector<std::uint64_t> shape;
    std::uint64_t elements = 1;
    for (std::uint64_t dim = 0; elements <= kMostElements && words >> dim;) {
      shape.push_back(dim);
      elements = dim > kMostElements ? dim : elements * dim;
    }
    if (elements > kMostElements || header.contains(name)) continue;
    const std::uint64_t end = size + elements * size_of(*dtype);
    header[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {size, end}}};
    size = end;
  }
  using Json = nlohmann::ordered_json;
  return thorns::test::raw_safetensors(header.dump(-1, ' ', false, Json::error_handler_t::replace),
                                       std::string(size, '\0'));
}

// The model that the adapters of the seeds belong to, and a GPT-2 to transpose for.
std::vector<thorns::TensorInfo> model() {
  std::vector<thorns::TensorInfo> tensors;
  const auto add = [&](const char* name, std::vector<std::uint64_t> shape) {
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : shape) elements *= dim;
    tensors.push_back({name, thorns::Dtype::F16, std::move(shape), elements});
  };
  add("conv.weight", {6, 4, 3});
  add("mha.in_proj_weight", {12, 4});
  add("mha.out_proj.weight", {4, 4});
  add("model.embed_tokens.weight", {8, 4});
  add("model.layers.0.mlp.down_proj.weight", {4, 6});
  add("model.layers.0.self_attn.q_proj.bias", {4});
  add("model.layers.0.self_attn.q_proj.weight", {4, 4});
  add("model.layers.0.self_attn.v_proj.weight", {2, 4});
  add("model.layers.1.mlp.gate_up_proj.weight", {6, 4});
  add("model.layers.1.self_attn.qkv_proj.weight", {8, 4});
  add("model.norm.weight", {4});
  add("transformer.h.0.attn.c_attn.weight", {4, 12});
  add("transformer.h.0.attn.c_proj.weight", {4, 4});
  return tensors;
}

void check_update(const Update& update, std::span<const thorns::TensorInfo> tensors) {
  for (const std::size_t tensor : update.tensors()) require(tensor < tensors.size());
  require(std::isfinite(update.scale));
  require((update.rank > 0) == (update.kind == UpdateKind::LowRank));
  if (update.kind != UpdateKind::LowRank || update.change != nullptr) return;
  const auto& a = tensors[update.first].shape;
  const auto& b = tensors[update.second].shape;
  require(a.size() >= 2 && b.size() >= 2);
  require(a[0] == update.rank && b[1] == update.rank);
}

// Loads the update as the engine would, and computes all of it.
void compute(const thorns::Adapter& adapter, const thorns::ResolvedUpdate& resolved) {
  const Update& update = *resolved.update;
  const thorns::BaseTensor& base = resolved.base;
  if (update.kind == UpdateKind::LowRank) {
    std::vector<float> u(base.rows() * update.rank);
    std::vector<float> v(update.rank * base.columns());
    load_factors(adapter, update, base, u, v);
  }
  const std::vector<double> before(base.elements(), 1.0);
  std::vector<double> after(base.elements());
  if (const auto* delta = dynamic_cast<const thorns::DeltaChange*>(update.change.get())) {
    delta->load(adapter.source(), base)->generate(0, after);
  } else if (const auto* map = dynamic_cast<const thorns::MapChange*>(update.change.get())) {
    map->load(adapter.source(), base)->apply(0, before, after);
  } else if (const auto* norm = dynamic_cast<const thorns::NormChange*>(update.change.get())) {
    const std::size_t lines = norm->by_column(base) ? base.columns() : base.rows();
    require(norm->load(adapter.source()).size() == lines);
  }
}

void check(std::unique_ptr<thorns::Adapter> adapter, std::size_t files) {
  require(!adapter->updates().empty() && adapter->files().size() == files);
  const auto tensors = adapter->source().tensors();
  for (const Update& update : adapter->updates()) check_update(update, tensors);
  static const std::vector<thorns::TensorInfo> target = model();
  for (const char* type : {"llama", "gpt2"}) {
    const thorns::FoldTarget fold{target, type, true};
    recut(adapter, fold);
    for (const auto& resolved : resolve(*adapter, fold)) compute(*adapter, resolved);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = thorns::fuzz::split_parts(data, size, 2);
  thorns::MemoryDisk disk;
  const bool alone = parts[0].empty();
  if (!alone) disk.add_file("adapter/adapter_config.json", parts[0]);
  disk.add_file("adapter/adapter_model.safetensors", weights(parts[1]));
  try {
    check(open_adapter(disk, alone ? "adapter/adapter_model.safetensors" : "adapter"),
          alone ? 1 : 2);
  } catch (const thorns::Error& error) {
    require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
