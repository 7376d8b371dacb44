#include "output/staging.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/disk_resume.h"
#include "output/journal.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// How often another run may take or give up the staging folder under our hands before we give in.
constexpr int kAttempts = 16;

constexpr const char* kStagingEnding = ".thorns-partial";
constexpr const char* kAsideEnding = ".thorns-old";

[[noreturn]] void fail_busy(const OutputPath& path) {
  throw Error(ErrorCode::Exists,
              fmt::format("another run of thorns is writing `{}`: it holds `{}`", path.target,
                          path.staging),
              FilePlace{path.target}, "wait until it is done, or choose another output folder");
}

void remove_quietly(Disk& disk, const std::string& path) {
  try {
    disk.remove_all(path);
  } catch (const Error&) {  // a leftover is recognisable, and the next run removes it
  }
}

// False where something is there already.
bool try_make_folder(Disk& disk, const std::string& path) {
  try {
    disk.make_folder(path);
    return true;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::Exists) throw;
    return false;
  }
}

std::string lock_file(const OutputPath& path) { return join_path(path.staging, "lock"); }

using Kind = ResumableDisk::Kind;

// What is not as a run of ours would leave it; a link would lead into somebody else's folder.
void refuse_in_the_way(Disk& disk, const OutputPath& path) {
  ResumableDisk* const looker = resumable(disk);
  if (looker == nullptr) return;
  const auto refuse_other = [&](const std::string& part, Kind expected) {
    const Kind found = looker->kind(part);
    if (found == expected || found == Kind::None) return;
    throw Error(ErrorCode::Exists,
                fmt::format("`{}`, which thorns makes itself, is a link or something else", part),
                FilePlace{part}, "remove it, or choose another output folder");
  };
  refuse_other(path.staging, Kind::Folder);
  refuse_other(lock_file(path), Kind::File);
}

// Whether the folder is what an interrupted run leaves.
bool can_continue(Disk& disk, const OutputPath& path) {
  ResumableDisk* const looker = resumable(disk);
  return looker != nullptr && looker->kind(join_path(path.staging, kJournalFile)) == Kind::File &&
         looker->kind(join_path(path.staging, "model")) == Kind::Folder;
}

// What `force` may replace: a folder that a merge or a download made, never somebody's home.
bool is_model_folder(Disk& disk, const std::string& path) {
  if (!disk.stat(path).is_folder) return false;
  const std::vector<std::string> names = disk.list(path);
  return names.empty() || std::any_of(names.begin(), names.end(), [](const std::string& name) {
           return name == "thorns.json" || name == "config.json" || name.ends_with(".safetensors");
         });
}

void require_parent(Disk& disk, const OutputPath& path) {
  const Where where = FilePlace{path.parent};
  if (!disk.exists(path.parent)) {
    throw Error(ErrorCode::NotFound,
                fmt::format("the folder `{}`, in which `{}` should be made, does not exist",
                            path.parent, path.name),
                where, "make it first, or check the spelling of the output folder");
  }
  if (!disk.stat(path.parent).is_folder) {
    throw Error(ErrorCode::NotFound,
                fmt::format("`{}`, in which `{}` should be made, is a file, not a folder",
                            path.parent, path.name),
                where, "choose an output folder inside a folder");
  }
}

}  // namespace

OutputPath output_path(const std::string& folder) {
  OutputPath path;
  path.name = base_name(folder);
  if (path.name.empty() || path.name == "." || path.name == "..") {
    throw Error(ErrorCode::BadUsage, fmt::format("`{}` names no folder that could be made", folder),
                {}, "give the output a name of its own, such as `models/MyMerge`");
  }
  if (path.name.ends_with(kStagingEnding) || path.name.ends_with(kAsideEnding)) {
    throw Error(ErrorCode::BadUsage,
                fmt::format("`{}` is the name of a folder that thorns removes by itself", folder),
                {}, "give the output a name of its own, such as `models/MyMerge`");
  }
  path.target = folder.substr(0, folder.find_last_not_of('/') + 1);
  path.parent = parent_path(path.target);
  path.staging = join_path(path.parent, "." + path.name + kStagingEnding);
  path.aside = join_path(path.parent, "." + path.name + kAsideEnding);
  return path;
}

void refuse_taken(Disk& disk, const OutputPath& path, bool force) {
  require_parent(disk, path);
  const Where where = FilePlace{path.target};
  if (!disk.exists(path.target)) {
    if (force || !disk.exists(path.aside)) return;
    throw Error(ErrorCode::Exists,
                fmt::format("the output folder `{}` exists already; an interrupted run left it as "
                            "`{}`",
                            path.target, path.aside),
                where, "choose another folder, or replace it with --force");
  }
  if (!force) {
    throw Error(ErrorCode::Exists,
                fmt::format("the output folder `{}` exists already", path.target), where,
                "choose another folder, or replace it with --force");
  }
  if (!is_model_folder(disk, path.target)) {
    throw Error(
        ErrorCode::Exists,
        fmt::format("`{}` is not a model folder, and only such a folder is replaced", path.target),
        where, "choose another output folder, or move this one away yourself");
  }
}

