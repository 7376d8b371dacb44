// The unfinished output: a hidden folder beside the target, held by one run at a time, that becomes
// the target in one rename or vanishes.
//
// For the target `parent/NAME` it keeps
//   parent/.NAME.thorns-partial/lock     held while a run lives
//   parent/.NAME.thorns-partial/journal  what is written so far (journal.h)
//   parent/.NAME.thorns-partial/model/   the folder in the making
//   parent/.NAME.thorns-old/             the folder being replaced, where two cannot be exchanged
#pragma once

#include <memory>
#include <string>

#include "base/disk.h"

namespace thorns {

struct OutputPath {
  std::string target;  // as given, without trailing slashes
  std::string name;    // its last component
  std::string parent;
  std::string staging;
  std::string aside;
};

// Throws BadUsage for an empty path, for one that ends in `.`, `..` or `/`, and for one that is
// called like the two above; touches no file.
OutputPath output_path(const std::string& folder);

// Throws NotFound where the parent is missing or no folder; Exists where the target is taken:
// always without `force`, and with it where the target is no model folder.
void refuse_taken(Disk& disk, const OutputPath& path, bool force);

class Staging {
 public:
  // Takes the staging folder, and with it what an interrupted run left. Throws Exists where another
  // run holds it.
  Staging(Disk& disk, OutputPath path);
  // Removes the staging folder unless it has been published or is to be kept.
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Puts right what a run left that was killed while it replaced a folder: the old folder goes back
  // where there is no new one, and is removed where there is.
  void recover();
  // Whether an interrupted run left something to go on with: a journal and a folder.
  bool has_leftover() const { return leftover_; }
  // Removes what an interrupted run left.
  void discard();
  // Whether the staging folder outlives this, for the next run to go on with. At first only what an
  // interrupted run left does.
  void keep(bool kept) { keep_ = kept; }
  std::string journal() const;
  // The folder in the making, made by the first call.
  const std::string& model_folder();
  // Renames the finished folder to the target. With `force` it changes places with a model folder
  // that is there, in one step where the file system can, else in two; the old one is removed last.
  // When this throws, the target is what it was before; only when nothing but the removal of the
  // old folder failed, or the disk refuses the way back too, it is not, and the message says so.
  // Files must have been flushed; folders are flushed here.
  void publish(bool force);

  const OutputPath& path() const { return path_; }

 private:
  bool exchange_with_old();
  void rename_into_place(bool replaces);
  void restore_old();

  Disk& disk_;
  OutputPath path_;
  std::unique_ptr<FileLock> lock_;
  std::string model_;
  bool made_model_ = false;
  bool leftover_ = false;
  bool keep_ = false;
  bool published_ = false;
};

// Throws Exists where a running merge holds the staging folder of `path`. Changes nothing.
void refuse_busy(Disk& disk, const OutputPath& path);

}  // namespace thorns
