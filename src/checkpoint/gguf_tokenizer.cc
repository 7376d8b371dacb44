#include "checkpoint/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// tokenizer.ggml.token_type, in the numbers of SentencePiece.
enum TokenType { Normal = 1, Unknown, Control, UserDefined, Unused, Byte };

// How text is cut before byte-level BPE.
struct PreTokenizer {
  std::string_view ggml;
  const char* pattern;  // nullptr: that of GPT-2, which transformers knows by itself
  bool composes;        // to NFC first
  bool whole_words;     // a word that is a token is not merged from its parts
};
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::array<PreTokenizer, 5> kPreTokenizers = {{{"llama-bpe", kLlama3, false, true},
                                                         {"llama3", kLlama3, false, true},
                                                         {"llama-v3", kLlama3, false, true},
                                                         {"qwen2", kQwen2, true, false},
                                                         {"gpt-2", nullptr, false, false}}};

std::string text(const GgufHeader& header, const std::string& name) {
  const auto found = header.fields.find("tokenizer." + name);
  if (found == header.fields.end() || !found->second.is_string()) return {};
  return found->second.get<std::string>();
}

const PreTokenizer* pre_tokenizer(const GgufHeader& header) {
  const std::string name = text(header, "ggml.pre");
  const auto* const found = std::find_if(kPreTokenizers.begin(), kPreTokenizers.end(),
                                         [&](const PreTokenizer& one) { return one.ggml == name; });
  return found == kPreTokenizers.end() ? nullptr : found;
}

