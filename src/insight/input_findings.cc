// What configurations, tokenizers and model cards say of models that are to become one.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <map>
#include <set>

#include "base/hash.h"
#include "base/path_within.h"
#include "base/text.h"
#include "checkpoint/tokens.h"
#include "insight/findings.h"
#include "output/card_license.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestText = std::uint64_t{1} << 20;  // of a card or template
constexpr std::uint64_t kLargestCompared = std::uint64_t{64} << 20;
constexpr std::size_t kPiece = std::size_t{1} << 20;
constexpr std::size_t kLongestValue = 60;  // shown of a field

// A field of config.json that should be the same in all models of a merge.
struct ConfigField {
  const char* name;
  const char* absent;  // what a model without it has; nullptr: nothing is known of it
  const char* what;    // why it matters
};
constexpr std::array<ConfigField, 14> kConfigFields = {{
    {"model_type", nullptr, "the models are not of one architecture"},
    {"rope_theta", "10000.0", "positions are encoded with another base"},
    {"rope_scaling", "null", "positions are stretched in another way"},
    {"max_position_embeddings", nullptr, "the models were made for other context lengths"},
    {"sliding_window", "null", "attention reaches differently far"},
    {"num_attention_heads", nullptr, "the rows of the attention tensors mean other heads"},
    {"num_key_value_heads", nullptr, "the rows of the attention tensors mean other heads"},
    {"head_dim", nullptr, "the rows of the attention tensors mean other heads"},
    {"rms_norm_eps", nullptr, "the norms are computed a little differently"},
    {"hidden_act", nullptr, "the models compute with other activations"},
    {"bos_token_id", nullptr, "texts begin with another token"},
    {"eos_token_id", nullptr, "answers end with another token"},
    {"pad_token_id", nullptr, "another token fills batches"},
    {"tie_word_embeddings", nullptr, "the output head is the embedding in some models only"},
}};

// "10000.0" and "10000" are one number.
std::string value_text(const Json& value) {
  if (value.is_number()) return fmt::format("{:g}", value.get<double>());
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kLongestValue) text = text.substr(0, kLongestValue) + "...";
  return text;
}

const Json* field_of(const Json& config, const char* name) {
  if (!config.is_object()) return nullptr;
  for (const Json* object :
       {&config,
        config.contains("text_config") ? &config["text_config"] : static_cast<Json*>(nullptr)}) {
    if (object == nullptr || !object->is_object()) continue;
    const auto at = object->find(name);
    if (at != object->end()) return &*at;
  }
  return nullptr;
}

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return text;
}

// The last component of a path or repository, with only letters and digits, for comparing names.
std::string plain_name(const std::string& where) {
  std::string name = lowered(base_name(where));
  std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return name;
}

class InputFindings {
 public:
  InputFindings(Disk& disk, const Plan& plan) : disk_(disk), plan_(plan) {}

  std::vector<Finding> run() {
    for (const ConfigField& field : kConfigFields) compare_field(field);
    compare_tokenizers();
    compare_prompts();
    compare_licenses();
    check_bases();
    return std::move(findings_);
  }

 private:
  const std::string& name_of(std::size_t leaf) const { return plan_.recipe.leaves[leaf].name; }

  // Leaves by what they have, in the order in which each first comes.
  class Groups {
   public:
    void add(const std::string& value, const std::string& leaf) {
      const auto [at, is_new] = by_value_.emplace(value, std::vector<std::string>{});
      if (is_new) order_.push_back(value);
      at->second.push_back(leaf);
    }
    std::size_t size() const { return order_.size(); }
    // "10000 in A, B; 500000 in C"
    std::string text() const {
      std::string text;
      for (const std::string& value : order_) {
        text += fmt::format("{}{} in {}", text.empty() ? "" : "; ", value,
                            list_text(by_value_.at(value), 4));
      }
      return text;
    }
    // "A, B | C"
    std::string sides() const {
      std::string text;
      for (const std::string& value : order_) {
        text += fmt::format("{}{}", text.empty() ? "" : " | ", list_text(by_value_.at(value), 4));
      }
      return text;
    }

   private:
    std::map<std::string, std::vector<std::string>> by_value_;
    std::vector<std::string> order_;
  };

