#include "insight/tokenizer_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/path_within.h"
#include "checkpoint/gguf_facts.h"
#include "checkpoint/json_events.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestTokenizer = std::uint64_t{64} << 20;
constexpr std::uint64_t kLargestConfig = std::uint64_t{4} << 20;
constexpr std::array<std::string_view, 4> kRoles = {"bos", "eos", "unk", "pad"};

// tokenizer.json as it passes by: what it is and how many tokens it has, without keeping any.
class TokenizerEvents final : public JsonEvents {
 public:
  std::string kind;
  bool has_vocabulary = false;
  std::uint64_t vocabulary = 0;  // tokens of it
  std::uint64_t end = 0;         // its largest id + 1
  std::vector<std::uint64_t> added;

  void begin_object() override { open(false); }
  void end_object() override { path_.pop_back(); }
  void begin_array() override { open(true); }
  void end_array() override { path_.pop_back(); }
  void key(std::string& name) override { path_.back().key = std::move(name); }
  void scalar(const JsonScalar& value) override {
    const bool counts = value.kind == JsonScalar::Kind::Unsigned &&
                        value.number < std::numeric_limits<std::uint64_t>::max();
    if (at({"model", "type"}) && value.kind == JsonScalar::Kind::Text) kind = *value.text;
    if (counts && at({"model", "vocab", "*"}) && !path_.back().is_array) {
      ++vocabulary;
      end = std::max(end, value.number + 1);
    }
    if (counts && at({"added_tokens", "*", "id"})) added.push_back(value.number);
  }

 private:
  struct Level {
    bool is_array = false;
    std::string key;  // of the value that is being read; "*" in an array
  };

  void open(bool is_array) {
    has_vocabulary = has_vocabulary || at({"model", "vocab"});
    // A Unigram vocabulary is a list of pairs; a token's id is its place.
    if (is_array && at({"model", "vocab", "*"}) && path_.back().is_array) end = ++vocabulary;
    path_.push_back({is_array, "*"});
  }
  bool at(std::initializer_list<std::string_view> path) const {
    return std::equal(
        path_.begin(), path_.end(), path.begin(), path.end(),
        [](const Level& level, std::string_view name) { return level.key == name || name == "*"; });
  }

  std::vector<Level> path_;
};

class TokenizerReader {
 public:
  TokenizerReader(Disk& disk, const Checkpoint& model, std::vector<InspectNote>& notes)
      : disk_(disk), model_(model), notes_(notes) {}

  TokenizerFacts read() {
    facts_.files = model_.tokenizer_files();
    attempt("tokenizer.model", [&](const std::string&) { facts_.kind = "SentencePiece"; });
    attempt("tokenizer.json", [&](const std::string& path) { read_tokenizer(path); });
    for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
      attempt(name, [&](const std::string& path) { read_special(path); });
    }
    for (const std::string& file : facts_.files) {
      facts_.chat_template = facts_.chat_template || file.starts_with("chat_template.");
    }
    return std::move(facts_);
  }

 private:
  template <typename Read>
  void attempt(const std::string& name, Read read) {
    const auto& files = facts_.files;
    if (std::find(files.begin(), files.end(), name) == files.end()) return;
    try {
      read(path_within(disk_, model_.path(), name));
    } catch (const Error& error) {
      notes_.push_back({"tokenizer-broken", error.message()});
    }
  }

  void read_tokenizer(const std::string& path) {
    TokenizerEvents events;
    read_json_events(read_text(disk_, path, kLargestTokenizer), path, 0, events);
    facts_.kind = events.kind;
    if (!events.has_vocabulary) return;
    std::vector<std::uint64_t>& added = events.added;
    std::sort(added.begin(), added.end());
    added.erase(std::unique(added.begin(), added.end()), added.end());
    added.erase(added.begin(), std::lower_bound(added.begin(), added.end(), events.end));
    facts_.added = added.size();
    facts_.tokens = added.empty() ? events.end : added.back() + 1;
    const std::uint64_t ids = events.vocabulary + added.size();
    if (ids >= *facts_.tokens) return;
    notes_.push_back({"token-ids-have-holes",
                      fmt::format("{} of the ids below {} belong to no token of tokenizer.json",
                                  *facts_.tokens - ids, *facts_.tokens)});
  }

  void read_special(const std::string& path) {
    const Json config = parse_json(read_text(disk_, path, kLargestConfig), path);
    if (!config.is_object()) return;
    for (const std::string_view role : kRoles) {
      const auto token = config.find(fmt::format("{}_token", role));
      if (token == config.end()) continue;
      if (token->is_string()) {
        set_special(role, token->get<std::string>());
      } else if (token->is_object() && token->contains("content") &&
                 (*token)["content"].is_string()) {
        set_special(role, (*token)["content"].get<std::string>());
      }
    }
    facts_.chat_template = facts_.chat_template || config.contains("chat_template");
  }

  void set_special(std::string_view role, std::string token) {
    const auto known = std::find_if(facts_.special.begin(), facts_.special.end(),
                                    [&](const SpecialToken& one) { return one.role == role; });
    if (known != facts_.special.end()) {
      known->token = std::move(token);
    } else {
      facts_.special.push_back({std::string(role), std::move(token)});
    }
  }

  Disk& disk_;
  const Checkpoint& model_;
  std::vector<InspectNote>& notes_;
  TokenizerFacts facts_;
};

std::optional<TokenizerFacts> tokenizer_of_gguf(const ReadFile& file) {
  const auto gguf = read_gguf_facts(file);
  if (!gguf || gguf->tokenizer.empty()) return std::nullopt;
  TokenizerFacts facts;
  facts.kind = gguf->tokenizer;
  if (gguf->tokens > 0) facts.tokens = gguf->tokens;
  facts.chat_template = gguf->chat_template;
  return facts;
}

}  // namespace

std::optional<TokenizerFacts> tokenizer_facts(Disk& disk, const Checkpoint& model,
                                              std::vector<InspectNote>& notes) {
  if (model.tokenizer_files().empty()) {
    return tokenizer_of_gguf(*disk.open(model.files().front().path));
  }
  return TokenizerReader(disk, model, notes).read();
}

}  // namespace thorns
