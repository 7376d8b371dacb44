// The real disk with one call made to fail: the n-th of all, whatever it is, calls of open files
// included; or that one and every later one, as when a device dies.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/disk.h"
#include "base/disk_resume.h"
#include "thorns/error.h"

namespace thorns::test {

class FaultyDisk : public Disk, public ResumableDisk {
 public:
  enum class Mode { Once, FromThenOn };

  // `fail_at` counts from 1; 0 never fails.
  explicit FaultyDisk(std::size_t fail_at, Mode mode = Mode::Once, ErrorCode code = ErrorCode::Io)
      : fail_at_(fail_at), mode_(mode), code_(code) {}

  std::size_t calls() const { return calls_; }
  bool has_failed() const { return !failed_call_.empty(); }
  const std::string& failed_call() const { return failed_call_; }  // "rename /a/b"
  void cannot_exchange() { exchanges_ = false; }
  void set_free_space(std::uint64_t bytes) { free_space_ = bytes; }

  std::unique_ptr<ReadFile> open(const std::string& path) override {
    count("open", path);
    return std::make_unique<Reader>(*this, inner_.open(path));
  }
  std::unique_ptr<WriteFile> create(const std::string& path, std::uint64_t expected) override {
    count("create", path);
    return std::make_unique<Writer>(*this, path, inner_.create(path, expected));
  }
  bool exists(const std::string& path) override { return inner_.exists(path); }  // cannot fail
  FileStat stat(const std::string& path) override {
    count("stat", path);
    return inner_.stat(path);
  }
  std::vector<std::string> list(const std::string& folder) override {
    count("list", folder);
    return inner_.list(folder);
  }
  void make_folder(const std::string& path) override {
    count("make_folder", path);
    inner_.make_folder(path);
  }
  void rename(const std::string& from, const std::string& to) override {
    count("rename", from);
    inner_.rename(from, to);
  }
  void remove_all(const std::string& path) override {
    count("remove_all", path);
    inner_.remove_all(path);
  }
  void sync_folder(const std::string& path) override {
    count("sync_folder", path);
    inner_.sync_folder(path);
  }
  void require_writable(const std::string& folder) override {
    count("require_writable", folder);
    inner_.require_writable(folder);
  }
  std::uint64_t free_space(const std::string& folder) override {
    count("free_space", folder);
    return free_space_ ? free_space_ : inner_.free_space(folder);
  }
  std::unique_ptr<WriteFile> reopen(const std::string& path, std::uint64_t keep,
                                    std::uint64_t expected) override {
    count("reopen", path);
    return std::make_unique<Writer>(*this, path, resumable(inner_)->reopen(path, keep, expected));
  }
  Kind kind(const std::string& path) override {
    count("kind", path);
    return resumable(inner_)->kind(path);
  }
  std::int64_t modified(const std::string& path) override {
    count("modified", path);
    return resumable(inner_)->modified(path);
  }
  std::uint64_t occupied(const std::string& path) override {
    count("occupied", path);
    return resumable(inner_)->occupied(path);
  }
  bool exchange(const std::string& one, const std::string& other) override {
    if (!exchanges_) return false;
    count("exchange", one);
    return resumable(inner_)->exchange(one, other);
  }
  std::string canonical(const std::string& path) override { return inner_.canonical(path); }
  std::unique_ptr<FileLock> lock(const std::string& path) override {
    count("lock", path);
    return inner_.lock(path);
  }

 private:
  void count(const char* what, const std::string& path) {
    ++calls_;
    const bool fails =
        fail_at_ != 0 && (mode_ == Mode::Once ? calls_ == fail_at_ : calls_ >= fail_at_);
    if (!fails) return;
    if (failed_call_.empty()) failed_call_ = std::string(what) + " " + path;
    throw Error(code_, std::string("made to fail: ") + what, FilePlace{path});
  }

  class Reader : public ReadFile {
   public:
    Reader(FaultyDisk& disk, std::unique_ptr<ReadFile> inner)
        : disk_(disk), inner_(std::move(inner)) {}
    void read(std::uint64_t offset, std::span<std::byte> to) const override {
      disk_.count("read", inner_->path());
      inner_->read(offset, to);
    }
    void will_need(std::uint64_t offset, std::uint64_t bytes) const override {
      inner_->will_need(offset, bytes);
    }
    std::uint64_t size() const override { return inner_->size(); }
    const std::string& path() const override { return inner_->path(); }

   private:
    FaultyDisk& disk_;
    std::unique_ptr<ReadFile> inner_;
  };

  class Writer : public WriteFile {
   public:
    Writer(FaultyDisk& disk, std::string path, std::unique_ptr<WriteFile> inner)
        : disk_(disk), path_(std::move(path)), inner_(std::move(inner)) {}
    void append(std::span<const std::byte> bytes) override {
      disk_.count("append", path_);
      inner_->append(bytes);
    }
    void finish() override {
      disk_.count("finish", path_);
      inner_->finish();
    }

   private:
    FaultyDisk& disk_;
    std::string path_;
    std::unique_ptr<WriteFile> inner_;
  };

  Disk& inner_ = real_disk();
  std::size_t fail_at_;
  Mode mode_;
  ErrorCode code_;
  bool exchanges_ = true;
  std::size_t calls_ = 0;
  std::uint64_t free_space_ = 0;
  std::string failed_call_;
};

}  // namespace thorns::test
