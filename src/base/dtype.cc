#include "thorns/dtype.h"

#include <array>

namespace thorns {
namespace {

struct Row {
  Dtype dtype;
  const char* name;
  const char* torch;
  std::size_t size;
  int rank;  // position in the reference reader's enumeration
};

constexpr std::array<Row, 16> kRows = {{
    {Dtype::Bool, "BOOL", "bool", 1, 0},
    {Dtype::U8, "U8", "uint8", 1, 4},
    {Dtype::I8, "I8", "int8", 1, 5},
    {Dtype::F8E5M2, "F8_E5M2", "float8_e5m2", 1, 6},
    {Dtype::F8E4M3, "F8_E4M3", "float8_e4m3fn", 1, 7},
    {Dtype::F8E8M0, "F8_E8M0", "float8_e8m0fnu", 1, 8},
    {Dtype::I16, "I16", "int16", 2, 11},
    {Dtype::U16, "U16", "uint16", 2, 12},
    {Dtype::F16, "F16", "float16", 2, 13},
    {Dtype::BF16, "BF16", "bfloat16", 2, 14},
    {Dtype::I32, "I32", "int32", 4, 15},
    {Dtype::U32, "U32", "uint32", 4, 16},
    {Dtype::F32, "F32", "float32", 4, 17},
    {Dtype::F64, "F64", "float64", 8, 19},
    {Dtype::I64, "I64", "int64", 8, 20},
    {Dtype::U64, "U64", "uint64", 8, 21},
}};

const Row& row(Dtype dtype) {
  for (const Row& candidate : kRows) {
    if (candidate.dtype == dtype) return candidate;
  }
  return kRows[0];
}

}  // namespace

const char* to_string(Dtype dtype) { return row(dtype).name; }
const char* torch_name(Dtype dtype) { return row(dtype).torch; }
std::size_t size_of(Dtype dtype) { return row(dtype).size; }
int layout_rank(Dtype dtype) { return row(dtype).rank; }

std::optional<Dtype> dtype_from_safetensors(std::string_view name) {
  for (const Row& candidate : kRows) {
    if (name == candidate.name) return candidate.dtype;
  }
  return std::nullopt;
}

std::optional<Dtype> output_dtype(std::string_view torch_name) {
  for (const Dtype dtype : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
    if (torch_name == row(dtype).torch) return dtype;
  }
  return std::nullopt;
}

bool is_blendable(Dtype dtype) {
  return dtype == Dtype::F64 || dtype == Dtype::F32 || dtype == Dtype::F16 || dtype == Dtype::BF16;
}

}  // namespace thorns
