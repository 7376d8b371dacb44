#include "hub/cache_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/disk_links.h"
#include "base/disk_resume.h"
#include "base/hash.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;  // bytes hashed at a time
constexpr double kLockPoll = 0.2;                     // seconds

// Makes the folder and those above it.
void make_folders(Disk& disk, const std::string& path) {
  if (path.empty() || disk.exists(path)) return;
  make_folders(disk, parent_path(path));
  try {
    disk.make_folder(path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::Exists) throw;  // another process was faster
  }
}

// The size of what `path` leads to; nullopt where that is nothing.
std::optional<std::uint64_t> size_at(Disk& disk, const std::string& path) {
  if (!disk.exists(path)) return std::nullopt;
  try {
    const FileStat stat = disk.stat(path);
    if (stat.is_folder) return std::nullopt;
    return stat.size;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::NotFound) return std::nullopt;
    throw;
  }
}

// The hash by which the Hub calls a file.
Digest digest_of(const HubFile& file) {
  if (file.hash.size() == 64) return Digest(Digest::Kind::Sha256);
  Digest digest(Digest::Kind::Sha1);
  const std::string header = fmt::format("blob {}", file.size);
  digest.update(std::as_bytes(std::span(header.c_str(), header.size() + 1)));  // with its \0
  return digest;
}

// Writes what comes into a file that may hold the beginning already, and hashes it on the way.
class BlobReceiver final : public HubReceiver {
 public:
  BlobReceiver(Disk& disk, std::string path, const HubFile& file, const CacheWriter::Moved& moved)
      : disk_(disk), path_(std::move(path)), file_(file), moved_(moved), digest_(digest_of(file)) {
    take_up();
  }

  std::uint64_t next() const override { return size_; }
  void restart() override {
    if (size_ == 0 && to_) return;
    moved_(-static_cast<std::int64_t>(size_));
    to_.reset();
    to_ = disk_.create(path_, file_.size);
    digest_ = digest_of(file_);
    size_ = 0;
  }
  bool append(std::span<const std::byte> bytes) override {
    if (bytes.size() > file_.size - size_) {
      throw Error(ErrorCode::Corrupt,
                  fmt::format("`{}` is longer than the {} bytes that the Hub lists", file_.name,
                              file_.size),
                  FilePlace{path_});
    }
    to_->append(bytes);
    digest_.update(bytes);
    size_ += bytes.size();
    moved_(static_cast<std::int64_t>(bytes.size()));
    return true;
  }

  // Whether the whole file has come, and is what it should be. Flushed, if so.
  bool finish() {
    if (size_ != file_.size || digest_.hex() != file_.hash) return false;
    to_->finish();
    return true;
  }

 private:
  // What an interrupted run left is read again: it has to go into the hash.
  void take_up() {
    const auto there = size_at(disk_, path_);
    ResumableDisk* const again = resumable(disk_);
    if (!there || again == nullptr || *there > file_.size) {
      to_ = disk_.create(path_, file_.size);
      return;
    }
    const auto from = disk_.open(path_);
    std::vector<std::byte> piece(kPiece);
    while (size_ < *there) {
      piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, *there - size_)));
      from->read(size_, piece);
      digest_.update(piece);
      size_ += piece.size();
    }
    to_ = again->reopen(path_, size_, file_.size);
  }

  Disk& disk_;
  std::string path_;
  const HubFile& file_;
  const CacheWriter::Moved& moved_;
  Digest digest_;
  std::unique_ptr<WriteFile> to_;
  std::uint64_t size_ = 0;
};

}  // namespace

CacheWriter::CacheWriter(Disk& disk, const std::string& cache, const Repository& repository,
                         const std::string& commit)
    : disk_(disk),
      repository_(repository),
      commit_(commit),
      home_(join_path(cache, repository.folder())),
      locks_(join_path(join_path(cache, ".locks"), repository.folder())),
      snapshot_(join_path(join_path(home_, "snapshots"), commit)) {
  make_folders(disk_, join_path(home_, "blobs"));
  make_folders(disk_, snapshot_);
  make_folders(disk_, locks_);
}

