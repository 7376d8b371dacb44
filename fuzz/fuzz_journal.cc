// Any bytes as the journal of a small merge: what is read fits the plan, so that a manifest can be
// written from it, and printed again it reads as the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "output/journal.h"
#include "output/manifest.h"
#include "support/output_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const thorns::Plan plan = thorns::test::small_plan("/inputs");
  const std::string text(data, data + size);
  const thorns::Journal journal = thorns::read_journal(text, plan);
  if (journal.entries.size() > plan.programs.size()) std::abort();
  thorns::identity_difference(journal.identity, "{\"schema\": \"thorns/journal/1\"}");
  std::string again = journal.identity + "\n";
  thorns::ManifestWriter manifest(plan, [](std::string_view) {});
  for (std::size_t i = 0; i < journal.entries.size(); ++i) {
    const thorns::JournalEntry& entry = journal.entries[i];
    if (entry.end > size) std::abort();
    manifest.tensor(i, entry.facts);
    again += thorns::journal_line(entry.facts, entry.sha256);
  }
  const thorns::Journal twice = thorns::read_journal(again, plan);
  if (twice.entries.size() != journal.entries.size()) std::abort();
  std::string third = twice.identity + "\n";
  for (const thorns::JournalEntry& entry : twice.entries) {
    third += thorns::journal_line(entry.facts, entry.sha256);
  }
  if (third != again) std::abort();
  return 0;
}
