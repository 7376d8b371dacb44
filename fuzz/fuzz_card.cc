// Any bytes as a model card: a license of bounded length, or none. Cards are read leniently, so
// nothing is thrown.
#include <cstddef>
#include <cstdint>
#include <string>

#include "output/card_license.h"
#include "support/fuzz_parts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  constexpr std::size_t kLongest = 256;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto license = thorns::license_in_card(text);
  if (!license) return 0;
  require(text.starts_with("---"));
  require(!license->id.empty() && license->id.size() <= kLongest);
  require(license->name.size() <= kLongest && license->link.size() <= kLongest);
  require(license->id == "other" ? !license->name.empty()
                                 : license->name.empty() && license->link.empty());
  return 0;
}
