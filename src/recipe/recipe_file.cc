#include "recipe/recipe_file.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "base/text.h"

namespace thorns {
namespace {

const std::vector<std::string>& vocabulary_rules() {
  static const std::vector<std::string> rules = {"union", "gradient", "zero", "truncate", "strict"};
  return rules;
}
const std::vector<std::string>& output_types() {
  static const std::vector<std::string> types = {"float32", "float16", "bfloat16"};
  return types;
}

constexpr const char* kQuoteKeys =
    "YAML reads { and [ itself: put keys in quotes, as in  key: \"{A+B}\"";

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

// "did you mean `x`?", or all that there is.
std::string suggestion(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string near = did_you_mean(word, candidates);
  return near.empty() ? "use one of: " + list_text(candidates, 20) : near;
}

// Watches a parser without building anything.
struct DocumentStart : YAML::EventHandler {
  YAML::Mark mark;  // of the last document

  void OnDocumentStart(const YAML::Mark& start) override { mark = start; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

class Reader {
 public:
  explicit Reader(const std::string& path) { file_.path = path; }

  RecipeFile read(const std::string& text) {
    const YAML::Node document = only_document(text);
    for (const auto& pair : document) field(pair.first, pair.second);
    if (file_.key.value.empty()) {
      throw Error(ErrorCode::BadRecipe, fmt::format("`{}` has no `key`", file_.path),
                  FilePlace{file_.path}, "add a line such as  key: \"{A+B}\"");
    }
    refuse_names_bound_twice();
    return std::move(file_);
  }

 private:
  FilePlace place(const YAML::Mark& mark) const {
    if (mark.is_null()) return {file_.path};
    return {file_.path, std::nullopt, static_cast<std::size_t>(mark.line) + 1,
            static_cast<std::size_t>(mark.column) + 1};
  }

  [[noreturn]] void fail(const YAML::Node& node, const std::string& message,
                         const std::string& hint = {}) const {
    throw Error(ErrorCode::BadRecipe, message, place(node.Mark()), hint);
  }

  YAML::Node only_document(const std::string& text) const {
    YAML::Node document;
    try {
      refuse_second_document(text);
      document = YAML::Load(text);
    } catch (const YAML::Exception& error) {
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("`{}` is not valid YAML: {}", file_.path, error.msg),
                  place(error.mark), kQuoteKeys);
    }
    if (document.IsNull()) {
      throw Error(ErrorCode::BadRecipe, fmt::format("`{}` is empty", file_.path),
                  FilePlace{file_.path}, "a recipe file holds at least a line  key: \"{A+B}\"");
    }
    if (!document.IsMap()) {
      fail(document, fmt::format("`{}` does not hold fields", file_.path),
           "a recipe file has lines such as  key: \"{A+B}\"");
    }
    if (has_field(document, "merge_method")) refuse_mergekit();
    return document;
  }

  // Not YAML::LoadAll: yaml-cpp 0.7 leaves some misplaced tokens where they are and finds empty
  // documents there without end.
  void refuse_second_document(const std::string& text) const {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentStart start;
    if (!parser.HandleNextDocument(start) || !parser.HandleNextDocument(start)) return;
    if (text.find("\n---") != std::string::npos) refuse_mergekit();
    throw Error(ErrorCode::BadRecipe, fmt::format("`{}` is not valid YAML", file_.path),
                place(start.mark), kQuoteKeys);
  }

  [[noreturn]] void refuse_mergekit() const {
    throw Error(ErrorCode::Unsupported,
                fmt::format("mergekit configurations cannot be read yet: `{}`", file_.path),
                FilePlace{file_.path}, "write the merge as a key, for example  key: \"{A+B}\"");
  }

  static bool has_field(const YAML::Node& map, const char* name) {
    return std::any_of(map.begin(), map.end(), [&](const auto& pair) {
      return pair.first.IsScalar() && pair.first.Scalar() == name;
    });
  }

  void field(const YAML::Node& name_node, const YAML::Node& value) {
    const std::string name = name_of(name_node, fields_seen_, "field");
    const auto& readers = field_readers();
    const auto reader = readers.find(name);
    if (reader == readers.end()) {
      std::vector<std::string> known;
      for (const auto& [one, unused] : readers) known.push_back(one);
      fail(name_node, fmt::format("unknown field `{}`", name), suggestion(name, known));
    }
    name_place_ = place(name_node.Mark());
    reader->second(*this, value);
  }

  using FieldReader = std::function<void(Reader&, const YAML::Node&)>;
  static const std::map<std::string, FieldReader>& field_readers() {
    using Node = YAML::Node;
    static const std::map<std::string, FieldReader> readers = {
        {"name", [](Reader& r, const Node& n) { r.settings().name = r.text(n, "name"); }},
        {"models", [](Reader& r, const Node& n) { r.file_.models = r.entries(n, "models"); }},
        {"adapters", [](Reader& r, const Node& n) { r.file_.adapters = r.entries(n, "adapters"); }},
        {"key_maps", [](Reader& r, const Node& n) { r.file_.key_maps = r.entries(n, "key_maps"); }},
        {"let", [](Reader& r, const Node& n) { r.file_.let = r.entries(n, "let"); }},
        {"key",
         [](Reader& r, const Node& n) {
           r.file_.key = {"key", r.key_text(n, "key"), r.place(n.Mark())};
         }},
        {"dtype", [](Reader& r, const Node& n) { r.read_dtype(n); }},
        {"shard_size", [](Reader& r, const Node& n) { r.read_shard_size(n); }},
        {"tokenizer",
         [](Reader& r, const Node& n) {
           r.settings().tokenizer = r.text(n, "tokenizer");
           r.file_.tokenizer_place = r.place(n.Mark());
         }},
        {"vocabulary", [](Reader& r, const Node& n) { r.read_vocabulary(n); }},
        {"prompt", [](Reader& r, const Node& n) { r.settings().prompt = r.text(n, "prompt"); }},
        {"license", [](Reader& r, const Node& n) { r.settings().license = r.text(n, "license"); }},
    };
    return readers;
  }

  RecipeSettings& settings() { return file_.settings; }

  // The text of a name; an error where it stands in `seen` already.
  std::string name_of(const YAML::Node& node, std::set<std::string>& seen, const char* what) {
    if (!node.IsScalar() || node.Scalar().empty() || has_control_character(node.Scalar())) {
      fail(node, fmt::format("a {} name must be text on one line", what));
    }
    const std::string& name = node.Scalar();
    if (!seen.insert(name).second) {
      fail(node, fmt::format("the {} `{}` is given twice", what, name), "remove one of them");
    }
    return name;
  }

  std::string text(const YAML::Node& node, const std::string& field, const char* hint = "") const {
    if (node.IsNull()) {
      // The parser puts a value that is not there somewhere behind; the name is the better place.
      throw Error(ErrorCode::BadRecipe, fmt::format("`{}` has no value", field), name_place_, hint);
    }
    if (!node.IsScalar()) {
      fail(node,
           fmt::format("`{}` must be text, found {}", field, node.IsMap() ? "a mapping" : "a list"),
           hint);
    }
    if (node.Scalar().empty()) fail(node, fmt::format("`{}` is empty", field), hint);
    return node.Scalar();
  }
  std::string key_text(const YAML::Node& node, const std::string& field) const {
    return text(node, field, kQuoteKeys);
  }

  // A mapping of names to text: models, adapters, let.
  std::vector<FileEntry> entries(const YAML::Node& node, const std::string& field) {
    std::vector<FileEntry> result;
    if (node.IsNull()) return result;  // `models:` with all its lines commented out
    if (!node.IsMap()) {
      fail(node, fmt::format("`{}` must map names to values", field),
           field == "let"        ? "write lines such as  Logic: \"{A+B}\""
           : field == "key_maps" ? "write lines such as  Kimiko: ./kimiko-names.yaml"
                                 : "write lines such as  Chronos: ./models/chronos");
    }
    std::set<std::string> seen;
    for (const auto& pair : node) {
      const std::string name = name_of(pair.first, seen, field.c_str());
      name_place_ = place(pair.first.Mark());
      const std::string full_name = fmt::format("{}.{}", field, name);
      std::string value =
          field == "let" ? key_text(pair.second, full_name) : text(pair.second, full_name);
      if (field != "let" && has_control_character(value)) {
        fail(pair.second, fmt::format("`{}` must be text on one line", full_name));
      }
      result.push_back({name, std::move(value), place(pair.second.Mark())});
    }
    return result;
  }

  void read_dtype(const YAML::Node& node) {
    const std::string value = text(node, "dtype");
    settings().dtype = output_dtype(value);
    if (!settings().dtype) {
      fail(node, fmt::format("unknown dtype `{}`", value), suggestion(value, output_types()));
    }
  }
  void read_shard_size(const YAML::Node& node) {
    const std::string value = text(node, "shard_size");
    settings().shard_size = parse_size(value);
    if (!settings().shard_size) {
      fail(node, fmt::format("`shard_size` is not a size: `{}`", value),
           "write sizes such as 5GB or 500MB");
    }
  }
  void read_vocabulary(const YAML::Node& node) {
    const std::string value = text(node, "vocabulary");
    const auto& rules = vocabulary_rules();
    if (std::find(rules.begin(), rules.end(), value) == rules.end()) {
      fail(node, fmt::format("unknown vocabulary rule `{}`", value), suggestion(value, rules));
    }
    settings().vocabulary = value;
  }

  // A name of `let` and one of `models` are both models of the key.
  void refuse_names_bound_twice() const {
    std::set<std::string> models;
    for (const FileEntry& entry : file_.models) models.insert(entry.name);
    for (const FileEntry& entry : file_.let) {
      if (!models.contains(entry.name)) continue;
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("`{}` is bound in both `models` and `let`", entry.name), entry.place,
                  "give one of them another name");
    }
  }

  RecipeFile file_;
  std::set<std::string> fields_seen_;
  FilePlace name_place_;  // of the name whose value is being read
};

}  // namespace

RecipeFile read_recipe_file(const std::string& text, const std::string& path) {
  if (text.size() > kMaxRecipeBytes) {
    throw Error(ErrorCode::BadRecipe,
                fmt::format("`{}` has {} bytes; a recipe has at most {}", path, text.size(),
                            kMaxRecipeBytes),
                FilePlace{path}, "is this a recipe file?");
  }
  return Reader(path).read(text);
}

bool looks_like_recipe_file(std::string_view text) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with('#') || line.starts_with('%') || line == "---") return true;
    std::size_t word = 0;
    while (word < line.size() && is_word(line[word])) ++word;
    if (word == 0 || word == line.size() || line[word] != ':') continue;
    if (word + 1 == line.size() || line[word + 1] == ' ' || line[word + 1] == '\t') return true;
  }
  return false;
}

}  // namespace thorns
