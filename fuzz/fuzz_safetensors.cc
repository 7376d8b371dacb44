// Any bytes as a safetensors file: a header whose tensors fill the file without overlap, or an
// error that names a place in it. The same bytes are read again with the header's length mended,
// so that a change within the header need not hit upon the right length as well.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "checkpoint/safetensors.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

void check(const thorns::SafetensorsHeader& header, std::uint64_t size) {
  require(header.data_begin >= 8 && header.data_begin <= size);
  std::uint64_t at = header.data_begin;
  std::set<std::string_view> names;
  for (const thorns::StoredTensor& entry : header.entries) {
    const thorns::TensorInfo& info = entry.info;
    require(names.insert(info.name).second);
    require(info.elements <= size && info.bytes() <= size);
    const bool empty = std::find(info.shape.begin(), info.shape.end(), 0) != info.shape.end();
    std::uint64_t elements = empty ? 0 : 1;
    for (const std::uint64_t dim : info.shape) elements *= dim;
    require(info.elements == elements);
    require(entry.offset == at);
    at += info.bytes();
  }
  require(at == size);
}

void read(const std::string& bytes) {
  thorns::MemoryDisk disk;
  disk.add_file("fuzz.safetensors", bytes);
  try {
    check(read_safetensors_header(*disk.open("fuzz.safetensors")), bytes.size());
  } catch (const thorns::Error& error) {
    thorns::fuzz::require_placed(error, bytes.size());
    to_string(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  read(bytes);
  const std::size_t brace = bytes.rfind('}');
  if (brace == std::string::npos || brace < 8) return 0;
  // Writers fill the header up with spaces.
  const std::size_t end = std::min(bytes.find_first_not_of(' ', brace + 1), size);
  const std::string_view text = bytes;
  read(thorns::test::raw_safetensors(text.substr(8, end - 8), text.substr(end)));
  return 0;
}
