// A read-only disk in memory, for tests and fuzz targets that feed bytes to readers. It counts
// what is open, so that a test can see the descriptors a reader would hold.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/disk.h"
#include "thorns/error.h"

namespace thorns::test {

class ByteDisk : public Disk {
 public:
  // Full paths; the folders above a file exist with it.
  std::map<std::string, std::string> files;
  std::size_t open_now = 0;
  std::size_t most_open = 0;
  std::size_t opened = 0;  // calls of open

  std::unique_ptr<ReadFile> open(const std::string& path) override {
    const auto file = files.find(path);
    if (file == files.end()) fail(path);
    ++opened;
    most_open = std::max(most_open, ++open_now);
    return std::make_unique<File>(*this, path, file->second);
  }
  bool exists(const std::string& path) override { return files.contains(path) || is_folder(path); }
  FileStat stat(const std::string& path) override {
    if (const auto file = files.find(path); file != files.end()) {
      return {file->second.size(), false};
    }
    if (!is_folder(path)) fail(path);
    return {0, true};
  }
  std::vector<std::string> list(const std::string& folder) override {
    if (!is_folder(folder)) fail(folder);
    std::set<std::string> names;
    const std::string prefix = folder + "/";
    for (auto file = files.lower_bound(prefix);
         file != files.end() && file->first.starts_with(prefix); ++file) {
      const std::string rest = file->first.substr(prefix.size());
      names.insert(rest.substr(0, rest.find('/')));
    }
    return {names.begin(), names.end()};
  }

  std::unique_ptr<WriteFile> create(const std::string& path, std::uint64_t) override { deny(path); }
  void make_folder(const std::string& path) override { deny(path); }
  void rename(const std::string& from, const std::string&) override { deny(from); }
  void remove_all(const std::string& path) override { deny(path); }
  void sync_folder(const std::string& path) override { deny(path); }
  std::uint64_t free_space(const std::string& folder) override { deny(folder); }

 private:
  class InPlace final : public FilePart {
   public:
    explicit InPlace(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::span<const std::byte> bytes() const override { return bytes_; }
    void require_intact() const override {}

   private:
    std::span<const std::byte> bytes_;
  };
  class File final : public ReadFile {
   public:
    File(ByteDisk& disk, std::string path, std::string bytes)
        : disk_(disk), path_(std::move(path)), bytes_(std::move(bytes)) {}
    ~File() override { --disk_.open_now; }
    void read(std::uint64_t offset, std::span<std::byte> to) const override {
      if (offset > bytes_.size() || to.size() > bytes_.size() - offset) {
        throw Error(ErrorCode::Corrupt, "`" + path_ + "` ends before it should",
                    FilePlace{path_, bytes_.size()});
      }
      if (!to.empty()) std::memcpy(to.data(), bytes_.data() + offset, to.size());
    }
    std::unique_ptr<FilePart> map(std::uint64_t offset, std::size_t bytes) const override {
      if (offset > bytes_.size() || bytes > bytes_.size() - offset) return nullptr;
      return std::make_unique<InPlace>(std::as_bytes(std::span(bytes_)).subspan(offset, bytes));
    }
    void will_need(std::uint64_t, std::uint64_t) const override {}
    std::uint64_t size() const override { return bytes_.size(); }
    const std::string& path() const override { return path_; }

   private:
    ByteDisk& disk_;
    std::string path_;
    std::string bytes_;
  };

  bool is_folder(const std::string& path) const {
    const std::string prefix = path + "/";
    const auto file = files.lower_bound(prefix);
    return file != files.end() && file->first.starts_with(prefix);
  }
  [[noreturn]] static void fail(const std::string& path) {
    throw Error(ErrorCode::NotFound, "cannot open `" + path + "`: no such file", FilePlace{path});
  }
  [[noreturn]] static void deny(const std::string& path) {
    throw Error(ErrorCode::Io, "this disk is read-only", FilePlace{path});
  }
};

}  // namespace thorns::test