// Fields of Google's protocol buffers: a key of number and wire type, then the value.
class Message {
 public:
  Message& number(std::uint32_t field, std::uint64_t value) {
    key(field, 0);
    varint(value);
    return *this;
  }
  Message& bytes(std::uint32_t field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    text_ += value;
    return *this;
  }
  Message& real(std::uint32_t field, float value) {
    key(field, 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) text_ += static_cast<char>(bits >> shift & 0xFF);
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  void key(std::uint32_t field, std::uint32_t wire) { varint(std::uint64_t{field} << 3 | wire); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(0x80 | (value & 0x7F));
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

class Maker {
 public:
  Maker(const ReadFile& file, const GgufHeader& header) : file_(file), header_(header) {
    tokens_ = texts("tokens");
    const std::vector<double> types = numbers("token_type");
    if (!types.empty() && types.size() != tokens_.size()) fail("token_type", types.size());
    types_.assign(tokens_.size(), Normal);
    for (std::size_t i = 0; i < types.size(); ++i) {
      const double type = types[i];
      if (type >= 1 && type <= 6) {
        types_[i] = static_cast<TokenType>(static_cast<int>(type));
        continue;
      }
      throw Error(ErrorCode::Corrupt,
                  fmt::format("`{}` has a token of the unknown type {}", file.path(), type),
                  FilePlace{file.path()}, "take the tokenizer of another model (--tokenizer)");
    }
    for (const std::string& token : tokens_) {
      if (!is_utf8(token)) {
        throw Error(ErrorCode::Corrupt,
                    fmt::format("`{}` has a token that is not UTF-8", file.path()),
                    FilePlace{file.path()}, "take the tokenizer of another model (--tokenizer)");
      }
    }
  }

  std::vector<MadeFile> make() const {
    const bool sentencepiece = ::thorns::text(header_, "ggml.model") == "llama";
    return {sentencepiece ? MadeFile{"tokenizer.model", sentencepiece_model()}
                          : MadeFile{"tokenizer.json", bpe_json()},
            {"tokenizer_config.json", config(sentencepiece)}};
  }

 private:
  [[noreturn]] void fail(const std::string& array, std::size_t count) const {
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` has {} tokens and {} elements in `tokenizer.ggml.{}`",
                            file_.path(), tokens_.size(), count, array),
                FilePlace{file_.path()}, "take the tokenizer of another model (--tokenizer)");
  }

  std::vector<std::string> texts(const std::string& name) const {
    const auto found = header_.arrays.find("tokenizer.ggml." + name);
    return found == header_.arrays.end() ? std::vector<std::string>{}
                                         : read_texts(file_, found->second);
  }
  std::vector<double> numbers(const std::string& name) const {
    const auto found = header_.arrays.find("tokenizer.ggml." + name);
    return found == header_.arrays.end() ? std::vector<double>{}
                                         : read_numbers(file_, found->second);
  }
  std::optional<bool> flag(const std::string& name) const {
    const auto found = header_.fields.find("tokenizer.ggml." + name);
    if (found == header_.fields.end() || !found->second.is_boolean()) return std::nullopt;
    return found->second.get<bool>();
  }
  // Of a special token, where it is one of the vocabulary.
  std::optional<std::size_t> id(const std::string& name) const {
    const auto found = header_.fields.find(fmt::format("tokenizer.ggml.{}_token_id", name));
    if (found == header_.fields.end() || !found->second.is_number_unsigned()) return std::nullopt;
    const auto id = found->second.get<std::uint64_t>();
    if (id >= tokens_.size()) return std::nullopt;
    return static_cast<std::size_t>(id);
  }
  bool adds_bos(bool sentencepiece) const { return flag("add_bos_token").value_or(sentencepiece); }

  // sentencepiece_model.proto of SentencePiece.
  std::string sentencepiece_model() const {
    std::vector<double> scores = numbers("scores");
    if (scores.empty()) scores.assign(tokens_.size(), 0.0);
    if (scores.size() != tokens_.size()) fail("scores", scores.size());
    Message model;
    bool bytes = false;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      Message piece;
      piece.bytes(1, tokens_[i]).real(2, static_cast<float>(scores[i]));
      piece.number(3, static_cast<std::uint64_t>(types_[i]));
      bytes = bytes || types_[i] == Byte;
      model.bytes(1, piece.text());
    }
    constexpr std::uint64_t kNone = ~std::uint64_t{0};  // -1
    const auto or_none = [](std::optional<std::size_t> id) { return id ? *id : kNone; };
    Message trainer;
    trainer.number(3, 2).number(4, tokens_.size()).number(35, bytes ? 1 : 0);
    trainer.number(40, id("unknown").value_or(0)).number(41, or_none(id("bos")));
    trainer.number(42, or_none(id("eos"))).number(43, or_none(id("padding")));
    model.bytes(2, trainer.text());
    Message normalizer;
    normalizer.bytes(1, "identity").number(3, flag("add_space_prefix").value_or(true) ? 1 : 0);
    normalizer.number(4, flag("remove_extra_whitespaces").value_or(false) ? 1 : 0).number(5, 1);
    model.bytes(3, normalizer.text());
    return model.text();
  }

  // The text of `object`, which is not empty, with more fields behind. A Json object looks for each
  // of its fields from the start: too slow for a vocabulary.
  static std::string with_fields(const Json& object,
                                 const std::vector<std::pair<std::string, std::string>>& more) {
    std::string text = object.dump();
    text.pop_back();
    for (const auto& [name, value] : more) text += fmt::format(",\"{}\":{}", name, value);
    return text + "}";
  }

  Json added_token(std::size_t id) const {
    return {{"content", tokens_[id]}, {"single_word", false},
            {"lstrip", false},        {"rstrip", false},
            {"normalized", false},    {"special", types_[id] != UserDefined}};
  }
  bool is_added(std::size_t id) const { return types_[id] == Control || types_[id] == UserDefined; }

  std::string bpe_json() const {
    const PreTokenizer& pre = *pre_tokenizer(header_);
    const auto byte_level = [](bool use_regex) {
      return Json{{"type", "ByteLevel"},
                  {"add_prefix_space", false},
                  {"trim_offsets", true},
                  {"use_regex", use_regex}};
    };
    Json added = Json::array();
    std::string vocabulary = "{";
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      vocabulary += fmt::format("{}{}:{}", i == 0 ? "" : ",", Json(tokens_[i]).dump(), i);
      if (!is_added(i)) continue;
      Json token = {{"id", i}};
      token.update(added_token(i));
      added.push_back(std::move(token));
    }
    Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    json["added_tokens"] = std::move(added);
    json["normalizer"] = pre.composes ? Json{{"type", "NFC"}} : Json(nullptr);
    if (pre.pattern == nullptr) {
      json["pre_tokenizer"] = byte_level(true);
    } else {
      const Json split = {{"type", "Split"},
                          {"pattern", {{"Regex", pre.pattern}}},
                          {"behavior", "Isolated"},
                          {"invert", false}};
      json["pre_tokenizer"] = {{"type", "Sequence"},
                               {"pretokenizers", Json::array({split, byte_level(false)})}};
    }
    json["post_processor"] = byte_level(true);
    if (const auto bos = id("bos"); bos && adds_bos(false)) {
      const std::string& token = tokens_[*bos];
      const Json start = {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
      const auto sequence = [](const char* name, int type) {
        return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
      };
      json["post_processor"] = {
          {"type", "TemplateProcessing"},
          {"single", Json::array({start, sequence("A", 0)})},
          {"pair", Json::array({start, sequence("A", 0), start, sequence("B", 1)})},
          {"special_tokens",
           {{token, {{"id", token}, {"ids", Json::array({*bos})}, {"tokens", {token}}}}}}};
    }
    json["decoder"] = byte_level(true);
    Json model = {{"type", "BPE"},
                  {"dropout", nullptr},
                  {"unk_token", nullptr},
                  {"continuing_subword_prefix", nullptr},
                  {"end_of_word_suffix", nullptr},
                  {"fuse_unk", false},
                  {"byte_fallback", false},
                  {"ignore_merges", pre.whole_words}};
    std::string merges = "[";
    for (const std::string& merge : texts("merges")) {
      if (merges.size() > 1) merges += ",";
      merges += Json(merge).dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    return with_fields(
        json,
        {{"model", with_fields(model, {{"vocab", vocabulary + "}"}, {"merges", merges + "]"}})}});
  }

  std::string config(bool sentencepiece) const {
    Json config = Json::object();
    std::string added = "{";
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (!is_added(i) && types_[i] != Unknown) continue;
      added += fmt::format("{}\"{}\":{}", added.size() == 1 ? "" : ",", i, added_token(i).dump());
    }
    config["add_bos_token"] = adds_bos(sentencepiece);
    config["add_eos_token"] = flag("add_eos_token").value_or(false);
    if (const auto space = flag("add_space_prefix")) config["add_prefix_space"] = *space;
    config["clean_up_tokenization_spaces"] = false;
    if (sentencepiece) config["legacy"] = true;  // the blank in front as SentencePiece adds it
    for (const auto& [ggml, field] :
         {std::pair{"bos", "bos_token"}, std::pair{"eos", "eos_token"},
          std::pair{"unknown", "unk_token"}, std::pair{"padding", "pad_token"}}) {
      if (const auto token = id(ggml)) config[field] = tokens_[*token];
    }
    if (const std::string chat = chat_template(); !chat.empty()) config["chat_template"] = chat;
    config["tokenizer_class"] = !sentencepiece ? "PreTrainedTokenizerFast"
                                : is_gemma()   ? "GemmaTokenizer"
                                               : "LlamaTokenizer";
    return with_fields(config, {{"added_tokens_decoder", added + "}"}});
  }

  bool is_gemma() const {
    const auto found = header_.fields.find("general.architecture");
    return found != header_.fields.end() && found->second.is_string() &&
           found->second.get<std::string>().starts_with("gemma");
  }

  std::string chat_template() const {
    std::string chat = ::thorns::text(header_, "chat_template");
    if (const auto found = header_.arrays.find("tokenizer.chat_template");
        found != header_.arrays.end() && found->second.count == 1) {
      const auto long_text = read_texts(file_, found->second);
      if (!long_text.empty()) chat = long_text.front();
    }
    return is_utf8(chat) ? chat : std::string();
  }

  const ReadFile& file_;
  const GgufHeader& header_;
  std::vector<std::string> tokens_;
  std::vector<TokenType> types_;
};

}  // namespace

std::string why_no_tokenizer(const GgufHeader& header) {
  if (!header.arrays.contains("tokenizer.ggml.tokens")) return "it has no list of tokens";
  const std::string model = text(header, "ggml.model");
  if (model == "llama") return {};
  const auto named = [](const std::string& name) {
    return is_utf8(name) ? name : std::string("?");
  };
  if (model != "gpt2") return fmt::format("it is of the kind `{}`", named(model));
  if (pre_tokenizer(header) != nullptr) return {};
  return fmt::format("it cuts text in the way `{}`", named(text(header, "ggml.pre")));
}

std::vector<MadeFile> make_tokenizer(const ReadFile& file, const GgufHeader& header) {
  return Maker(file, header).make();
}

}  // namespace thorns
