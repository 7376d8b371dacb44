#include <fmt/format.h>

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/pickle.h"
#include "checkpoint/torch_file.h"
#include "checkpoint/zip_archive.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostSmallRecord = 64;  // bytes of `version` and `byteorder`
constexpr unsigned long kNewestVersion = 10;    // of the container; PyTorch 2 writes 3

class ZipContainer {
 public:
  explicit ZipContainer(const ReadFile& file) : file_(file) {
    for (ZipRecord& record : read_zip_records(file)) {
      // The folder that all records lie in is named after the file as it was once saved.
      if (folder_.empty()) folder_ = record.name.substr(0, record.name.find('/') + 1);
      std::string name = record.name;
      records_.emplace(std::move(name), std::move(record));
    }
  }

  TorchFile read() const {
    if (find("constants.pkl") != nullptr) {
      refuse(ErrorCode::Unsupported, 0, "it is a TorchScript program, not a checkpoint",
             "save the model's state_dict()");
    }
    const ZipRecord* const pickled = find("data.pkl");
    if (pickled == nullptr || folder_.empty()) {
      refuse(ErrorCode::Unsupported, 0, "it is a zip archive without a data.pkl, no checkpoint",
             "unpack it, if it holds one");
    }
    check_version();
    check_byte_order();
    const Pickle pickle = read_pickle({file_, pickled->begin, pickled->end()});
    if (pickle.end != pickled->end()) {
      refuse(ErrorCode::Corrupt, pickle.end, "there are bytes behind the end mark of its pickle");
    }
    TorchFile result;
    result.state = read_state_dict(pickle);
    for (const TorchStorage& storage : result.state.storages) {
      result.storages.push_back(locate(storage, pickle));
    }
    return result;
  }

 private:
  [[noreturn]] void refuse(ErrorCode code, std::uint64_t at, const std::string& why,
                           const char* hint = "") const {
    throw Error(code, fmt::format("`{}`: {}", file_.path(), why), FilePlace{file_.path(), at},
                hint);
  }

  const ZipRecord* find(const std::string& name) const {
    const auto found = records_.find(folder_ + name);
    return found == records_.end() ? nullptr : &found->second;
  }

  std::string small_text(const ZipRecord& record) const {
    if (record.size > kMostSmallRecord) {
      refuse(ErrorCode::Corrupt, record.begin,
             fmt::format("its record `{}` has {} bytes", record.name, record.size));
    }
    std::string text(record.size, '\0');
    file_.read(record.begin, std::as_writable_bytes(std::span(text)));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    return text;
  }

  void check_version() const {
    const ZipRecord* const record = find("version");
    if (record == nullptr) return;
    const std::string text = small_text(*record);
    const bool digits = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    if (digits && text.size() <= 2 && std::stoul(text) <= kNewestVersion) return;
    refuse(ErrorCode::Unsupported, record->begin,
           fmt::format("the version of its container is not one from 1 to {}", kNewestVersion));
  }

  void check_byte_order() const {
    const ZipRecord* const record = find("byteorder");
    if (record == nullptr || small_text(*record) == "little") return;
    refuse(ErrorCode::Unsupported, record->begin, "its numbers are not little endian",
           "save it again on a little-endian machine");
  }

  std::uint64_t locate(const TorchStorage& storage, const Pickle& pickle) const {
    const ZipRecord* const record = find("data/" + storage.key);
    if (record == nullptr) {
      refuse_pickle(pickle.path, pickle.begin, storage.at,
                    fmt::format("storage {} is not in the file", storage.key));
    }
    if (record->size != storage.bytes()) {
      refuse_pickle(pickle.path, pickle.begin, storage.at,
                    fmt::format("storage {} should have {} bytes, its record has {}", storage.key,
                                storage.bytes(), record->size));
    }
    return record->begin;
  }

  const ReadFile& file_;
  std::string folder_;  // "archive/"
  std::map<std::string, ZipRecord> records_;
};

}  // namespace

TorchFile read_torch_zip(const ReadFile& file) { return ZipContainer(file).read(); }

}  // namespace thorns