Staging::Staging(Disk& disk, OutputPath path)
    : disk_(disk), path_(std::move(path)), model_(join_path(path_.staging, "model")) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const bool made = try_make_folder(disk_, path_.staging);
    if (!made) refuse_in_the_way(disk_, path_);
    try {
      lock_ = disk_.lock(lock_file(path_));
      if (!lock_) fail_busy(path_);
      if (made) return;
      // Of a run that was interrupted: it holds no lock any more.
      leftover_ = keep_ = can_continue(disk_, path_);
      if (leftover_) {
        made_model_ = true;
        return;
      }
      disk_.remove_all(path_.staging);
    } catch (const Error& error) {
      // The run that held the folder has just removed it.
      if (!lock_ && error.code() == ErrorCode::NotFound) continue;
      // Made by us, but another run took it before we could lock it: then it is theirs.
      if (made && error.code() != ErrorCode::Exists) remove_quietly(disk_, path_.staging);
      throw;
    }
    lock_.reset();
  }
  fail_busy(path_);
}

Staging::~Staging() {
  if (!published_ && !keep_) remove_quietly(disk_, path_.staging);
}

// The journal first: without it nobody takes the rest for something to go on with.
void Staging::discard() {
  disk_.remove_all(journal());
  disk_.remove_all(model_);
  leftover_ = keep_ = made_model_ = false;
}

std::string Staging::journal() const { return join_path(path_.staging, kJournalFile); }

void Staging::recover() {
  if (!disk_.exists(path_.aside)) return;
  if (disk_.exists(path_.target)) {
    disk_.remove_all(path_.aside);
  } else {
    disk_.rename(path_.aside, path_.target);
  }
}

const std::string& Staging::model_folder() {
  if (!made_model_) disk_.make_folder(model_);
  made_model_ = true;
  return model_;
}

void Staging::restore_old() {
  try {
    disk_.rename(path_.aside, path_.target);
  } catch (const Error& error) {
    throw Error(ErrorCode::Io,
                fmt::format("the new folder could not take the place of `{}`, and the old one "
                            "could not be put back from `{}`: {}",
                            path_.target, path_.aside, error.message()),
                FilePlace{path_.aside},
                "rename it back yourself; the next run with this output folder does so too");
  }
}

// False where the disk cannot; otherwise the old folder lies where the new one was.
bool Staging::exchange_with_old() {
  ResumableDisk* const exchanger = resumable(disk_);
  if (exchanger == nullptr || !exchanger->exchange(model_, path_.target)) return false;
  try {
    disk_.sync_folder(path_.parent);
  } catch (const Error&) {
    exchanger->exchange(model_, path_.target);
    throw;
  }
  return true;
}

void Staging::rename_into_place(bool replaces) {
  if (replaces) disk_.rename(path_.target, path_.aside);
  try {
    disk_.rename(model_, path_.target);
    try {
      disk_.sync_folder(path_.parent);
    } catch (const Error&) {
      disk_.rename(path_.target, model_);
      throw;
    }
  } catch (const Error&) {
    if (replaces) restore_old();
    throw;
  }
}

void Staging::publish(bool force) {
  disk_.sync_folder(model_folder());
  refuse_taken(disk_, path_, force);  // again: hours may have passed
  const bool replaces = disk_.exists(path_.target);
  const bool exchanged = replaces && exchange_with_old();
  if (!exchanged) rename_into_place(replaces);
  published_ = true;
  // The journal first, or the next run could go on with the old folder.
  remove_quietly(disk_, exchanged ? journal() : path_.staging);
  if (!replaces) return lock_.reset();
  const std::string& old = exchanged ? path_.staging : path_.aside;
  try {
    disk_.remove_all(old);
  } catch (const Error& error) {
    throw Error(ErrorCode::Io,
                fmt::format("the new folder is in place as `{}`, but the one it replaced could not "
                            "be removed from `{}`: {}",
                            path_.target, old, error.message()),
                FilePlace{old}, "remove it yourself");
  }
  lock_.reset();
}

void refuse_busy(Disk& disk, const OutputPath& path) {
  refuse_in_the_way(disk, path);
  if (!disk.exists(lock_file(path))) return;
  try {
    if (disk.lock(lock_file(path)) == nullptr) fail_busy(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::NotFound) throw;  // else it has just been published
  }
}

}  // namespace thorns
