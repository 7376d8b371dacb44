#include "recipe/recipe_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

#include "base/text.h"

namespace thorns {
namespace {

const std::vector<std::string> kFields = {"name",       "models", "adapters",   "let",
                                          "key",        "dtype",  "shard_size", "tokenizer",
                                          "vocabulary", "prompt", "license"};
const std::vector<std::string> kVocabularies = {"union", "gradient", "zero", "truncate", "strict"};

class Reader {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {}

  RecipeFile read(const std::string& text) {
    const YAML::Node root = load(text);
    if (!root.IsMap()) fail(root, "a recipe file is a list of fields, `key:` among them");
    std::set<std::string> seen;
    for (const auto& field : root) {
      const std::string name = scalar(field.first, "a field's name");
      if (!seen.insert(name).second)
        fail(field.first, fmt::format("the field `{}` stands twice", name));
      read_field(name, field.first, field.second);
    }
    if (!seen.contains("key")) fail(root, "the field `key` is missing");
    return std::move(file_);
  }

 private:
  YAML::Node load(const std::string& text) {
    if (text.size() > kMostRecipeBytes) {
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("the recipe has {} bytes; at most {} are allowed", text.size(),
                              kMostRecipeBytes),
                  FilePlace{path_});
    }
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(text);
      for (const YAML::Node& document : documents) {
        if (document.IsMap() && document["merge_method"]) {
          throw Error(ErrorCode::Unsupported, "mergekit configurations cannot be read yet",
                      FilePlace{path_}, "write it as an ensemble key; `thorns key` explains one");
        }
      }
      if (documents.size() == 1) return documents[0];
      throw Error(
          ErrorCode::BadRecipe,
          fmt::format("a recipe file is one YAML document; this one has {}", documents.size()),
          FilePlace{path_});
    } catch (const YAML::Exception& error) {
      throw Error(ErrorCode::BadRecipe, fmt::format("the recipe is not valid YAML: {}", error.msg),
                  place(error.mark));
    }
  }

  void read_field(const std::string& name, const YAML::Node& at, const YAML::Node& value) {
    RecipeSettings& settings = file_.settings;
    if (name == "models") {
      file_.names.models = read_places(value, "models");
    } else if (name == "adapters") {
      file_.names.adapters = read_places(value, "adapters");
    } else if (name == "let") {
      file_.lets = read_map(value, "let");
      for (const auto& [let, key] : file_.lets) file_.names.lets.push_back(let);
    } else if (name == "key") {
      file_.key = scalar(value, "`key`");
    } else if (name == "name") {
      settings.name = scalar(value, "`name`");
    } else if (name == "dtype") {
      settings.dtype = output_dtype(scalar(value, "`dtype`"));
      if (!settings.dtype) fail(value, "`dtype` must be float32, float16 or bfloat16");
    } else if (name == "shard_size") {
      settings.shard_size = parse_size(scalar(value, "`shard_size`"));
      if (!settings.shard_size) fail(value, "`shard_size` must be a size such as 5GB or 500MB");
    } else if (name == "tokenizer") {
      settings.tokenizer = scalar(value, "`tokenizer`");
    } else if (name == "vocabulary") {
      settings.vocabulary = scalar(value, "`vocabulary`");
      if (std::find(kVocabularies.begin(), kVocabularies.end(), settings.vocabulary) ==
          kVocabularies.end()) {
        fail(value, "`vocabulary` must be one of " + list_text(kVocabularies),
             did_you_mean(settings.vocabulary, kVocabularies));
      }
    } else if (name == "prompt") {
      settings.prompt = scalar(value, "`prompt`");
    } else if (name == "license") {
      settings.license = scalar(value, "`license`");
    } else {
      const std::string hint = did_you_mean(name, kFields);
      fail(at, fmt::format("unknown field `{}`", name),
           hint.empty() ? "fields: " + list_text(kFields, 20) : hint);
    }
  }

  std::vector<std::pair<std::string, std::string>> read_map(const YAML::Node& node,
                                                            const std::string& field) {
    if (!node.IsMap()) fail(node, fmt::format("`{}` must be a list of `NAME: value` lines", field));
    std::vector<std::pair<std::string, std::string>> entries;
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string name = scalar(entry.first, "a name");
      if (!seen.insert(name).second)
        fail(entry.first, fmt::format("`{}` stands twice in `{}`", name, field));
      entries.emplace_back(name, scalar(entry.second, fmt::format("`{}`", name)));
    }
    return entries;
  }

  std::map<std::string, std::string> read_places(const YAML::Node& node, const std::string& field) {
    std::map<std::string, std::string> places;
    for (auto& [name, where] : read_map(node, field)) places.emplace(name, where);
    return places;
  }

  std::string scalar(const YAML::Node& node, const std::string& what) {
    if (!node.IsScalar() || node.Scalar().empty()) fail(node, what + " must be a piece of text");
    return node.Scalar();
  }

  FilePlace place(const YAML::Mark& mark) const {
    FilePlace where{path_};
    if (!mark.is_null()) {
      where.line = static_cast<std::size_t>(mark.line) + 1;
      where.column = static_cast<std::size_t>(mark.column) + 1;
    }
    return where;
  }

  [[noreturn]] void fail(const YAML::Node& node, const std::string& message,
                         const std::string& hint = {}) {
    throw Error(ErrorCode::BadRecipe, message, place(node.Mark()), hint);
  }

  std::string path_;
  RecipeFile file_;
};

}  // namespace

RecipeFile read_recipe_file(const std::string& text, const std::string& path) {
  return Reader(path).read(text);
}

}  // namespace thorns
