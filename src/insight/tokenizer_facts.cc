#include "insight/tokenizer_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/path_within.h"
#include "checkpoint/gguf_facts.h"
#include "checkpoint/json_events.h"
#include "checkpoint/tokens.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestTokenizer = std::uint64_t{64} << 20;
constexpr std::uint64_t kLargestConfig = std::uint64_t{4} << 20;
constexpr std::array<std::string_view, 4> kRoles = {"bos", "eos", "unk", "pad"};

// The `model.type` of a tokenizer.json; nothing else is kept.
class KindEvents final : public JsonEvents {
 public:
  std::string kind;

  void begin_object() override { path_.emplace_back(); }
  void end_object() override { path_.pop_back(); }
  void begin_array() override { path_.emplace_back(); }
  void end_array() override { path_.pop_back(); }
  void key(std::string& name) override { path_.back() = std::move(name); }
  void scalar(const JsonScalar& value) override {
    if (value.kind != JsonScalar::Kind::Text || path_.size() != 2) return;
    if (path_[0] == "model" && path_[1] == "type") kind = *value.text;
  }

 private:
  std::vector<std::string> path_;  // the key of the value that is being read, at each depth
};

class TokenizerReader {
 public:
  TokenizerReader(Disk& disk, const std::string& folder, std::vector<InspectNote>& notes)
      : disk_(disk), folder_(folder), notes_(notes) {}

  TokenizerFacts read(const std::vector<std::string>& files) {
    facts_.files = files;
    if (std::any_of(facts_.files.begin(), facts_.files.end(), is_sentencepiece_name)) {
      facts_.kind = "SentencePiece";
    }
    attempt("tokenizer.json", [&](const std::string& path) {
      KindEvents events;
      read_json_events(read_text(disk_, path, kLargestTokenizer), path, 0, events);
      facts_.kind = events.kind;
    });
    count_tokens();
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
      read(path_within(disk_, folder_, name));
    } catch (const Error& error) {
      note_broken(error);
    }
  }

  // Says once what is broken, whichever reader found it.
  void note_broken(const Error& error) {
    if (notes_.empty() || notes_.back().message != error.message()) {
      notes_.push_back({"tokenizer-broken", error.message()});
    }
  }

  void count_tokens() {
    try {
      const TokenList list = read_tokens(disk_, folder_, facts_.files);
      if (list.empty()) return;
      facts_.tokens = list.end();
      facts_.added = static_cast<std::uint64_t>(
          std::count_if(list.tokens.begin(), list.tokens.end(),
                        [](const ModelToken& token) { return token.added; }));
      const std::uint64_t holes = list.end() - list.tokens.size();
      if (holes == 0) return;
      notes_.push_back({"token-ids-have-holes",
                        fmt::format("{} of the ids below {} belong to no token of the tokenizer",
                                    holes, list.end())});
    } catch (const Error& error) {
      note_broken(error);
    }
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
  const std::string& folder_;
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

std::optional<TokenizerFacts> tokenizer_facts(Disk& disk, const std::string& path,
                                              const std::vector<std::string>& files,
                                              const std::string& weights,
                                              std::vector<InspectNote>& notes) {
  if (files.empty()) return tokenizer_of_gguf(*disk.open(weights));
  return TokenizerReader(disk, path, notes).read(files);
}

}  // namespace thorns
