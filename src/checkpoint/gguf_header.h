// The header of a GGUF file, the container of llama.cpp (versions 2 and 3, little endian). Private
// to this room.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "base/json.h"

namespace thorns {

struct GgufTensor {
  std::string name;                  // as the file has it: "blk.0.attn_q.weight"
  std::uint32_t type = 0;            // ggml's number
  std::vector<std::uint64_t> shape;  // row-major: the reverse of the file's order
  std::uint64_t elements = 0;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

// An array of the metadata. Its elements stay in the file until they are asked for.
struct GgufArray {
  std::uint32_t kind = 0;  // of its elements: ggml's number, no array
  std::uint64_t count = 0;
  std::uint64_t offset = 0;  // of the first element, from the start of the file
};

struct GgufHeader {
  std::map<std::string, Json> fields;       // numbers, truth values and texts
  std::map<std::string, GgufArray> arrays;  // and texts too long to keep, each an array of one
  std::vector<GgufTensor> tensors;          // in the file's order; names unique
};

// The header, checked against the size of the file: memory is never taken by a count that the file
// could not hold. Tensors may be of types that are not read. Throws Corrupt with the byte in the
// file, Unsupported for an unknown version or tensor type.
GgufHeader read_gguf_header(const ReadFile& file);

// The elements of an array, of any kind of number or of texts (bytes as they are); empty where it
// is of the other. Throws Corrupt for a text of more than 4 MB.
std::vector<std::string> read_texts(const ReadFile& file, const GgufArray& array);
std::vector<double> read_numbers(const ReadFile& file, const GgufArray& array);

// Whether a file that begins so is one.
bool is_gguf(std::string_view start);

}  // namespace thorns
