// Any bytes as a key map, none for one that is not there: rules with names that differ, or an
// error.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "recipe/key_map_file.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  thorns::MemoryDisk disk;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (!text.empty()) disk.add_file("names.yaml", text);
  try {
    std::set<std::string> seen;
    for (const thorns::KeyRule& rule : thorns::read_key_map(disk, "names.yaml")) {
      thorns::fuzz::require(seen.insert(rule.from).second);
    }
    thorns::fuzz::require(!seen.empty());
  } catch (const thorns::Error& error) {
    thorns::fuzz::require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
