// Recognises quantised checkpoints, by their configuration and by their tensors, so that they can
// be refused by name. Private to this room.
#pragma once

#include <string>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/source.h"

namespace thorns {

// The three checks throw Unsupported naming the method and the evidence; `path` is the checkpoint.

// config.json: `quantization_config` (or `compression_config`), at the top or in `text_config`.
void refuse_quantised_config(const Json& config, const std::string& path);
// hf_quant_config.json in `folder`, where there is one.
void refuse_modelopt(Disk& disk, const std::string& folder);
// Tensor names and types that only quantised checkpoints have.
void refuse_quantised_tensors(const TensorSource& source, const std::string& path);

}  // namespace thorns
