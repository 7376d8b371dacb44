// Element types of tensors, named as the safetensors format names them.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace thorns {

enum class Dtype {
  Bool,
  U8,
  I8,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  F64,
  I64,
  U64,
  F8E4M3,
  F8E5M2,
  F8E8M0  // a power of two: the scale of a block
};

// "BF16", "F32", "F8_E4M3", ...: the spelling of safetensors headers.
const char* to_string(Dtype dtype);
std::optional<Dtype> dtype_from_safetensors(std::string_view name);

// "bfloat16", "float32", ...: the spelling of config.json and of --dtype.
const char* torch_name(Dtype dtype);
// Only float32, float16 and bfloat16: the types thorns writes.
std::optional<Dtype> output_dtype(std::string_view torch_name);

std::size_t size_of(Dtype dtype);  // bytes of one element
bool is_blendable(Dtype dtype);    // F64, F32, F16, BF16: types the engine does arithmetic on
// Rank in the reference writer's order; tensors of a file are laid out by this, descending.
int layout_rank(Dtype dtype);

}  // namespace thorns
