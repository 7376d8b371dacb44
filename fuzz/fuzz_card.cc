// Any bytes as a model card: a license of bounded length, or none. Cards are read leniently, so
// nothing is thrown. Models and adapters that all have this card give the result its license,
// unless the recipe states one.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "output/card_license.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/output_plan.h"

namespace {

using thorns::License;
using thorns::fuzz::require;

std::optional<License> license_of_result(const std::string& card, const std::string& stated) {
  static thorns::Plan plan = thorns::test::small_plan("/inputs");
  plan.recipe.settings.license = stated;
  thorns::MemoryDisk disk;
  for (const char* input : {"rose", "thorn", "dew"}) {
    disk.add_file(std::string("/inputs/") + input + "/README.md", card);
  }
  return read_licenses(disk, plan).output;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kLongest = 256;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto license = thorns::license_in_card(text);
  require(license_of_result(text, "") == license);
  require(license_of_result(text, "mit")->id == "mit");
  if (!license) return 0;
  require(text.starts_with("---"));
  require(!license->id.empty() && license->id.size() <= kLongest);
  require(license->name.size() <= kLongest && license->link.size() <= kLongest);
  require(license->id == "other" ? !license->name.empty()
                                 : license->name.empty() && license->link.empty());
  return 0;
}
