// The journal of an unfinished output: what it is made from, and for every tensor that is written
// its facts and the SHA-256 of its shard up to its end. A run that was killed goes on after the
// last tensor whose bytes on the disk still have that hash, so nothing in the journal is taken on
// trust and nothing needs to be flushed while the merge runs.
//
// One JSON document a line. The first is the identity; doubles are stored as the bits they consist
// of, because a manifest is written from them and must come out the same to the last digit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

inline constexpr const char* kJournalFile = "journal";

// All that the bytes of the output depend on: version of the program, recipe, settings, every input
// file with size and time, layout. One line.
std::string journal_identity(Disk& disk, const Plan& plan, bool allow_nonfinite);

// What differs between the identity of an earlier run and ours, as a clause: "the recipe is
// another". Empty where they are the same.
std::string identity_difference(const std::string& before, const std::string& now);

struct JournalEntry {
  TensorFacts facts;
  std::string sha256;     // of the shard from its start to the end of this tensor
  std::uint64_t end = 0;  // where its line ends in the journal
};

std::string journal_line(const TensorFacts& facts, const std::string& sha256);

struct Journal {
  std::string identity;  // empty where there is no whole first line
  std::vector<JournalEntry> entries;
};
// Never throws: it ends before the first line that is torn, damaged or does not fit the plan.
Journal read_journal(std::string_view text, const Plan& plan);

// A journal of this plan is not longer, bytes.
std::uint64_t journal_bound(const Plan& plan, const std::string& identity);

}  // namespace thorns
