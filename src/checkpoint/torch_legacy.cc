#include <fmt/format.h>

#include <array>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/hints.h"
#include "checkpoint/pickle.h"
#include "checkpoint/torch_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using Kind = PickleValue::Kind;

// 0x1950a86a20f9469cfc6c as it stands in a pickle.
constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::int64_t kProtocol = 1001;
constexpr std::uint64_t kSizeBytes = 8;  // the number of elements before a storage

class LegacyContainer {
 public:
  explicit LegacyContainer(const ReadFile& file) : file_(file) {}

  TorchFile read() {
    const Pickle magic = next();
    if (magic[magic.root].kind != Kind::LongInt || magic[magic.root].text != kLegacyMagic) {
      magic.refuse(magic[magic.root], "it is a bare pickle, which torch.save does not write",
                   ErrorCode::Unsupported, "save the model's state_dict() with torch.save");
    }
    const Pickle protocol = next();
    if (protocol[protocol.root].kind != Kind::Int || protocol[protocol.root].number != kProtocol) {
      protocol.refuse(protocol[protocol.root], fmt::format("its protocol is not {}", kProtocol),
                      ErrorCode::Unsupported, kSaveAgain);
    }
    check_machine(next());
    const Pickle pickle = next();
    const Pickle keys = next();
    TorchFile result;
    result.state = read_state_dict(pickle);
    result.storages = locate(result.state, pickle, keys);
    return result;
  }

 private:
  Pickle next() {
    Pickle pickle = read_pickle({file_, position_, file_.size()});
    position_ = pickle.end;
    return pickle;
  }

  void check_machine(const Pickle& machine) const {
    const PickleValue& dict = machine[machine.root];
    if (dict.kind != Kind::Dict) machine.refuse(dict, "the machine it was saved on is no dict");
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& key = machine.item(dict, i);
      const PickleValue& value = machine.item(dict, i + 1);
      if (key.kind != Kind::Text || key.text != "little_endian") continue;
      if (value.kind == Kind::Bool && value.number == 1) return;
      machine.refuse(value, "its numbers are not little endian", ErrorCode::Unsupported,
                     "save it again on a little-endian machine");
    }
    machine.refuse(dict, "it does not say whether its numbers are little endian");
  }

  // Walks over the storages, which lie in the order of `keys`.
  std::vector<std::uint64_t> locate(const StateDict& state, const Pickle& pickle,
                                    const Pickle& keys) {
    std::map<std::string_view, std::size_t> by_key;
    for (std::size_t i = 0; i < state.storages.size(); ++i) by_key[state.storages[i].key] = i;
    const PickleValue& list = keys[keys.root];
    if (list.kind != Kind::List) keys.refuse(list, "the keys of its storages are no list");
    std::vector<std::uint64_t> places(state.storages.size(), 0);
    for (const PickleId id : list.items) {
      const PickleValue& key = keys[id];
      const auto found = key.kind == Kind::Text ? by_key.find(key.text) : by_key.end();
      if (found == by_key.end()) {
        keys.refuse(key, "a storage is listed that its pickle does not speak of");
      }
      std::uint64_t& place = places[found->second];
      if (place != 0) keys.refuse(key, "a storage is listed twice");
      place = pass_over(state.storages[found->second]);
    }
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (places[i] != 0) continue;
      refuse_pickle(pickle.path, pickle.begin, state.storages[i].at,
                    fmt::format("storage {} is not in the file", state.storages[i].key));
    }
    if (position_ != file_.size()) {
      refuse(position_,
             fmt::format("there are {} bytes behind its last storage", file_.size() - position_));
    }
    return places;
  }

  // Where the storage's bytes begin.
  std::uint64_t pass_over(const TorchStorage& storage) {
    if (file_.size() - position_ < kSizeBytes) refuse_short(storage);
    std::array<std::byte, kSizeBytes> bytes{};
    file_.read(position_, bytes);
    std::uint64_t elements = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
      elements = elements << 8 | static_cast<std::uint64_t>(bytes[i]);
    }
    if (elements != storage.elements) {
      refuse(position_, fmt::format("storage {} has {} elements, its pickle says {}", storage.key,
                                    elements, storage.elements));
    }
    const std::uint64_t begin = position_ + kSizeBytes;
    if (storage.bytes() > file_.size() - begin) refuse_short(storage);
    position_ = begin + storage.bytes();
    return begin;
  }

  [[noreturn]] void refuse(std::uint64_t at, const std::string& why, const char* hint = "") const {
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` is not a valid PyTorch checkpoint: {}", file_.path(), why),
                FilePlace{file_.path(), at}, hint);
  }
  [[noreturn]] void refuse_short(const TorchStorage& storage) const {
    refuse(file_.size(),
           fmt::format("storage {} of {} bytes goes beyond its end", storage.key, storage.bytes()),
           kFetchAgain);
  }

  const ReadFile& file_;
  std::uint64_t position_ = 0;
};

}  // namespace

TorchFile read_torch_legacy(const ReadFile& file) { return LegacyContainer(file).read(); }

}  // namespace thorns
