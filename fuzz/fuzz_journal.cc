// Any bytes as the journal of a small merge: what is read fits the plan, so that a manifest can be
// written from it, and printed again it reads as the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "output/journal.h"
#include "output/manifest.h"
#include "support/byte_disk.h"
#include "support/output_plan.h"

namespace {

struct Journal {
  std::string identity;
  std::vector<thorns::JournalEntry> entries;
};

Journal read_journal(const std::string& text, const thorns::Plan& plan) {
  thorns::test::ByteDisk disk;
  disk.files["journal"] = text;
  thorns::JournalReader reader(disk.open("journal"), plan);
  Journal journal{reader.identity(), {}};
  while (auto entry = reader.next()) journal.entries.push_back(std::move(*entry));
  if (reader.next()) std::abort();
  return journal;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const thorns::Plan plan = thorns::test::small_plan("/inputs");
  const std::string text(data, data + size);
  const Journal journal = read_journal(text, plan);
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
  const Journal twice = read_journal(again, plan);
  if (twice.entries.size() != journal.entries.size()) std::abort();
  std::string third = twice.identity + "\n";
  for (const thorns::JournalEntry& entry : twice.entries) {
    third += thorns::journal_line(entry.facts, entry.sha256);
  }
  if (third != again) std::abort();
  return 0;
}
