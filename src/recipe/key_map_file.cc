#include "recipe/key_map_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <set>
#include <string_view>

#include "base/json.h"
#include "recipe/recipe_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kExample = "write lines such as  language_model.layers: model.layers";
constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr std::size_t kMostRules = 10'000;

[[noreturn]] void refuse(const FilePlace& place, const std::string& what) {
  throw Error(ErrorCode::BadRecipe, fmt::format("the key map `{}` {}", place.path, what), place,
              kExample);
}

FilePlace place_of(const std::string& path, const YAML::Mark& mark) {
  if (mark.is_null()) return {path};
  return {path, std::nullopt, static_cast<std::size_t>(mark.line) + 1,
          static_cast<std::size_t>(mark.column) + 1};
}

// Collects the rules of one file.
class Rules {
 public:
  void add(std::string from, std::optional<std::string> to, const FilePlace& place) {
    if (from.starts_with(kPeftPrefix)) from.erase(0, kPeftPrefix.size());
    if (!seen_.insert(from).second) refuse(place, fmt::format("has `{}` twice", from));
    if (map_.size() == kMostRules) refuse(place, fmt::format("has more than {} rules", kMostRules));
    map_.push_back({std::move(from), std::move(to)});
  }
  KeyMap finish(const std::string& path) {
    if (map_.empty()) refuse({path}, "is empty");
    return std::move(map_);
  }

 private:
  KeyMap map_;
  std::set<std::string> seen_;
};

KeyMap from_json(const std::string& text, const std::string& path) {
  const Json json = parse_json(text, path);
  Rules rules;
  for (const auto& [from, to] : json.items()) {
    if (to.is_null()) {
      rules.add(from, std::nullopt, {path});
    } else if (to.is_string()) {
      rules.add(from, to.get<std::string>(), {path});
    } else {
      refuse({path}, fmt::format("maps `{}` to what is no name", from));
    }
  }
  return rules.finish(path);
}

KeyMap from_yaml(const std::string& text, const std::string& path) {
  YAML::Node document;
  try {
    document = YAML::Load(text);
  } catch (const YAML::Exception& error) {
    refuse(place_of(path, error.mark), "is not valid YAML: " + error.msg);
  }
  if (document.IsNull()) refuse({path}, "is empty");
  if (!document.IsMap()) refuse(place_of(path, document.Mark()), "is no mapping of names");
  Rules rules;
  for (const auto& pair : document) {
    const FilePlace place = place_of(path, pair.first.Mark());
    if (!pair.first.IsScalar()) refuse(place, "has a name that is no text");
    const std::string& from = pair.first.Scalar();
    if (pair.second.IsNull()) {
      rules.add(from, std::nullopt, place);
    } else if (pair.second.IsScalar()) {
      rules.add(from, pair.second.Scalar(), place);
    } else {
      refuse(place, fmt::format("maps `{}` to what is no name", from));
    }
  }
  return rules.finish(path);
}

}  // namespace

KeyMap parse_key_map(const std::string& text, const std::string& path) {
  const std::size_t start = text.find_first_not_of(" \t\r\n");
  const bool json = start != std::string::npos && text[start] == '{';
  return json ? from_json(text, path) : from_yaml(text, path);
}

KeyMap read_key_map(Disk& disk, const std::string& path) {
  if (!disk.exists(path) || disk.stat(path).is_folder) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no key map `{}`", path), FilePlace{path},
                "check the path");
  }
  if (disk.stat(path).size > kMaxRecipeBytes) {
    throw Error(ErrorCode::BadRecipe,
                fmt::format("the key map `{}` has {} bytes; it may have {}", path,
                            disk.stat(path).size, kMaxRecipeBytes),
                FilePlace{path}, "is this a key map?");
  }
  return parse_key_map(read_text(disk, path, kMaxRecipeBytes), path);
}

}  // namespace thorns