std::string CacheWriter::blob(const HubFile& file) const {
  return join_path(join_path(home_, "blobs"), file.hash);
}
std::string CacheWriter::link_path(const HubFile& file) const {
  return join_path(snapshot_, file.name);
}

bool CacheWriter::is_whole(const HubFile& file) const {
  return size_at(disk_, blob(file)) == file.size || size_at(disk_, link_path(file)) == file.size;
}

std::uint64_t CacheWriter::present(const HubFile& file) const {
  if (is_whole(file)) return file.size;
  const std::uint64_t begun = size_at(disk_, blob(file) + ".incomplete").value_or(0);
  return begun > file.size ? 0 : begun;
}

std::uint64_t CacheWriter::needed(const HubFile& file) const {
  if (is_whole(file)) return 0;
  const std::string path = blob(file) + ".incomplete";
  ResumableDisk* const again = resumable(disk_);
  if (again == nullptr || !size_at(disk_, path)) return file.size;
  // Its space may be reserved to the end already.
  return file.size - std::min(file.size, again->occupied(path));
}

void CacheWriter::bring(Hub& hub, const HubFile& file, const Moved& moved, const Hub::Wait& wait) {
  if (size_at(disk_, link_path(file)) == file.size) return;
  std::unique_ptr<FileLock> lock;
  while (!(lock = disk_.lock(join_path(locks_, file.hash + ".lock")))) wait(kLockPoll);
  // Whoever had the lock may have brought it.
  if (!is_whole(file)) download(hub, file, moved);
  link(file);
}

void CacheWriter::download(Hub& hub, const HubFile& file, const Moved& moved) {
  const std::string path = blob(file) + ".incomplete";
  for (const bool resumed : {present(file) > 0, false}) {
    BlobReceiver receiver(disk_, path, file, moved);
    if (receiver.next() < file.size) hub.get(repository_, commit_, file.name, receiver);
    if (receiver.finish()) {
      disk_.rename(path, blob(file));
      return;
    }
    moved(-static_cast<std::int64_t>(receiver.next()));
    disk_.remove_all(path);
    if (!resumed) {
      throw Error(ErrorCode::Corrupt,
                  receiver.next() == file.size
                      ? fmt::format("`{}` of `{}` came with other bytes than the Hub lists: its "
                                    "hash is not {}",
                                    file.name, repository_.text(), file.hash)
                      : fmt::format("`{}` of `{}` ended after {} of the {} bytes that the Hub "
                                    "lists",
                                    file.name, repository_.text(), receiver.next(), file.size),
                  {}, "fetch it again; if that does not help, the server is to blame");
    }
    // What was there before may have been another's: once more, from its first byte.
  }
}

void CacheWriter::link(const HubFile& file) {
  const std::string path = link_path(file);
  if (size_at(disk_, path) == file.size) return;  // since the lock was asked for
  make_folders(disk_, parent_path(path));
  if (disk_.exists(path)) disk_.remove_all(path);  // a link to nowhere, or to something else
  std::string target = "../../blobs/" + file.hash;
  for (const char c : file.name) {
    if (c == '/') target.insert(0, "../");
  }
  LinkingDisk* const links = linking(disk_);
  try {
    if (links == nullptr) throw Error(ErrorCode::Io, "this disk knows no links");
    links->make_link(target, path);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::Exists) return;  // another process was faster
    if (error.code() != ErrorCode::Io) throw;
    disk_.rename(blob(file), path);  // file systems without links: the file itself, as in cache.h
  }
}

void CacheWriter::publish(const Hub::Wait& wait) {
  if (is_commit(repository_.revision)) return;
  const std::string path = join_path(join_path(home_, "refs"), repository_.revision);
  make_folders(disk_, parent_path(path));
  // Two processes that end at once would move one draft twice.
  std::unique_ptr<FileLock> lock;
  while (!(lock = disk_.lock(join_path(locks_, "refs.lock")))) wait(kLockPoll);
  const std::string draft = path + ".thorns-part";
  write_text(disk_, draft, commit_);
  disk_.rename(draft, path);
}

}  // namespace thorns
