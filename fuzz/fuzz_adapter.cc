// An adapter: adapter_config.json, then, behind a line `---`, the tensors of its
// adapter_model.safetensors, one a line: NAME DTYPE and the dimensions, for example
//   base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight F32 2 4
// and, behind ` = `, its first numbers, whole ones, if they are not to be zeros.
// Without a configuration the file stands alone, as those of Kohya's trainer do. A third part is
// the model: its type in the first line, then its tensors in the same way; else it is a fixed one.
// It opens, its updates hold together and are matched to a small model, or there is an error.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/refit.h"
#include "adapter/replication.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using thorns::TensorInfo;
using thorns::Update;
using thorns::UpdateKind;
using thorns::fuzz::require;

constexpr std::uint64_t kMostElements = 4096;  // of one tensor
constexpr std::size_t kMostTensors = 200;
constexpr unsigned int kMostValue = 100;

struct Line {
  TensorInfo tensor;
  std::vector<double> values;  // the first elements; the others are zeros
};

std::optional<Line> parse_line(const std::string& text) {
  std::istringstream words(text);
  std::string type;
  Line line;
  TensorInfo& tensor = line.tensor;
  words >> tensor.name >> type;
  const auto dtype = thorns::dtype_from_safetensors(type);
  if (!dtype) return std::nullopt;
  tensor.dtype = *dtype;
  tensor.elements = 1;
  std::string word;
  while (words >> word && word != "=") {
    const std::uint64_t dim = std::strtoull(word.c_str(), nullptr, 10);
    tensor.shape.push_back(dim);
    if (dim > kMostElements || tensor.elements * dim > kMostElements) return std::nullopt;
    tensor.elements *= dim;
  }
  for (unsigned int value = 0; line.values.size() < tensor.elements && words >> value;) {
    line.values.push_back(value % kMostValue);
  }
  return line;
}

// The tensors that the lines describe, by name; lines that describe none are left out.
std::map<std::string, Line> parse_lines(std::istream& lines) {
  std::map<std::string, Line> tensors;
  for (std::string text; std::getline(lines, text) && tensors.size() < kMostTensors;) {
    if (auto line = parse_line(text)) tensors.try_emplace(line->tensor.name, std::move(*line));
  }
  return tensors;
}

// A file of these tensors.
std::string weights(const std::string& list) {
  using Json = nlohmann::ordered_json;
  std::istringstream lines(list);
  Json header = Json::object();
  std::string bytes;
  for (const auto& [name, line] : parse_lines(lines)) {
    const TensorInfo& tensor = line.tensor;
    const std::size_t begin = bytes.size();
    bytes += thorns::test::encode(tensor.dtype, line.values);
    bytes.resize(begin + tensor.bytes());
    header[name] = {{"dtype", to_string(tensor.dtype)},
                    {"shape", tensor.shape},
                    {"data_offsets", {begin, bytes.size()}}};
  }
  return thorns::test::raw_safetensors(header.dump(-1, ' ', false, Json::error_handler_t::replace),
                                       bytes);
}

struct Model {
  std::string type;
  std::vector<TensorInfo> tensors;
};

// What most seeds belong to, with a GPT-2 to transpose for.
constexpr const char* kModel = R"(conv.weight F16 6 4 3
mha.in_proj_weight F16 12 4
mha.out_proj.weight F16 4 4
model.embed_tokens.weight F16 8 4
model.layers.0.mlp.down_proj.weight F16 4 6
model.layers.0.self_attn.q_proj.bias F16 4
model.layers.0.self_attn.q_proj.weight F16 4 4
model.layers.0.self_attn.v_proj.weight F16 2 4
model.layers.1.mlp.gate_up_proj.weight F16 6 4
model.layers.1.self_attn.qkv_proj.weight F16 8 4
model.norm.weight F16 4
transformer.h.0.attn.c_attn.weight F16 4 12
transformer.h.0.attn.c_proj.weight F16 4 4
)";

