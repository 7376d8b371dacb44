// Any bytes as the journal of a small merge: what is read fits the plan, so that a manifest can be
// written from it, and printed again it reads as the same. The first two lines are also taken for
// what two runs depend on: equal ones do not differ, others do in something that has a name.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "output/journal.h"
#include "output/manifest.h"
#include "support/fuzz_parts.h"
#include "support/json_mutator.h"
#include "support/memory_disk.h"
#include "support/output_plan.h"

namespace {

using thorns::fuzz::require;

struct Journal {
  std::string identity;
  std::vector<thorns::JournalEntry> entries;
};

Journal read_journal(const std::string& text, const thorns::Plan& plan) {
  thorns::MemoryDisk disk;
  disk.add_file("journal", text);
  thorns::JournalReader reader(disk.open("journal"), plan);
  Journal journal{reader.identity(), {}};
  while (auto entry = reader.next()) journal.entries.push_back(std::move(*entry));
  require(!reader.next());
  return journal;
}

std::string journal_text(const Journal& journal) {
  std::string text = journal.identity + "\n";
  for (const thorns::JournalEntry& entry : journal.entries) {
    text += thorns::journal_line(entry.facts, entry.sha256);
  }
  return text;
}

// Its last tensor in two blocks, as where vocabularies differ.
thorns::Plan plan_in_blocks() {
  thorns::Plan plan = thorns::test::small_plan("/inputs");
  plan.programs.back().blocks = {{0, 4, true}, {4, 2, true}};
  return plan;
}

// What the merge of `plan` depends on, its folders being there.
std::string own_identity(const thorns::Plan& plan) {
  thorns::MemoryDisk disk;
  disk.add_model("/inputs/rose");
  disk.add_file("/inputs/rose/model.safetensors", "12");
  disk.add_file("/inputs/thorn/model.safetensors", "3");
  disk.add_adapter("/inputs/dew");
  return thorns::journal_identity(disk, plan, false);
}

void compare(const std::string& before, const std::string& now) {
  require(thorns::identity_difference(before, now).empty() == (before == now));
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned int seed) {
  return thorns::fuzz::mutate_documents(data, size, most, seed, "\n");
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const thorns::Plan plan = plan_in_blocks();
  static const std::string own = own_identity(plan);
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Journal journal = read_journal(text, plan);
  require(journal.entries.size() <= plan.programs.size());
  compare(journal.identity, own);
  const std::size_t second = std::min(journal.identity.size() + 1, size);
  compare(journal.identity, text.substr(second, text.find('\n', second) - second));
  thorns::ManifestWriter manifest(plan, [](std::string_view) {});
  for (std::size_t i = 0; i < journal.entries.size(); ++i) {
    require(journal.entries[i].end <= size);
    manifest.tensor(i, journal.entries[i].facts);
  }
  const std::string again = journal_text(journal);
  const Journal twice = read_journal(again, plan);
  require(twice.entries.size() == journal.entries.size());
  require(journal_text(twice) == again);
  return 0;
}
