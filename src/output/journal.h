// The journal of an unfinished output: what it is made from, and for every tensor that is written
// its facts and the SHA-256 of its shard up to its end. A run that was killed goes on after the
// last tensor whose bytes on the disk still have that hash, so nothing in the journal is taken on
// trust and nothing needs to be flushed while the merge runs.
//
// One JSON document a line. The first is the identity; doubles are stored as the bits they consist
// of, because a manifest is written from them and must come out the same to the last digit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
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

// The journal that an interrupted run left, read entry by entry: what it holds does not grow with
// the number of tensors.
class JournalReader {
 public:
  // `plan` must outlive this. Throws what reading `file` throws.
  JournalReader(std::unique_ptr<ReadFile> file, const Plan& plan);
  // Empty where there is no whole first line.
  const std::string& identity() const { return identity_; }
  // The entry of the next program. None, for good, after the last line and from the first one on
  // that is torn, damaged or does not fit the plan. Throws what reading throws.
  std::optional<JournalEntry> next();

 private:
  std::optional<std::string> line();

  std::unique_ptr<ReadFile> file_;
  const Plan& plan_;
  std::string read_;       // and not yet handed out
  std::uint64_t end_ = 0;  // of what has been handed out
  std::string identity_;   // after those that reading it needs
  std::size_t program_ = 0;
  bool ended_ = false;
};

}  // namespace thorns
