// A Disk in memory for tests: files by path, folders wherever a file or folder lies in them. It
// keeps a list of what was opened. Not thread-safe.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/disk.h"
#include "thorns/error.h"

namespace thorns {

class MemoryDisk : public Disk {
 public:
  std::string canonical(const std::string& path) override { return plain(path); }
  void add_file(const std::string& path, std::string content = {}) {
    const std::string place = plain(path);
    add_folder(parent_path(place));
    files_[place] = std::move(content);
  }
  void add_folder(const std::string& path) {
    for (std::string at = plain(path); at != "." && at != "/"; at = parent_path(at)) {
      folders_.insert(at);
    }
  }
  // A folder as a model or an adapter has it.
  void add_model(const std::string& path) { add_file(join_path(path, "config.json"), "{}"); }
  void add_adapter(const std::string& path) {
    add_file(join_path(path, "adapter_config.json"), "{}");
  }
  const std::vector<std::string>& opened() const { return opened_; }

  std::unique_ptr<ReadFile> open(const std::string& path) override {
    const auto found = files_.find(plain(path));
    if (found == files_.end()) missing("open", path);
    opened_.push_back(path);
    return std::make_unique<Reader>(path, found->second);
  }
  std::unique_ptr<WriteFile> create(const std::string& path, std::uint64_t) override {
    if (!folders_.contains(parent_path(plain(path))) && parent_path(plain(path)) != ".") {
      missing("create", path);
    }
    std::string& content = files_[plain(path)];
    content.clear();
    return std::make_unique<Writer>(content);
  }
  bool exists(const std::string& path) override {
    const std::string place = plain(path);
    return place == "." || place == "/" || files_.contains(place) || folders_.contains(place);
  }
  FileStat stat(const std::string& path) override {
    if (!exists(path)) missing("look at", path);
    const auto found = files_.find(plain(path));
    if (found == files_.end()) return {0, true};
    return {found->second.size(), false};
  }
  std::vector<std::string> list(const std::string& folder) override {
    const std::string place = plain(folder);
    if (!exists(folder) || files_.contains(place)) missing("list", folder);
    std::set<std::string> names;
    const auto add = [&](const std::string& path) {
      if (parent_path(path) == place && path != place) names.insert(base_name(path));
    };
    for (const auto& [path, content] : files_) add(path);
    for (const std::string& path : folders_) add(path);
    return {names.begin(), names.end()};
  }
  void make_folder(const std::string& path) override {
    if (exists(path)) {
      throw Error(ErrorCode::Exists, fmt::format("`{}` exists", path), FilePlace{path});
    }
    add_folder(path);
  }
  void rename(const std::string& from, const std::string& to) override {
    if (!exists(from)) missing("move", from);
    const std::string old_place = plain(from);
    const auto moved = [&](const std::string& path) {
      return plain(to) + path.substr(old_place.size());
    };
    const auto inside = [&](const std::string& path) {
      return path == old_place || path.starts_with(old_place + "/");
    };
    std::map<std::string, std::string> files;
    std::set<std::string> folders;
    for (auto& [path, content] : files_) {
      files.emplace(inside(path) ? moved(path) : path, std::move(content));
    }
    for (const std::string& path : folders_) folders.insert(inside(path) ? moved(path) : path);
    files_ = std::move(files);
    folders_ = std::move(folders);
  }
  void remove_all(const std::string& path) override {
    const std::string place = plain(path);
    const auto inside = [&](const std::string& one) {
      return one == place || one.starts_with(place + "/");
    };
    std::erase_if(files_, [&](const auto& file) { return inside(file.first); });
    std::erase_if(folders_, inside);
  }
  void sync_folder(const std::string&) override {}
  std::uint64_t free_space(const std::string&) override { return std::uint64_t{1} << 40; }

 private:
  class Reader : public ReadFile {
   public:
    Reader(std::string path, const std::string& content)
        : path_(std::move(path)), content_(content) {}
    void read(std::uint64_t offset, std::span<std::byte> to) const override {
      if (offset > content_.size() || to.size() > content_.size() - offset) {
        throw Error(ErrorCode::Corrupt, fmt::format("`{}` ends at byte {}", path_, content_.size()),
                    FilePlace{path_, content_.size()});
      }
      std::transform(content_.begin() + static_cast<std::ptrdiff_t>(offset),
                     content_.begin() + static_cast<std::ptrdiff_t>(offset + to.size()), to.begin(),
                     [](char c) { return static_cast<std::byte>(c); });
    }
    void will_need(std::uint64_t, std::uint64_t) const override {}
    std::uint64_t size() const override { return content_.size(); }
    const std::string& path() const override { return path_; }

   private:
    std::string path_;
    std::string content_;
  };

  class Writer : public WriteFile {
   public:
    explicit Writer(std::string& content) : content_(content) {}
    void append(std::span<const std::byte> bytes) override {
      for (const std::byte byte : bytes) content_ += static_cast<char>(byte);
    }
    void finish() override {}

   private:
    std::string& content_;
  };

  static std::string plain(const std::string& path) {
    std::string text = std::filesystem::path(path).lexically_normal().generic_string();
    while (text.size() > 1 && text.ends_with('/')) text.pop_back();
    return text;
  }
  [[noreturn]] static void missing(const char* doing, const std::string& path) {
    throw Error(ErrorCode::NotFound,
                fmt::format("cannot {} `{}`: No such file or directory", doing, path),
                FilePlace{path});
  }

  std::map<std::string, std::string> files_;
  std::set<std::string> folders_;
  std::vector<std::string> opened_;
};

}  // namespace thorns
