// What `thorns check` reads of two models and an adapter besides their weights. The input's parts,
// behind lines `---`, are tokenizer.json, tokenizer_config.json and config.json of the first model,
// the base that the adapter names, and the first model's README.md; the second is fixed. Findings
// come out, whatever the files hold: these files are read leniently.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "insight/findings.h"
#include "support/fuzz_parts.h"
#include "support/json_mutator.h"
#include "support/memory_disk.h"
#include "support/output_plan.h"
#include "thorns/error.h"

namespace {

// A second adapter that no node of the recipe folds, with the tensor of the first.
void add_copy_of_adapter(thorns::Plan& plan) {
  plan.recipe.adapters.push_back(plan.recipe.adapters[0]);
  plan.adapters.push_back(std::make_unique<thorns::test::FakeAdapter>());
  for (const auto& adapter : plan.adapters) {
    static_cast<thorns::test::FakeAdapter&>(*adapter).source_.tensors_ = {
        thorns::test::info("q.lora_A.weight", thorns::Dtype::F16, {2, 4})};
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  return thorns::fuzz::mutate_documents(data, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  const auto parts = thorns::fuzz::split_parts(data, size, 5);
  thorns::Plan plan = thorns::test::small_plan("/inputs");
  thorns::MemoryDisk disk;
  disk.add_file("/inputs/rose/tokenizer.json", parts[0]);
  disk.add_file("/inputs/rose/tokenizer_config.json", parts[1]);
  disk.add_file("/inputs/rose/README.md", parts[4]);
  disk.add_file("/inputs/thorn/tokenizer.json",
                R"({"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "<s>", "id": 1}]})");
  disk.add_file("/inputs/thorn/tokenizer_config.json",
                R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  disk.add_file("/inputs/thorn/README.md", "---\nlicense: mit\n---\n### Instruction\n");
  auto& rose = static_cast<thorns::test::FakeCheckpoint&>(*plan.leaves[0]);
  auto& thorn = static_cast<thorns::test::FakeCheckpoint&>(*plan.leaves[1]);
  rose.tokenizer_ = thorn.tokenizer_ = {"tokenizer.json", "tokenizer_config.json"};
  static_cast<thorns::test::FakeAdapter&>(*plan.adapters[0]).base_model_ = parts[3];
  add_copy_of_adapter(plan);
  try {
    rose.config_ = thorns::parse_json(parts[2], "config.json");
  } catch (const thorns::Error&) {
    // The configuration stays what it was.
  }
  for (const thorns::Finding& finding : input_findings(disk, plan)) {
    require(!finding.code.empty() && !finding.message.empty() && !finding.advice.empty());
    require(finding.message.size() < 4096);
  }
  require(same_adapters(plan) == std::vector<std::size_t>{0, 0});
  return 0;
}
