// Writes the finished checkpoint: a staging folder beside the target, shards streamed in layout
// order, then index, config, tokenizer, model card and manifest, and one rename at the end.
//
// Until `publish` returns, the target does not exist (or is the old one, with force). Destroying an
// unpublished writer removes the staging folder, unless `keep` was called. A staging folder that is
// found is gone on with where its journal is of the same merge: the bytes that are there are read
// again and hashed, and the first tensor that is not as it was written is the first to be made.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/disk.h"
#include "output/model_card.h"
#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

struct WrittenFile {
  std::string name;
  std::uint64_t size = 0;
  std::string sha256;
};

struct OutputOptions {
  std::string folder;
  bool force = false;
  bool allow_nonfinite = false;  // as the engine has it; a run goes on only with the same
  CardOptions card = {};
  // Called by `create` for every tensor that an interrupted run has written, in order.
  std::function<void(std::size_t program, const TensorFacts&)> on_kept = {};
};

class CheckpointWriter : public Sink {
 public:
  // Throws Exists (no force), NoSpace, Io; all before any tensor is computed.
  static std::unique_ptr<CheckpointWriter> create(Disk& disk, const Plan& plan,
                                                  const OutputOptions& options);
  // How many tensors an interrupted run has written: the first to come is the one after them.
  virtual std::size_t kept() const = 0;
  // Why what an interrupted run left could not be used, as a clause; empty where it was, or where
  // nothing was left.
  virtual const std::string& why_anew() const = 0;
  // Leaves what is written for the next run, where that is a tensor at least.
  virtual void keep() = 0;
  // Writes everything that is not a tensor, flushes, and renames. After the last `finished`.
  virtual std::vector<WrittenFile> publish() = 0;
  virtual std::uint64_t bytes_written() const = 0;
};

// Refuses an output folder that exists, whose parent is missing or not writable; NoSpace where the
// disk cannot hold the plan. Nothing is left behind. `plan` calls it too.
void check_output(Disk& disk, const Plan& plan, const OutputOptions& options);

// Bytes that the finished folder will take: all files, each in whole blocks of 4 KiB. Exact but for
// the manifest, whose upper bound is taken. Needs the disk for the sizes of the tokenizer files.
std::uint64_t output_size(Disk& disk, const Plan& plan, const CardOptions& card = {});

}  // namespace thorns