  void add(const char* code, Severity severity, std::string message, std::string advice,
           Where place = {}) {
    findings_.push_back({code, severity, std::move(message), std::move(advice), std::move(place)});
  }

  void compare_field(const ConfigField& field) {
    Groups groups;
    for (std::size_t i = 0; i < plan_.leaves.size(); ++i) {
      const Json& config = plan_.leaves[i]->config();
      const Json* value = field_of(config, field.name);
      if (value != nullptr && (!value->is_null() || field.absent != nullptr)) {
        groups.add(value_text(*value), name_of(i));
      } else if (value == nullptr && field.absent != nullptr && config.is_object()) {
        groups.add(value_text(Json::parse(field.absent)), name_of(i));
      }
    }
    if (groups.size() < 2) return;
    add("config-differs", Severity::Warning,
        fmt::format("`{}` differs ({}): {}", field.name, groups.text(), field.what),
        fmt::format("the result takes config.json from `{}`; merge models that agree, or edit "
                    "the file afterwards",
                    name_of(0)));
  }

  // ---------------------------------------------------------------- tokenizers

  // Text of a file of a leaf; empty where it has none that can be read.
  std::string text_of(std::size_t leaf, const std::string& name, std::uint64_t limit) {
    const Checkpoint& checkpoint = *plan_.leaves[leaf];
    if (!checkpoint.config().is_object()) return {};  // a single file, in any folder
    try {
      return read_text(disk_, path_within(disk_, checkpoint.path(), name), limit);
    } catch (const Error&) {
      return {};
    }
  }

  Json json_of(std::size_t leaf, const std::string& name) {
    const std::string text = text_of(leaf, name, kLargestCompared);
    if (text.empty()) return nullptr;
    try {
      return parse_json(text, name);
    } catch (const Error&) {
      return nullptr;
    }
  }

  static std::string hash(const std::string& text) {
    Sha256 sha;
    sha.update(std::as_bytes(std::span(text)));
    return sha.hex();
  }

  // What the tokens of a tokenizer.json are, whatever else it says and in which order.
  static std::string vocabulary_hash(const std::string& tokenizer, const std::string& file) {
    std::string all;
    for (const ModelToken& token : read_tokenizer_json(tokenizer, file).tokens) {
      all += fmt::format("{}{}{}{}", token.text, '\0', token.id, '\0');
    }
    return hash(all);
  }

  // One text for equal tokenizers; empty where a leaf has none that can be compared.
  std::string tokenizer_mark(std::size_t leaf, const std::string& file) {
    const auto& files = plan_.leaves[leaf]->tokenizer_files();
    if (std::find(files.begin(), files.end(), file) == files.end()) return {};
    const std::string text = text_of(leaf, file, kLargestCompared);
    if (text.empty()) return {};
    const std::string bytes = hash(text);
    const auto known = marks_.find(bytes);
    if (known != marks_.end()) return known->second;
    std::string mark = bytes;
    if (file == "tokenizer.json") {
      try {
        mark = vocabulary_hash(text, file);
      } catch (const Error&) {
        mark = bytes;  // what is broken equals only itself
      }
    }
    marks_.emplace(bytes, mark);
    return mark;
  }

  void compare_tokenizers() {
    for (const char* file : {"tokenizer.json", "tokenizer.model", "vocab.json"}) {
      Groups groups;
      for (std::size_t i = 0; i < plan_.leaves.size(); ++i) {
        const std::string mark = tokenizer_mark(i, file);
        if (!mark.empty()) groups.add(mark, name_of(i));
      }
      if (groups.size() < 2) continue;
      add("tokenizers-differ", plan_.vocabulary ? Severity::Note : Severity::Warning,
          fmt::format("the tokens in `{}` differ ({})", file, groups.sides()),
          plan_.vocabulary
              ? "token rows are matched by text, and the result's tokenizer has all tokens"
              : "one row of the embedding may stand for different tokens; merge models of one "
                "tokenizer");
      break;
    }
    for (const char* name : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
      Groups groups;
      for (std::size_t i = 0; i < plan_.leaves.size(); ++i) {
        const Json& config = tokenizer_config(i);
        if (!config.is_object() || !config.contains(name)) continue;
        const Json& token = config[name];
        const Json& text =
            token.is_object() && token.contains("content") ? token["content"] : token;
        if (text.is_string()) groups.add(value_text(text), name_of(i));
      }
      if (groups.size() < 2) continue;
      add("special-tokens-differ", Severity::Warning,
          fmt::format("`{}` differs ({})", name, groups.text()),
          "the result takes the tokenizer of one model (--tokenizer); prompts of the others may "
          "not end where they should");
    }
  }

