#include "hub/choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "base/json.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

struct Format {
  std::vector<std::string_view> endings;
  const char* whole;
  const char* index;
};
const std::array<Format, 2>& formats() {
  static const std::array<Format, 2> list = {
      {{{".safetensors"}, "model.safetensors", "model.safetensors.index.json"},
       {{".bin", ".pt", ".pth"}, "pytorch_model.bin", "pytorch_model.bin.index.json"}}};
  return list;
}

constexpr std::array<std::string_view, 2> kAdapters = {"adapter_model.safetensors",
                                                       "adapter_model.bin"};
constexpr const char* kTemplates = "additional_chat_templates/";

bool ends_with_any(const std::string& name, const std::vector<std::string_view>& endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

bool is_top(const std::string& name) { return name.find('/') == std::string::npos; }

// Configuration, tokenizer, card and licence, by their names.
bool is_side_file(const std::string& name) {
  if (is_weights(name)) return false;  // "NOTICE.safetensors" is a strange name, but no notice
  if (name.starts_with(kTemplates)) return name.ends_with(".jinja");
  if (!is_top(name)) return false;
  static constexpr std::array kTexts = {"README", "LICEN", "NOTICE", "USE_POLICY"};
  if (std::any_of(kTexts.begin(), kTexts.end(),
                  [&](const char* start) { return name.starts_with(start); })) {
    return true;
  }
  if (name.starts_with("tokenization_")) return name.ends_with(".py");
  if (name.find(".index.") != std::string::npos || name == "trainer_state.json" ||
      name == "all_results.json" || name == "train_results.json" || name == "params.json") {
    return false;
  }
  return ends_with_any(name, {".json", ".model", ".jinja"}) || name == "vocab.txt" ||
         name == "merges.txt";
}

// What training leaves beside the weights, and weights for other programs.
bool is_no_model(const std::string& name) {
  static constexpr std::array kStarts = {"consolidated", "training_args", "optimizer",
                                         "scheduler",    "scaler",        "rng_state",
                                         "adapter_model"};
  return std::any_of(kStarts.begin(), kStarts.end(),
                     [&](const char* start) { return name.starts_with(start); });
}

const HubFile* find(const HubListing& listing, const std::string& name) {
  const auto at = std::lower_bound(
      listing.files.begin(), listing.files.end(), name,
      [](const HubFile& file, const std::string& wanted) { return file.name < wanted; });
  return at != listing.files.end() && at->name == name ? &*at : nullptr;
}

std::vector<HubFile> top_files(const HubListing& listing,
                               const std::vector<std::string_view>& endings) {
  std::vector<HubFile> found;
  std::copy_if(listing.files.begin(), listing.files.end(), std::back_inserter(found),
               [&](const HubFile& file) {
                 return is_top(file.name) && ends_with_any(file.name, endings) &&
                        !is_no_model(file.name);
               });
  return found;
}

[[noreturn]] void refuse_several(const Repository& repository, const std::vector<HubFile>& files) {
  std::vector<std::string> names;
  for (const HubFile& file : files) {
    names.push_back(fmt::format("{} ({})", file.name, human_bytes(file.size)));
  }
  throw Error(
      ErrorCode::Unsupported,
      fmt::format("`{}` has {} files of weights of which one is meant: {}", repository.text(),
                  files.size(), list_text(names)),
      {},
      fmt::format("name it: thorns fetch {} --include {}", repository.text(), files.front().name));
}

// What the parts of one GGUF model share of their names ("a" of "a-00001-of-00003.gguf"); the whole
// name of a file that is no part.
std::string whole_of(const std::string& name) {
  constexpr std::string_view kPart = "-00001-of-00003.gguf";
  if (name.size() <= kPart.size()) return name;
  const std::size_t stem = name.size() - kPart.size();
  for (std::size_t i = 0; i < kPart.size(); ++i) {
    const char c = name[stem + i];
    const bool digit = kPart[i] >= '0' && kPart[i] <= '9';
    if (digit ? c < '0' || c > '9' : c != kPart[i]) return name;
  }
  return name.substr(0, stem);
}

// The one GGUF model, in however many parts. False: there is none.
bool choose_gguf(const Repository& repository, const HubListing& listing, HubChoice& choice) {
  const std::vector<HubFile> found = top_files(listing, {".gguf"});
  if (found.empty()) return false;
  const bool one = std::all_of(found.begin(), found.end(), [&](const HubFile& file) {
    return whole_of(file.name) == whole_of(found.front().name);
  });
  if (!one) refuse_several(repository, found);
  choice.files.insert(choice.files.end(), found.begin(), found.end());
  return true;
}

// Adds the weights of a model. False: there are none.
bool choose_weights(const Repository& repository, const HubListing& listing, HubChoice& choice) {
  for (const Format& format : formats()) {
    if (const HubFile* const index = find(listing, format.index)) {
      choice.files.push_back(*index);
      choice.index = index->name;
      return true;
    }
    if (const HubFile* const whole = find(listing, format.whole)) {
      choice.files.push_back(*whole);
      return true;
    }
    const std::vector<HubFile> found = top_files(listing, format.endings);
    if (found.size() > 1) refuse_several(repository, found);
    if (found.size() == 1) {
      choice.files.push_back(found.front());
      return true;
    }
  }
  return false;
}

bool choose_adapter(const HubListing& listing, HubChoice& choice) {
  for (const std::string_view name : kAdapters) {
    if (const HubFile* const file = find(listing, std::string(name))) {
      choice.files.push_back(*file);
      return true;
    }
  }
  return false;
}

// `*` and `?`; linear in both by going back to the last star only.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t star = std::string_view::npos;
  std::size_t t = 0;
  std::size_t after_star = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after_star = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++after_star;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

bool is_weights(const std::string& name) {
  return name.ends_with(".gguf") ||
         std::any_of(formats().begin(), formats().end(),
                     [&](const Format& format) { return ends_with_any(name, format.endings); });
}

HubChoice choose_files(const Repository& repository, const HubListing& listing) {
  HubChoice choice;
  std::copy_if(listing.files.begin(), listing.files.end(), std::back_inserter(choice.files),
               [](const HubFile& file) { return is_side_file(file.name); });
  const bool adapter = choose_adapter(listing, choice);
  if (!choose_weights(repository, listing, choice) && !adapter &&
      !choose_gguf(repository, listing, choice)) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("`{}` has no weights that thorns reads among its {} files",
                            repository.text(), listing.files.size()),
                {},
                "safetensors, PyTorch files and GGUF are read; other files are fetched with "
                "--include PATTERN");
  }
  std::sort(choice.files.begin(), choice.files.end(),
            [](const HubFile& a, const HubFile& b) { return a.name < b.name; });
  return choice;
}

