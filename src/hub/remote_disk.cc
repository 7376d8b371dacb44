#include "hub/remote_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <span>
#include <utility>

#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kScheme = "hub:";
// Asked for at least: most headers and small files come whole with their first bytes.
constexpr std::uint64_t kLeast = 65'536;

// Bytes [begin, end) of a file.
class RangeReceiver final : public HubReceiver {
 public:
  RangeReceiver(std::string path, std::uint64_t begin, std::uint64_t end)
      : path_(std::move(path)), begin_(begin), end_(end) {}

  std::uint64_t next() const override { return begin_ + bytes.size(); }
  std::uint64_t end() const override { return end_; }
  void restart() override {
    if (begin_ > 0) {
      throw Error(ErrorCode::Unsupported, "the server does not send parts of a file",
                  FilePlace{path_}, "fetch the repository instead");
    }
    bytes.clear();
  }
  bool append(std::span<const std::byte> piece) override {
    const std::uint64_t wanted = end_ - next();
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(wanted, piece.size()));
    bytes.insert(bytes.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(taken));
    return next() < end_;
  }

  std::vector<std::byte> bytes;

 private:
  std::string path_;
  std::uint64_t begin_;
  std::uint64_t end_;
};

}  // namespace

// A path of a mounted repository, taken apart.
struct RemoteDisk::Place {
  const Mounted* mounted = nullptr;  // null: a path of the disk below
  std::string name;                  // in the repository; empty: its folder
  const HubFile* file = nullptr;     // null: no such file
  bool folder = false;
};

// Keeps what was read last, because headers are read piece by piece.
class RemoteDisk::File final : public ReadFile {
 public:
  File(RemoteDisk& disk, std::string path, const Mounted& mounted, const HubFile& file)
      : disk_(disk), path_(std::move(path)), mounted_(mounted), file_(file) {}

  void read(std::uint64_t offset, std::span<std::byte> to) const override {
    if (offset > file_.size || to.size() > file_.size - offset) {
      throw Error(ErrorCode::Corrupt,
                  fmt::format("`{}` ends at byte {}, before it should", path_, file_.size),
                  FilePlace{path_, file_.size});
    }
    const std::lock_guard lock(disk_.mutex_);
    while (!to.empty()) {
      if (offset < begin_ || offset >= begin_ + kept_.size()) fetch(offset, to.size());
      const auto from = static_cast<std::size_t>(offset - begin_);
      const std::size_t count = std::min(to.size(), kept_.size() - from);
      std::memcpy(to.data(), kept_.data() + from, count);
      to = to.subspan(count);
      offset += count;
    }
  }
  void will_need(std::uint64_t, std::uint64_t) const override {}
  std::uint64_t size() const override { return file_.size; }
  const std::string& path() const override { return path_; }

 private:
  void fetch(std::uint64_t offset, std::uint64_t count) const {
    const std::uint64_t end = offset + std::min(std::max(count, kLeast), file_.size - offset);
    RangeReceiver receiver(path_, offset, end);
    disk_.hub_.get(mounted_.repository, mounted_.listing.commit, file_.name, receiver);
    if (receiver.next() != end) {
      throw Error(
          ErrorCode::Corrupt,
          fmt::format("`{}` ends at byte {}; the Hub lists {}", path_, receiver.next(), file_.size),
          FilePlace{path_, receiver.next()});
    }
    kept_ = std::move(receiver.bytes);
    begin_ = offset;
  }

  RemoteDisk& disk_;
  std::string path_;
  const Mounted& mounted_;
  const HubFile& file_;
  // Under the disk's mutex:
  mutable std::vector<std::byte> kept_;
  mutable std::uint64_t begin_ = 0;
};

std::string RemoteDisk::folder_of(const Repository& repository) {
  const std::lock_guard lock(mutex_);
  std::string& folder = folders_[repository.text()];
  if (!folder.empty()) return folder;
  HubListing listing = hub_.list(repository);
  folder = fmt::format("{}{}@{}", kScheme, repository.id, listing.commit);
  mounted_.try_emplace(folder, Mounted{repository, std::move(listing)});
  return folder;
}

RemoteDisk::Place RemoteDisk::place_of(const std::string& path) {
  if (!path.starts_with(kScheme)) return {};
  const std::lock_guard lock(mutex_);
  for (const auto& [folder, mounted] : mounted_) {
    if (path != folder && !path.starts_with(folder + "/")) continue;
    Place place{&mounted, path.substr(std::min(folder.size() + 1, path.size())), nullptr, false};
    while (place.name.ends_with('/')) place.name.pop_back();
    const auto& files = mounted.listing.files;
    const auto at = std::lower_bound(
        files.begin(), files.end(), place.name,
        [](const HubFile& file, const std::string& wanted) { return file.name < wanted; });
    if (at != files.end() && at->name == place.name) place.file = &*at;
    place.folder =
        place.name.empty() || std::any_of(files.begin(), files.end(), [&](const HubFile& file) {
          return file.name.starts_with(place.name + "/");
        });
    return place;
  }
  return {};
}

std::unique_ptr<ReadFile> RemoteDisk::open(const std::string& path) {
  const Place place = place_of(path);
  if (place.mounted == nullptr) return below_.open(path);
  if (place.file == nullptr) {
    throw Error(ErrorCode::NotFound, fmt::format("cannot open `{}`: no such file", path),
                FilePlace{path});
  }
  return std::make_unique<File>(*this, path, *place.mounted, *place.file);
}

bool RemoteDisk::exists(const std::string& path) {
  const Place place = place_of(path);
  return place.mounted == nullptr ? below_.exists(path) : place.file != nullptr || place.folder;
}

FileStat RemoteDisk::stat(const std::string& path) {
  const Place place = place_of(path);
  if (place.mounted == nullptr) return below_.stat(path);
  if (place.file != nullptr) return {place.file->size, false};
  if (place.folder) return {0, true};
  throw Error(ErrorCode::NotFound, fmt::format("cannot look at `{}`: no such file", path),
              FilePlace{path});
}

std::vector<std::string> RemoteDisk::list(const std::string& folder) {
  const Place place = place_of(folder);
  if (place.mounted == nullptr) return below_.list(folder);
  const std::string prefix = place.name.empty() ? "" : place.name + "/";
  std::set<std::string> names;
  for (const HubFile& file : place.mounted->listing.files) {
    if (!file.name.starts_with(prefix)) continue;
    const std::string rest = file.name.substr(prefix.size());
    names.insert(rest.substr(0, rest.find('/')));
  }
  return {names.begin(), names.end()};
}

std::string RemoteDisk::canonical(const std::string& path) {
  return place_of(path).mounted == nullptr ? below_.canonical(path) : path;
}

}  // namespace thorns
