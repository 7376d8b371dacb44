#include "checkpoint/quantised.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "checkpoint/config.h"
#include "thorns/error.h"

namespace thorns {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& method,
                         const std::string& evidence, Where where) {
  throw Error(ErrorCode::Unsupported,
              fmt::format("`{}` is quantised with {} ({}), which cannot be merged yet", path,
                          method, evidence),
              std::move(where), "merge the original 16-bit checkpoint instead");
}

// Name endings of the tensors that a quantiser puts beside or in place of a weight. Each begins a
// path component; the first that matches names the method, so special ones stand before general.
struct Evidence {
  std::string_view ending;
  const char* method;
};
constexpr std::array<Evidence, 18> kEvidence = {{
    {".qweight", "GPTQ or AWQ"},
    {".qzeros", "GPTQ or AWQ"},
    {".SCB", "bitsandbytes (8-bit)"},
    {".absmax", "bitsandbytes (4-bit)"},
    {".quant_map", "bitsandbytes (4-bit)"},
    {".weight_scale_inv", "block-wise FP8"},
    {".weight_scale_2", "ModelOpt NVFP4"},
    {".weight_global_scale", "compressed-tensors FP4"},
    {".weight_packed", "compressed-tensors"},
    {".weight_zero_point", "compressed-tensors"},
    {".weight_scale", "FP8 or another scaled format"},
    {".qscale_weight", "FP8 (Mistral's own layout)"},
    {".qscale_act", "FP8 (Mistral's own layout)"},
    {".W_q", "HQQ"},
    {".weight._data", "quanto"},
    {".input_scale", "FP8 or another scaled format"},
    {".gate_up_proj_blocks", "MXFP4"},
    {".down_proj_blocks", "MXFP4"},
}};

const char* method_of(const TensorInfo& tensor) {
  if (tensor.dtype == Dtype::F8E4M3 || tensor.dtype == Dtype::F8E5M2) return "FP8";
  if (tensor.name.find(".quant_state.bitsandbytes__") != tensor.name.npos) {
    return "bitsandbytes (4-bit)";
  }
  for (const auto& [ending, method] : kEvidence) {
    if (tensor.name.ends_with(ending)) return method;
  }
  return nullptr;
}

std::string text_field(const Json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

bool flag(const Json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_boolean() && field->get<bool>();
}

std::string method_of(const Json& quantisation) {
  if (std::string method = text_field(quantisation, "quant_method"); !method.empty()) {
    return method;
  }
  // bitsandbytes wrote no quant_method at first.
  if (flag(quantisation, "load_in_4bit")) return "bitsandbytes (4-bit)";
  if (flag(quantisation, "load_in_8bit")) return "bitsandbytes (8-bit)";
  return "a method that its config.json does not name";
}

}  // namespace

void refuse_quantised_config(const Json& config, const std::string& path) {
  if (!config.is_object()) return;
  for (const char* name : {"quantization_config", "compression_config"}) {
    const auto found = config.find(name);
    if (found == config.end() || !found->is_object() || found->empty()) continue;
    const std::string file = join_path(path, "config.json");
    refuse(path, method_of(*found), fmt::format("`{}` in its config.json", name), FilePlace{file});
  }
  const auto text = config.find("text_config");
  if (text != config.end() && text->is_object() && !text->contains("text_config")) {
    refuse_quantised_config(*text, path);
  }
}

void refuse_modelopt(Disk& disk, const std::string& folder) {
  const std::string file = join_path(folder, "hf_quant_config.json");
  if (!disk.exists(file)) return;
  const Json config = read_json_file(disk, file);
  std::string algorithm;
  if (config.is_object()) {
    const auto section = config.find("quantization");
    if (section != config.end() && section->is_object()) {
      algorithm = text_field(*section, "quant_algo");
    }
  }
  refuse(folder, algorithm.empty() ? "ModelOpt" : "ModelOpt " + algorithm,
         "its hf_quant_config.json", FilePlace{file});
}

void refuse_quantised_tensors(const TensorSource& source, const std::string& path) {
  const auto tensors = source.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const char* method = method_of(tensors[i]);
    if (method == nullptr) continue;
    refuse(path, method,
           fmt::format("tensor `{}` of type {}", tensors[i].name, to_string(tensors[i].dtype)),
           TensorPlace{tensors[i].name, std::nullopt, source.file_of(i)});
  }
}

}  // namespace thorns
