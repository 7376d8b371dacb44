// The strict JSON reader: any bytes give a value or a thorns::Error, and what was read prints to
// text that reads as the same value.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/json.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const thorns::Json value = thorns::parse_json(text, "fuzz.json");
    if (thorns::parse_json(value.dump(), "dump.json") != value) std::abort();
  } catch (const thorns::Error&) {
    // Refused, as it should be.
  }
  return 0;
}
