// Any bytes as a manifest, and the page about it: whatever its names are, it has the one script and
// the one style that are ours, and no control characters.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "report/anatomy.h"
#include "support/fuzz_parts.h"
#include "support/json_mutator.h"
#include "thorns/error.h"
#include "thorns/report.h"

namespace {

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  return thorns::fuzz::mutate_documents(data, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const thorns::Report report =
        thorns::anatomy(thorns::parse_manifest(text, "thorns.json"), text);
    for (const thorns::ReportNode& node : report.nodes) {
      require(!node.share || *node.share >= 0);
    }
    const std::string page = thorns::to_html(report);
    for (const char* ours : {"<script", "</script", "<style", "</style"}) {
      require(count_of(page, ours) == 1);
    }
    require(std::none_of(page.begin(), page.end(), [](char c) {
      return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F;
    }));
    require(!thorns::to_json(report).empty());
  } catch (const thorns::Error&) {
    return 0;
  }
  return 0;
}
