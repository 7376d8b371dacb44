#include "checkpoint/zip_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/checked.h"
#include "checkpoint/hints.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// Signatures as they stand in a file.
constexpr std::string_view kLocalHeader = "PK\x03\x04";
constexpr std::string_view kDirectoryEntry = "PK\x01\x02";
constexpr std::string_view kDirectoryEnd = "PK\x05\x06";
constexpr std::string_view kDirectoryEnd64 = "PK\x06\x06";
constexpr std::string_view kLocator64 = "PK\x06\x07";

// Bytes of their fixed parts.
constexpr std::size_t kLocalHeaderBytes = 30;
constexpr std::size_t kEntryBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocator64Bytes = 20;

constexpr std::uint64_t kMostComment = 65'535;
constexpr std::uint64_t kMostDirectoryBytes = 100'000'000;
constexpr std::uint64_t kMostRecords = 1'000'000;
constexpr std::uint64_t kFull16 = 0xFFFF;  // the number stands in a wider field elsewhere
constexpr std::uint64_t kFull32 = 0xFFFFFFFF;
constexpr std::uint16_t kEncrypted = 1 | 1 << 6 | 1 << 13;  // flags of three kinds of encryption
constexpr std::uint16_t kZip64Field = 1;

std::uint64_t number(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

struct Directory {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint64_t records = 0;
};

struct Entry {
  ZipRecord record;
  std::uint64_t header = 0;  // of its local header
  std::uint64_t at = 0;      // of its entry in the directory
};

class Archive {
 public:
  explicit Archive(const ReadFile& file) : file_(file) {}

  std::vector<ZipRecord> read() {
    const Directory directory = find_directory();
    std::vector<Entry> entries = read_directory(directory);
    refuse_duplicates(entries);
    for (Entry& entry : entries) read_local_header(entry, directory.begin);
    refuse_overlaps(entries);
    std::vector<ZipRecord> records;
    records.reserve(entries.size());
    for (Entry& entry : entries) records.push_back(std::move(entry.record));
    return records;
  }

 private:
  [[noreturn]] void refuse(std::uint64_t at, const std::string& why, const char* hint = "") const {
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` is not a valid PyTorch checkpoint: {}", file_.path(), why),
                FilePlace{file_.path(), at}, hint);
  }
  [[noreturn]] void refuse_kind(std::uint64_t at, const std::string& why) const {
    throw Error(ErrorCode::Unsupported, fmt::format("`{}`: {}", file_.path(), why),
                FilePlace{file_.path(), at}, kSaveAgain);
  }

  std::string bytes(std::uint64_t at, std::uint64_t size) const {
    if (at > file_.size() || size > file_.size() - at) {
      refuse(at, fmt::format("{} bytes are needed where the file ends", size), kFetchAgain);
    }
    std::string text(size, '\0');
    file_.read(at, std::as_writable_bytes(std::span(text)));
    return text;
  }

  // The end record stands last in the file, before a comment that is usually empty.
  std::uint64_t find_end() const {
    const std::uint64_t looked = std::min(file_.size(), kEndBytes + kMostComment);
    const std::uint64_t begin = file_.size() - looked;
    const std::string tail = bytes(begin, looked);
    for (std::size_t at = tail.rfind(kDirectoryEnd); at != tail.npos;
         at = at == 0 ? tail.npos : tail.rfind(kDirectoryEnd, at - 1)) {
      if (tail.size() - at < kEndBytes) continue;
      if (at + kEndBytes + number(tail, at + 20, 2) == tail.size()) return begin + at;
    }
    refuse(file_.size(), "the directory at the end of its zip archive is missing", kFetchAgain);
  }

  Directory find_directory() const {
    const std::uint64_t end_at = find_end();
    const std::string end = bytes(end_at, kEndBytes);
    if ((number(end, 4, 2) != 0 && number(end, 4, 2) != kFull16) ||
        (number(end, 6, 2) != 0 && number(end, 6, 2) != kFull16)) {
      refuse_kind(end_at, "it is one volume of a zip archive in several");
    }
    Directory directory{number(end, 16, 4), number(end, 12, 4), number(end, 10, 2)};
    std::uint64_t limit = end_at;  // the directory ends here
    const bool needs64 =
        directory.begin == kFull32 || directory.size == kFull32 || directory.records == kFull16;
    const bool has64 = end_at >= kLocator64Bytes &&
                       bytes(end_at - kLocator64Bytes, kLocator64.size()) == kLocator64;
    if (has64) {
      const Directory narrow = directory;
      directory = find_directory64(end_at - kLocator64Bytes, limit);
      const auto same = [](std::uint64_t small, std::uint64_t full, std::uint64_t large) {
        return small == full || small == large;
      };
      if (!same(narrow.begin, kFull32, directory.begin) ||
          !same(narrow.size, kFull32, directory.size) ||
          !same(narrow.records, kFull16, directory.records)) {
        refuse(end_at, "the two end records of its zip archive disagree");
      }
    } else if (needs64) {
      refuse(end_at, "the 64-bit end record of its zip archive is missing");
    } else if (number(end, 8, 2) != directory.records) {
      refuse_kind(end_at, "it is one volume of a zip archive in several");
    }
    const auto directory_end = checked_add(directory.begin, directory.size);
    if (directory_end != limit) {
      refuse(end_at,
             fmt::format("the directory of its zip archive, {} bytes from byte {}, does not lie "
                         "right before its end record",
                         directory.size, directory.begin),
             kFetchAgain);
    }
    if (directory.size > kMostDirectoryBytes || directory.records > kMostRecords) {
      refuse_kind(end_at, fmt::format("its zip archive has {} records in a directory of {} bytes",
                                      directory.records, directory.size));
    }
    return directory;
  }

  Directory find_directory64(std::uint64_t locator_at, std::uint64_t& limit) const {
    const std::uint64_t at = number(bytes(locator_at, kLocator64Bytes), 8, 8);
    if (at > locator_at || locator_at - at < kEnd64Bytes) {
      refuse(locator_at,
             "the 64-bit end record of its zip archive does not lie before its locator");
    }
    const std::string end = bytes(at, kEnd64Bytes);
    if (!end.starts_with(kDirectoryEnd64)) {
      refuse(at, "the 64-bit end record of its zip archive is missing");
    }
    if (number(end, 16, 4) != 0 || number(end, 20, 4) != 0 ||
        number(end, 24, 8) != number(end, 32, 8)) {
      refuse_kind(at, "it is one volume of a zip archive in several");
    }
    limit = at;
    return {number(end, 48, 8), number(end, 40, 8), number(end, 32, 8)};
  }

  std::vector<Entry> read_directory(const Directory& directory) const {
    const std::string text = bytes(directory.begin, directory.size);
    std::vector<Entry> entries;
    std::size_t at = 0;
    for (std::uint64_t i = 0; i < directory.records; ++i) {
      const std::uint64_t in_file = directory.begin + at;
      const std::string_view rest = std::string_view(text).substr(at);
      if (rest.size() < kEntryBytes || !rest.starts_with(kDirectoryEntry)) {
        refuse(in_file, fmt::format("entry {} of the directory of its zip archive is missing", i));
      }
      const std::size_t name = number(rest, 28, 2);
      const std::size_t extra = number(rest, 30, 2);
      const std::size_t comment = number(rest, 32, 2);
      if (name + extra + comment > rest.size() - kEntryBytes) {
        refuse(in_file,
               fmt::format("entry {} of the directory of its zip archive goes beyond it", i));
      }
      entries.push_back(read_entry(rest.substr(0, kEntryBytes), rest.substr(kEntryBytes, name),
                                   rest.substr(kEntryBytes + name, extra), in_file));
      at += kEntryBytes + name + extra + comment;
    }
    if (at != text.size()) {
      refuse(directory.begin + at, "there are bytes behind the directory of its zip archive");
    }
    return entries;
  }

  Entry read_entry(std::string_view fixed, std::string_view name, std::string_view extra,
                   std::uint64_t at) const {
    Entry entry;
    entry.at = at;
    entry.record.name = std::string(name);
    check_name(name, at);
    check_kind(name, number(fixed, 8, 2), number(fixed, 10, 2), at);
    std::uint64_t packed = number(fixed, 20, 4);
    entry.record.size = number(fixed, 24, 4);
    entry.header = number(fixed, 42, 4);
    std::uint64_t disk = number(fixed, 34, 2);
    // The wide numbers stand in this order, and only those that the narrow fields have no room for.
    std::string_view wide = zip64_field(extra, at);
    const auto widen = [&](std::uint64_t& value, std::uint64_t full, std::size_t size) {
      if (value != full) return;
      if (wide.size() < size) refuse(at, "a 64-bit number of its zip archive is missing");
      value = number(wide, 0, size);
      wide.remove_prefix(size);
    };
    widen(entry.record.size, kFull32, 8);
    widen(packed, kFull32, 8);
    widen(entry.header, kFull32, 8);
    widen(disk, kFull16, 4);
    if (disk != 0) refuse_kind(at, "it is one volume of a zip archive in several");
    if (packed != entry.record.size) {
      refuse(at, fmt::format("the record `{}` is stored as it is, but in {} bytes instead of {}",
                             name, packed, entry.record.size));
    }
    return entry;
  }

  // The data of the field that holds wide numbers; empty where there is none.
  std::string_view zip64_field(std::string_view extra, std::uint64_t at) const {
    while (extra.size() >= 4) {
      const std::size_t size = number(extra, 2, 2);
      if (size > extra.size() - 4) refuse(at, "an extra field of its zip archive is cut short");
      if (number(extra, 0, 2) == kZip64Field) return extra.substr(4, size);
      extra.remove_prefix(4 + size);
    }
    return {};
  }

  // Nothing is ever unpacked; a name that would lead elsewhere is a sign of bad intentions all the
  // same.
  void check_name(std::string_view name, std::uint64_t at) const {
    const bool leads_away = ("/" + std::string(name) + "/").find("/../") != std::string::npos;
    if (name.empty() || name.front() == '/' || leads_away ||
        name.find_first_of(std::string_view("\\\0", 2)) != name.npos) {
      refuse(at, "a record of its zip archive has a name that is no path");
    }
  }

  void check_kind(std::string_view name, std::uint64_t flags, std::uint64_t method,
                  std::uint64_t at) const {
    if ((flags & kEncrypted) != 0) {
      refuse_kind(at, fmt::format("the record `{}` of its zip archive is encrypted", name));
    }
    if (method != 0) {
      refuse_kind(at, fmt::format("the record `{}` of its zip archive is compressed, which PyTorch "
                                  "never does",
                                  name));
    }
  }

  void refuse_duplicates(const std::vector<Entry>& entries) const {
    std::unordered_set<std::string_view> names;
    for (const Entry& entry : entries) {
      if (!names.insert(entry.record.name).second) {
        refuse(entry.at,
               fmt::format("the record `{}` of its zip archive stands twice", entry.record.name));
      }
    }
  }

  // Finds the record's bytes, which begin behind its own header.
  void read_local_header(Entry& entry, std::uint64_t directory) const {
    const std::string& name = entry.record.name;
    const std::uint64_t fixed_bytes = kLocalHeaderBytes + name.size();
    if (entry.header > directory || directory - entry.header < fixed_bytes) {
      refuse(entry.at, fmt::format("the record `{}` of its zip archive does not lie before the "
                                   "directory",
                                   name));
    }
    const std::string header = bytes(entry.header, fixed_bytes);
    if (!header.starts_with(kLocalHeader) || number(header, 26, 2) != name.size() ||
        !header.ends_with(name)) {
      refuse(entry.header,
             fmt::format("the record `{}` of its zip archive does not stand where its directory "
                         "says",
                         name));
    }
    check_kind(name, number(header, 6, 2), number(header, 8, 2), entry.header);
    entry.record.begin = entry.header + fixed_bytes + number(header, 28, 2);
    if (entry.record.begin > directory || entry.record.size > directory - entry.record.begin) {
      refuse(entry.at,
             fmt::format("the record `{}` of its zip archive goes beyond its {} bytes", name,
                         directory),
             kFetchAgain);
    }
  }

  void refuse_overlaps(const std::vector<Entry>& entries) const {
    std::vector<const Entry*> order;
    order.reserve(entries.size());
    for (const Entry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(),
              [](const Entry* a, const Entry* b) { return a->header < b->header; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (order[i]->header >= order[i - 1]->record.end()) continue;
      refuse(order[i]->header, fmt::format("the records `{}` and `{}` of its zip archive overlap",
                                           order[i - 1]->record.name, order[i]->record.name));
    }
  }

  const ReadFile& file_;
};

}  // namespace

std::vector<ZipRecord> read_zip_records(const ReadFile& file) { return Archive(file).read(); }

}  // namespace thorns