std::vector<HubFile> matching_files(const Repository& repository, const HubListing& listing,
                                    const std::vector<std::string>& patterns) {
  std::vector<bool> used(patterns.size(), false);
  std::vector<HubFile> found;
  for (const HubFile& file : listing.files) {
    const std::string last = file.name.substr(file.name.rfind('/') + 1);
    bool wanted = false;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!matches(patterns[i], file.name) && !matches(patterns[i], last)) continue;
      used[i] = true;
      wanted = true;
    }
    if (wanted) found.push_back(file);
  }
  const auto idle = std::find(used.begin(), used.end(), false);
  if (idle != used.end()) {
    std::vector<std::string> names;
    for (const HubFile& file : listing.files) names.push_back(file.name);
    throw Error(ErrorCode::NotFound,
                fmt::format("no file of `{}` is called `{}`", repository.text(),
                            patterns[static_cast<std::size_t>(idle - used.begin())]),
                {}, "it has " + list_text(names));
  }
  return found;
}

std::vector<HubFile> indexed_files(const HubListing& listing, const std::string& index,
                                   const std::string& place) {
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::Corrupt, "the shard index " + why, FilePlace{place});
  };
  const Json parsed = parse_json(index, place);
  const auto map = parsed.is_object() ? parsed.find("weight_map") : parsed.end();
  if (map == parsed.end() || !map->is_object()) refuse("has no `weight_map`");
  std::set<std::string> names;
  for (const Json& name : *map) {
    if (!name.is_string()) refuse("names a file by something that is no text");
    names.insert(name.get<std::string>());
  }
  std::vector<HubFile> files;
  for (const std::string& name : names) {
    const HubFile* const file = find(listing, name);
    if (file == nullptr) {
      refuse(fmt::format("names `{}`, which the repository does not have",
                         is_utf8(name) ? name.substr(0, 100) : "?"));
    } else {
      files.push_back(*file);
    }
  }
  return files;
}

}  // namespace thorns
