// Any bytes as a PyTorch file: tensors that hold together and can be read in pieces, or an error
// with a place in the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "checkpoint/checkpoint.h"
#include "checkpoint/zip_archive.h"
#include "support/byte_disk.h"
#include "support/fuzz_parts.h"
#include "support/pickle_mutator.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

constexpr std::uint64_t kMostBytes = 1 << 16;  // bytes of a tensor; expanded ones may be huge

std::string read(const thorns::TensorSource& source, std::size_t tensor, std::uint64_t first,
                 std::uint64_t count) {
  std::string bytes(count * size_of(source.tensors()[tensor].dtype), '\0');
  source.will_need(tensor, first, count);
  source.read(tensor, first, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

void check_readable(const thorns::TensorSource& source, std::size_t tensor) {
  const thorns::TensorInfo& info = source.tensors()[tensor];
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : info.shape) elements *= dim;
  require(elements == info.elements);
  const std::uint64_t count = std::min(elements, kMostBytes / size_of(info.dtype));
  const std::uint64_t third = count / 3;
  // The beginning at once and in two pieces, and the end.
  require(read(source, tensor, 0, count) ==
          read(source, tensor, 0, third) + read(source, tensor, third, count - third));
  read(source, tensor, elements - count, count);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thorns::test::ByteDisk disk;
  disk.files["m.bin"] = std::string(reinterpret_cast<const char*>(data), size);
  try {
    const auto checkpoint = thorns::open_checkpoint(disk, "m.bin");
    const auto tensors = checkpoint->tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      require(i == 0 || tensors[i - 1].name < tensors[i].name);
      check_readable(*checkpoint, i);
    }
  } catch (const thorns::Error& error) {
    require(error.code() == thorns::ErrorCode::Corrupt ||
            error.code() == thorns::ErrorCode::Unsupported);
    const auto* place = std::get_if<thorns::FilePlace>(&error.where());
    require(place == nullptr || place->offset.value_or(0) <= size);
    to_string(error);
  }
  return 0;
}

// Changes the pickle of an archive, or another record, and packs it up again.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace thorns::fuzz;
  Random random(seed);
  if (below(random, 4) == 0) return LLVMFuzzerMutate(data, size, most);
  thorns::test::ByteDisk disk;
  std::string& bytes = disk.files["m.bin"];
  bytes.assign(reinterpret_cast<const char*>(data), size);
  if (!bytes.starts_with("PK")) return give(mutated_pickle(bytes, random), data, most);
  std::vector<thorns::test::ZipPart> parts;
  try {
    for (const auto& record : thorns::read_zip_records(*disk.open("m.bin"))) {
      parts.push_back({record.name, bytes.substr(record.begin, record.size)});
    }
  } catch (const thorns::Error&) {
    return LLVMFuzzerMutate(data, size, most);
  }
  if (parts.empty()) return LLVMFuzzerMutate(data, size, most);
  std::string& part = parts[below(random, 2) == 0 ? 0 : below(random, parts.size())].bytes;
  part = part.starts_with('\x80') ? mutated_pickle(part, random)
                                  : mutated_bytes(part, part.size() + 8);
  return give(thorns::test::zip_of(parts), data, most);
}
