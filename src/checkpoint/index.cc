#include "checkpoint/index.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "base/text.h"
#include "checkpoint/json_events.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostIndexBytes = 100'000'000;
constexpr std::size_t kMostDepth = 16;

// A shard lies beside its index: anything that could lead elsewhere is refused.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name.find("..") == name.npos &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

// Takes the object `weight_map` and passes over everything else.
class IndexEvents final : public JsonEvents {
 public:
  explicit IndexEvents(const std::string& path) : path_(path) {}

  std::vector<std::pair<std::string, std::size_t>> tensors;
  std::map<std::string, std::size_t> files;  // name -> order of appearance
  bool found = false;                        // weight_map

  void begin_object() override {
    if (depth_ == 1 && key_ == kMap) {
      if (std::exchange(found, true)) fail("`weight_map` stands twice");
      in_map_ = true;
    } else if (in_map_) {
      fail(fmt::format("the file of tensor `{}` is not text", key_));
    }
    deeper();
  }
  void end_object() override { shallower(); }
  void begin_array() override {
    if (depth_ == 0) fail("it is not a JSON object");
    if (in_map_) fail(fmt::format("the file of tensor `{}` is not text", key_));
    if (depth_ == 1 && key_ == kMap) fail("`weight_map` is not an object");
    deeper();
  }
  void end_array() override { shallower(); }
  void key(std::string& name) override { key_ = std::move(name); }

  void scalar(const JsonScalar& value) override {
    if (depth_ == 0) fail("it is not a JSON object");
    if (depth_ == 1 && key_ == kMap) fail("`weight_map` is not an object");
    if (!in_map_) return;
    if (value.kind != JsonScalar::Kind::Text) {
      fail(fmt::format("the file of tensor `{}` is not text", key_));
    }
    if (!is_plain_file_name(*value.text)) {
      fail(
          fmt::format("tensor `{}` is said to be in `{}`, which is not the name of a file beside "
                      "the index",
                      key_, *value.text));
    }
    const auto [file, added] = files.try_emplace(std::move(*value.text), files.size());
    tensors.emplace_back(std::move(key_), file->second);
  }

 private:
  static constexpr const char* kMap = "weight_map";

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` is not a valid shard index: {}", path_, why),
                FilePlace{path_, position()});
  }
  void deeper() {
    if (++depth_ > kMostDepth) fail(fmt::format("it is nested more than {} deep", kMostDepth));
  }
  void shallower() {
    if (--depth_ == 1) in_map_ = false;
  }

  const std::string& path_;
  std::size_t depth_ = 0;
  bool in_map_ = false;
  std::string key_;
};

std::string named(const std::vector<std::string>& names) {
  return fmt::format("{} ({})", names.size(), list_text(names));
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

}  // namespace

ShardIndex read_shard_index(Disk& disk, const std::string& path) {
  const std::string text = read_text(disk, path, kMostIndexBytes);
  refuse_lfs_pointer(text, path);
  IndexEvents events(path);
  read_json_events(text, path, 0, events);
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}`: {}", path, why), FilePlace{path});
  };
  if (!events.found) refuse("the shard index has no `weight_map`");
  if (events.tensors.empty()) refuse("the shard index names no tensor");

  ShardIndex index;
  std::vector<std::size_t> order(events.files.size());  // by appearance -> by name
  for (const auto& [name, appearance] : events.files) {
    order[appearance] = index.files.size();
    index.files.push_back(name);
  }
  index.tensors = std::move(events.tensors);
  for (auto& [name, file] : index.tensors) file = order[file];
  std::sort(index.tensors.begin(), index.tensors.end());
  const auto twice =
      std::adjacent_find(index.tensors.begin(), index.tensors.end(),
                         [](const auto& a, const auto& b) { return a.first == b.first; });
  if (twice != index.tensors.end()) {
    refuse(fmt::format("the tensor `{}` stands twice in the shard index", twice->first));
  }
  return index;
}

void check_shard_index(const ShardIndex& index, const ShardedSource& source,
                       const std::string& path) {
  std::vector<std::string> absent;    // in the index, in no shard
  std::vector<std::string> unlisted;  // in a shard, not in the index
  std::vector<std::string> elsewhere;
  const auto tensors = source.tensors();
  std::size_t i = 0;
  for (const auto& [name, file] : index.tensors) {
    for (; i < tensors.size() && tensors[i].name < name; ++i) unlisted.push_back(tensors[i].name);
    if (i == tensors.size() || tensors[i].name != name) {
      absent.push_back(name);
      continue;
    }
    if (source.file_index(i) != file) {
      elsewhere.push_back(fmt::format("{} in {} instead of {}", name, base_name(source.file_of(i)),
                                      index.files[file]));
    }
    ++i;
  }
  for (; i < tensors.size(); ++i) unlisted.push_back(tensors[i].name);

  std::vector<std::string> parts;
  if (!absent.empty()) parts.push_back("tensors that no shard holds: " + named(absent));
  if (!unlisted.empty()) parts.push_back("tensors missing from the index: " + named(unlisted));
  if (!elsewhere.empty()) parts.push_back("tensors in another shard: " + named(elsewhere));
  if (parts.empty()) return;
  throw Error(ErrorCode::Corrupt,
              fmt::format("the shard index `{}` and its shards disagree; {}", path,
                          fmt::format("{}", fmt::join(parts, "; "))),
              FilePlace{path},
              "index and shards come from different versions; fetch the whole folder again");
}

std::size_t shard_count_of(const std::string& file_name) {
  constexpr std::string_view kOf = "-of-";
  std::string_view stem = file_name;
  for (const std::string_view ending : {".safetensors", ".bin"}) {
    if (file_name.ends_with(ending)) stem.remove_suffix(ending.size());
  }
  if (stem.size() == file_name.size()) return 0;
  const std::size_t of = stem.rfind(kOf);
  if (of == stem.npos) return 0;
  const std::string_view count = stem.substr(of + kOf.size());
  const std::size_t dash = stem.rfind('-', of == 0 ? 0 : of - 1);
  if (dash == stem.npos || dash >= of || !all_digits(stem.substr(dash + 1, of - dash - 1))) {
    return 0;
  }
  if (!all_digits(count) || count.size() > 9) return 0;
  std::size_t number = 0;
  for (const char digit : count) number = number * 10 + static_cast<std::size_t>(digit - '0');
  return number;
}

}  // namespace thorns