  const Json& tokenizer_config(std::size_t leaf) {
    const auto known = tokenizer_configs_.find(leaf);
    if (known != tokenizer_configs_.end()) return known->second;
    return tokenizer_configs_.emplace(leaf, json_of(leaf, "tokenizer_config.json")).first->second;
  }

  // ---------------------------------------------------------------- prompts

  // Names of the prompt formats whose marks stand in `text`.
  static std::set<std::string> formats_in(const std::string& text) {
    std::set<std::string> formats;
    const auto has = [&](const char* mark) { return text.find(mark) != std::string::npos; };
    if (has("### Instruction")) formats.insert("alpaca");
    if (has("<|im_start|>")) formats.insert("chatml");
    if (has("[INST]")) formats.insert("llama2");
    if (has("<|start_header_id|>")) formats.insert("llama3");
    if (has("USER:") && has("ASSISTANT:")) formats.insert("vicuna");
    return formats;
  }

  void compare_prompts() {
    Groups groups;
    std::vector<std::set<std::string>> known;
    for (std::size_t i = 0; i < plan_.leaves.size(); ++i) {
      const Json& config = tokenizer_config(i);
      std::set<std::string> formats;
      if (config.is_object() && config.contains("chat_template") &&
          config["chat_template"].is_string()) {
        formats = formats_in(config["chat_template"].get<std::string>());
      }
      if (formats.empty()) formats = formats_in(text_of(i, "chat_template.jinja", kLargestText));
      if (formats.empty()) formats = formats_in(text_of(i, "README.md", kLargestText));
      if (formats.empty()) continue;
      groups.add(fmt::format("{}", fmt::join(formats, "/")), name_of(i));
      known.push_back(std::move(formats));
    }
    const bool disjoint = std::any_of(known.begin(), known.end(), [&](const auto& a) {
      return std::any_of(known.begin(), known.end(), [&](const auto& b) {
        return std::none_of(a.begin(), a.end(),
                            [&](const std::string& format) { return b.contains(format); });
      });
    });
    if (!disjoint) return;
    add("prompt-formats-differ", Severity::Warning,
        fmt::format("the models were trained on different prompt formats ({})", groups.text()),
        "the result may answer well in neither; say in the recipe which one to use (`prompt:`)");
  }

  // ---------------------------------------------------------------- licences

  void compare_licenses() {
    if (!plan_.recipe.settings.license.empty()) return;  // its author decided
    const Licenses licenses = read_licenses(disk_, plan_);
    Groups groups;
    const auto put = [&](const std::optional<License>& license, const std::string& name) {
      groups.add(!license ? "none" : license->name.empty() ? license->id : license->name, name);
    };
    for (std::size_t i = 0; i < plan_.leaves.size(); ++i) put(licenses.leaves[i], name_of(i));
    for (std::size_t i = 0; i < plan_.adapters.size(); ++i) {
      put(licenses.adapters[i], plan_.recipe.adapters[i].name);
    }
    if (groups.size() < 2) return;
    add("licenses-differ", Severity::Note,
        fmt::format("the inputs do not state one license ({})", groups.text()),
        "the model card will state none; read their terms and set `license:` in the recipe");
  }

  // ---------------------------------------------------------------- bases of adapters

  // The leaves below the folds of an adapter.
  std::set<std::size_t> folded_into(std::size_t adapter) const {
    std::set<std::size_t> leaves;
    const auto& nodes = plan_.recipe.nodes;
    std::vector<std::set<std::size_t>> below(nodes.size());
    for (std::size_t n = 0; n < nodes.size(); ++n) {
      if (const auto* leaf = std::get_if<LeafNode>(&nodes[n].node)) {
        below[n] = {leaf->leaf};
      } else if (const auto* fold = std::get_if<FoldNode>(&nodes[n].node)) {
        below[n] = below[fold->model];
        for (const FoldNode::Share& share : fold->adapters) {
          if (share.adapter == adapter) leaves.insert(below[n].begin(), below[n].end());
        }
      } else {
        for (const std::size_t model : std::get<BlendNode>(nodes[n].node).models) {
          below[n].insert(below[model].begin(), below[model].end());
        }
      }
    }
    return leaves;
  }

