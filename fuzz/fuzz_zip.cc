// Any bytes as a zip archive: records that lie in the file one behind the other, or an error with
// a place in it.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "checkpoint/zip_archive.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/pickle_mutator.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  thorns::MemoryDisk disk;
  disk.add_file("m.zip", std::string(reinterpret_cast<const char*>(data), size));
  try {
    auto records = thorns::read_zip_records(*disk.open("m.zip"));
    std::sort(records.begin(), records.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::uint64_t end = 0;
    std::set<std::string> names;
    for (const thorns::ZipRecord& record : records) {
      require(record.begin >= end && record.begin <= size && record.size <= size - record.begin);
      require(names.insert(record.name).second && record.name.front() != '/');
      require(("/" + record.name + "/").find("/../") == std::string::npos);
      end = record.end();
    }
  } catch (const thorns::Error& error) {
    thorns::fuzz::require_placed(error, size);
    to_string(error);
  }
  return 0;
}

namespace {

struct ZipField {
  std::size_t at;
  std::size_t bytes;
};
struct ZipStructure {
  std::string_view signature;
  std::vector<ZipField> fields;
};

// The numbers of all structures but dates and checksums.
const std::array<ZipStructure, 5>& zip_structures() {
  static const std::array<ZipStructure, 5> structures = {{
      {"PK\x03\x04", {{6, 2}, {8, 2}, {18, 4}, {22, 4}, {26, 2}, {28, 2}}},
      {"PK\x01\x02",
       {{8, 2}, {10, 2}, {20, 4}, {24, 4}, {28, 2}, {30, 2}, {32, 2}, {34, 2}, {42, 4}}},
      {"PK\x05\x06", {{4, 2}, {6, 2}, {8, 2}, {10, 2}, {12, 4}, {16, 4}, {20, 2}}},
      {"PK\x06\x06", {{4, 8}, {16, 4}, {20, 4}, {24, 8}, {32, 8}, {40, 8}, {48, 8}}},
      {"PK\x06\x07", {{4, 4}, {8, 8}, {16, 4}}},
  }};
  return structures;
}

}  // namespace

// Sets one number of one structure to a value that may matter: a place of another structure, the
// size of the file, a limit, a neighbour of the old value.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace thorns::fuzz;
  Random random(seed);
  std::string bytes(reinterpret_cast<const char*>(data), size);
  std::vector<std::pair<std::size_t, const ZipStructure*>> found;
  for (const ZipStructure& structure : zip_structures()) {
    for (std::size_t at = bytes.find(structure.signature); at != bytes.npos;
         at = bytes.find(structure.signature, at + 1)) {
      found.emplace_back(at, &structure);
    }
  }
  if (found.empty() || below(random, 4) == 0) return LLVMFuzzerMutate(data, size, most);
  for (std::size_t changes = 1 + below(random, 2); changes > 0; --changes) {
    const auto& [at, structure] = found[below(random, found.size())];
    const ZipField field = structure->fields[below(random, structure->fields.size())];
    if (at + field.at + field.bytes > bytes.size()) continue;
    std::uint64_t old = 0;
    for (std::size_t i = field.bytes; i-- > 0;) {
      old = old << 8 | static_cast<unsigned char>(bytes[at + field.at + i]);
    }
    const std::array<std::uint64_t, 8> values = {0,
                                                 1,
                                                 old + 1,
                                                 old - 1,
                                                 ~std::uint64_t{0},
                                                 bytes.size(),
                                                 found[below(random, found.size())].first,
                                                 std::uint64_t{1} << below(random, 64)};
    std::uint64_t value = values[below(random, values.size())];
    for (std::size_t i = 0; i < field.bytes; ++i, value >>= 8) {
      bytes[at + field.at + i] = static_cast<char>(value & 0xFF);
    }
  }
  return give(bytes, data, most);
}
