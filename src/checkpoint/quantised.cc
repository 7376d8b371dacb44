#include "checkpoint/quantised.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "base/path_within.h"
#include "checkpoint/config.h"

namespace thorns {
namespace {

// Name endings of the tensors that a quantiser puts beside or in place of a weight. Each begins a
// path component; the first that matches names the method, so special ones stand before general.
struct Evidence {
  std::string_view ending;
  const char* method;
};
constexpr std::array<Evidence, 19> kEvidence = {{
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
    {"_weight.blocks", "MXFP4 (OpenAI's own layout)"},
}};

const char* method_of(const TensorInfo& tensor) {
  if (tensor.dtype == Dtype::F8E4M3 || tensor.dtype == Dtype::F8E5M2) return "FP8";
  if (tensor.dtype == Dtype::F8E8M0) return "a microscaling format";
  if (tensor.name.find(".quant_state.bitsandbytes__") != tensor.name.npos) {
    return "bitsandbytes (4-bit)";
  }
  for (const auto& [ending, method] : kEvidence) {
    if (tensor.name.ends_with(ending)) return method;
  }
  return nullptr;
}

bool flag(const Json& object, const char* name) {
  const auto field = object.find(name);
  return field != object.end() && field->is_boolean() && field->get<bool>();
}

std::string method_of(const Json& settings) {
  if (std::string method = text_field(settings, "quant_method"); !method.empty()) return method;
  // bitsandbytes wrote no quant_method at first.
  return flag(settings, "load_in_4bit") || flag(settings, "load_in_8bit") ? "bitsandbytes" : "";
}

std::optional<Quantisation> in_config(const Json& config, const std::string& file) {
  if (!config.is_object()) return std::nullopt;
  for (const char* name : {"quantization_config", "compression_config"}) {
    const auto found = config.find(name);
    if (found == config.end() || !found->is_object() || found->empty()) continue;
    return Quantisation{method_of(*found), *found, fmt::format("`{}` in its config.json", name),
                        file};
  }
  const auto text = config.find("text_config");
  if (text == config.end() || !text->is_object() || text->contains("text_config")) {
    return std::nullopt;
  }
  return in_config(*text, file);
}

// What tools write beside config.json, or wrote before it had a place for this.
struct OwnFile {
  const char* name;
  const char* method;
};
constexpr std::array<OwnFile, 3> kOwnFiles = {{
    {"hf_quant_config.json", "modelopt"},
    {"quantize_config.json", "gptq"},
    {"quant_config.json", "awq"},
}};

}  // namespace

std::optional<Quantisation> find_quantisation(Disk& disk, const std::string& folder,
                                              const Json& config) {
  if (auto found = in_config(config, join_path(folder, "config.json"))) return found;
  for (const auto& [name, method] : kOwnFiles) {
    const std::string file = path_within(disk, folder, name);
    if (!disk.exists(file)) continue;
    Json settings = read_json_file(disk, file);
    if (!settings.is_object()) settings = Json::object();
    // ModelOpt's file has more to tell than this.
    if (const auto inner = settings.find("quantization"); inner != settings.end()) {
      settings = Json(*inner);
    }
    return Quantisation{method, std::move(settings), fmt::format("its {}", name), file};
  }
  return std::nullopt;
}

void refuse_quantised(const std::string& path, const std::string& method,
                      const std::string& evidence, Where where) {
  throw Error(ErrorCode::Unsupported,
              fmt::format("`{}` is quantised with {} ({}), which cannot be merged yet", path,
                          method, evidence),
              std::move(where), "merge the original 16-bit checkpoint instead");
}

void refuse_quantised(const Quantisation& how, const std::string& path) {
  std::string method =
      how.method.empty() ? "a method that its config.json does not name" : how.method;
  for (const char* variant : {"quant_algo", "format"}) {
    if (const std::string text = text_field(how.settings, variant); !text.empty()) {
      method += " " + text;
    }
  }
  refuse_quantised(path, method, how.evidence, FilePlace{how.file});
}

void refuse_quantised_tensors(const TensorSource& source, const std::string& path) {
  const auto tensors = source.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const char* method = method_of(tensors[i]);
    if (method == nullptr) continue;
    refuse_quantised(
        path, method,
        fmt::format("tensor `{}` of type {}", tensors[i].name, to_string(tensors[i].dtype)),
        TensorPlace{tensors[i].name, std::nullopt, source.file_of(i)});
  }
}

}  // namespace thorns