std::vector<TensorInfo> tensors_of(std::istream& lines) {
  std::vector<TensorInfo> tensors;
  for (auto& [name, line] : parse_lines(lines)) tensors.push_back(std::move(line.tensor));
  return tensors;
}

std::vector<Model> models(const std::string& part) {
  static const std::vector<Model> fixed = [] {
    std::istringstream lines(kModel);
    const std::vector<TensorInfo> tensors = tensors_of(lines);
    return std::vector<Model>{{"llama", tensors}, {"gpt2", tensors}};
  }();
  if (part.empty()) return fixed;
  std::istringstream lines(part);
  Model model;
  std::getline(lines, model.type);
  model.tensors = tensors_of(lines);
  return {model};
}

void check_update(const Update& update, std::span<const TensorInfo> tensors) {
  for (const std::size_t tensor : update.tensors()) require(tensor < tensors.size());
  require(std::isfinite(update.scale));
  require(update.rank > 0 || update.kind != UpdateKind::LowRank);
  for (const Update& part : update.parts) check_update(part, tensors);
  if (update.kind != UpdateKind::LowRank || update.change != nullptr) return;
  const auto& a = tensors[update.first].shape;
  const auto& b = tensors[update.second].shape;
  require(a.size() >= 2 && b.size() >= 2);
  require(a[0] == update.rank && b[1] == update.rank);
}

constexpr std::uint64_t kMostMemory = std::uint64_t{1} << 30;

// What the plan asks for before anything is loaded.
void check_needs(const thorns::Adapter& adapter, const thorns::Change& change,
                 const thorns::BaseTensor& base) {
  require(change.fits(base) && !change.expected().empty());
  require(change.memory(base) < kMostMemory);
  require(change.bytes(adapter.source(), base) < kMostMemory);
  if (const auto* map = dynamic_cast<const thorns::MapChange*>(&change)) {
    require(map->elementwise() || base.rows() % map->rows_together() == 0);
  }
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
  if (update.change != nullptr) check_needs(adapter, *update.change, base);
  const std::vector<double> before(base.elements(), 1.0);
  std::vector<double> after(base.elements());
  if (const auto* delta = dynamic_cast<const thorns::DeltaChange*>(update.change.get())) {
    delta->load(adapter.source(), base)->generate(0, after);
  } else if (const auto* map = dynamic_cast<const thorns::MapChange*>(update.change.get())) {
    map->load(adapter.source(), base)->apply(0, before, after);
  } else if (const auto* norm = dynamic_cast<const thorns::NormChange*>(update.change.get())) {
    const std::size_t lines = norm->by_column(base) ? base.columns() : base.rows();
    require(norm->load(adapter.source(), base).size() == lines);
  }
}

void check(std::unique_ptr<thorns::Adapter> adapter, std::size_t files,
           const std::vector<Model>& models) {
  require(!adapter->updates().empty() && adapter->files().size() == files);
  require(!adapter->family().empty());
  layer_replication(*adapter);
  const auto tensors = adapter->source().tensors();
  for (const Update& update : adapter->updates()) check_update(update, tensors);
  for (const Model& model : models) {
    const thorns::FoldTarget fold{model.tensors, model.type, "lm_head.weight"};
    recut(adapter, fold);
    for (const auto& resolved : resolve(*adapter, fold)) compute(*adapter, resolved);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = thorns::fuzz::split_parts(data, size, 3);
  thorns::MemoryDisk disk;
  const bool alone = parts[0].empty();
  if (!alone) disk.add_file("adapter/adapter_config.json", parts[0]);
  disk.add_file("adapter/adapter_model.safetensors", weights(parts[1]));
  try {
    check(open_adapter(disk, alone ? "adapter/adapter_model.safetensors" : "adapter"),
          alone ? 1 : 2, models(parts[2]));
  } catch (const thorns::Error& error) {
    require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
