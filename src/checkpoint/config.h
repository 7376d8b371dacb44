// The small JSON files of a model folder. Private to this room and to adapter/.
#pragma once

#include <string>

#include "base/disk.h"
#include "base/json.h"
#include "thorns/dtype.h"

namespace thorns {

// Parses a small JSON file. Corrupt for broken JSON, one of more than 4 MB, or a Git-LFS pointer.
Json read_json_file(Disk& disk, const std::string& path);

// The text in a field of `object`; empty where there is none, or `object` is none.
std::string text_field(const Json& object, const char* name);

// The first of `architectures`; empty where there is none.
std::string architecture_in(const Json& config);

// The 16-bit type that the model of this config.json computes in (`torch_dtype` or `dtype`, at the
// top or in `text_config`); bfloat16 where it names none.
Dtype compute_dtype(const Json& config);

}  // namespace thorns