  void check_bases() {
    for (std::size_t a = 0; a < plan_.adapters.size(); ++a) {
      const std::string& base = plan_.adapters[a]->base_model();
      if (base.empty()) continue;
      const std::set<std::size_t> targets = folded_into(a);
      const std::vector<std::size_t> named = trained_on(plan_, a);
      if (std::any_of(named.begin(), named.end(),
                      [&](std::size_t leaf) { return targets.contains(leaf); })) {
        continue;
      }
      std::vector<std::string> names;
      for (const std::size_t leaf : targets) names.push_back("`" + name_of(leaf) + "`");
      const bool elsewhere = !named.empty();
      const RecipeAdapter& adapter = plan_.recipe.adapters[a];
      Finding finding{
          "adapter-base-differs", elsewhere ? Severity::Warning : Severity::Note,
          fmt::format("`{}` was trained on `{}` and is folded into {}", adapter.name,
                      base_name(base), list_text(names, 4)),
          elsewhere ? fmt::format("`{}` is another model of this key; fold it there unless this "
                                  "is meant",
                                  name_of(named.back()))
                    : "shapes fit; an adapter does best on fine-tunes of its own base",
          adapter.span};
      finding.adapter = adapter.name;
      findings_.push_back(std::move(finding));
    }
  }

  Disk& disk_;
  const Plan& plan_;
  std::vector<Finding> findings_;
  std::map<std::string, std::string> marks_;  // hash of a tokenizer file -> what it means
  std::map<std::size_t, Json> tokenizer_configs_;
};

bool same_tensor(const TensorSource& a, const TensorSource& b, std::size_t tensor) {
  const std::uint64_t width = size_of(a.tensors()[tensor].dtype);
  const std::uint64_t count = a.tensors()[tensor].elements;
  const std::uint64_t run = kPiece / width;
  std::vector<std::byte> left(kPiece);
  std::vector<std::byte> right(kPiece);
  for (std::uint64_t first = 0; first < count; first += run) {
    const auto bytes = static_cast<std::size_t>(std::min(run, count - first) * width);
    a.read(tensor, first, std::span(left).first(bytes));
    b.read(tensor, first, std::span(right).first(bytes));
    if (std::memcmp(left.data(), right.data(), bytes) != 0) return false;
  }
  return true;
}

bool same_content(const TensorSource& a, const TensorSource& b) {
  const auto left = a.tensors();
  const auto right = b.tensors();
  if (!std::equal(left.begin(), left.end(), right.begin(), right.end(),
                  [](const TensorInfo& x, const TensorInfo& y) {
                    return x.name == y.name && x.dtype == y.dtype && x.shape == y.shape;
                  })) {
    return false;
  }
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (!same_tensor(a, b, i)) return false;
  }
  return true;
}

}  // namespace

std::vector<std::size_t> trained_on(const Plan& plan, std::size_t adapter) {
  const std::string plain = plain_name(plan.adapters[adapter]->base_model());
  std::vector<std::size_t> leaves;
  for (std::size_t i = 0; i < plan.recipe.leaves.size() && !plain.empty(); ++i) {
    const RecipeLeaf& leaf = plan.recipe.leaves[i];
    if (plain == plain_name(leaf.name) || plain == plain_name(leaf.where) ||
        plain == plain_name(leaf.path)) {
      leaves.push_back(i);
    }
  }
  return leaves;
}

std::vector<Finding> input_findings(Disk& disk, const Plan& plan) {
  return InputFindings(disk, plan).run();
}

std::vector<std::size_t> same_adapters(const Plan& plan) {
  std::vector<std::size_t> same;
  for (std::size_t a = 0; a < plan.adapters.size(); ++a) {
    same.push_back(a);
    for (std::size_t b = 0; b < a; ++b) {
      if (same[b] != b) continue;
      if (!same_content(plan.adapters[a]->source(), plan.adapters[b]->source())) continue;
      same[a] = b;
      break;
    }
  }
  return same;
}

}  // namespace thorns
