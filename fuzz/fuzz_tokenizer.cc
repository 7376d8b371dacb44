// What `thorns check` reads of two models besides their weights. The input's parts, behind lines
// `---`, are tokenizer.json, tokenizer_config.json, config.json and README.md of the first; the
// second is fixed. Findings come out, whatever the files hold: these files are read leniently.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/text.h"
#include "insight/findings.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/output_plan.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  const auto parts = thorns::fuzz::split_parts(data, size, 4);
  thorns::Plan plan = thorns::test::small_plan("/inputs");
  thorns::MemoryDisk disk;
  disk.add_file("/inputs/rose/tokenizer.json", parts[0]);
  disk.add_file("/inputs/rose/tokenizer_config.json", parts[1]);
  disk.add_file("/inputs/rose/README.md", parts[3]);
  disk.add_file("/inputs/thorn/tokenizer.json",
                R"({"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "<s>", "id": 1}]})");
  disk.add_file("/inputs/thorn/tokenizer_config.json",
                R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  disk.add_file("/inputs/thorn/README.md", "---\nlicense: mit\n---\n### Instruction\n");
  auto& rose = static_cast<thorns::test::FakeCheckpoint&>(*plan.leaves[0]);
  auto& thorn = static_cast<thorns::test::FakeCheckpoint&>(*plan.leaves[1]);
  rose.tokenizer_ = thorn.tokenizer_ = {"tokenizer.json", "tokenizer_config.json"};
  try {
    rose.config_ = thorns::parse_json(parts[2], "config.json");
  } catch (const thorns::Error&) {
    // The configuration stays what it was.
  }
  for (const thorns::Finding& finding : input_findings(disk, plan)) {
    require(!finding.code.empty() && !finding.message.empty() && !finding.advice.empty());
    require(finding.message.size() < 4096);
  }
  return 0;
}
