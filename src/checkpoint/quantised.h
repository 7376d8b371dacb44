// Recognises quantised checkpoints: what their configuration says of them, and tensors that only
// they have. Private to this room.
#pragma once

#include <optional>
#include <string>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/source.h"
#include "thorns/error.h"

namespace thorns {

// A configuration that says: these weights are quantised.
struct Quantisation {
  std::string method;    // "fp8", "gptq", ...; empty where the configuration names none
  Json settings;         // an object
  std::string evidence;  // "`quantization_config` in its config.json"
  std::string file;      // that says so
};

// Looks in config.json (`quantization_config` or `compression_config`, at the top or in
// `text_config`), then for the files of older tools: hf_quant_config.json (ModelOpt),
// quantize_config.json (GPTQ), quant_config.json (AWQ). nullopt where none says anything.
std::optional<Quantisation> find_quantisation(Disk& disk, const std::string& folder,
                                              const Json& config);

// Throws Unsupported: "`path` is quantised with `method` (`evidence`), ...".
[[noreturn]] void refuse_quantised(const std::string& path, const std::string& method,
                                   const std::string& evidence, Where where);
// The same for a checkpoint that its configuration gives away.
[[noreturn]] void refuse_quantised(const Quantisation& how, const std::string& path);

// Throws Unsupported, naming method and tensor, where a tensor's name or type is one that only
// quantised checkpoints have. `path` is the checkpoint.
void refuse_quantised_tensors(const TensorSource& source, const std::string& path);

}  // namespace thorns
