#include "checkpoint/tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/hash.h"
#include "base/path_within.h"
#include "base/text.h"
#include "checkpoint/json_events.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestFile = std::uint64_t{128} << 20;
constexpr const char* kTokenizerJson = "tokenizer.json";
constexpr const char* kVocabJson = "vocab.json";
constexpr const char* kTokenizerConfig = "tokenizer_config.json";
constexpr const char* kAddedTokens = "added_tokens.json";

[[noreturn]] void refuse(const std::string& what, const std::string& path, std::size_t byte) {
  throw Error(ErrorCode::Corrupt, what, FilePlace{path, byte});
}

// Tokenizers nest less deeply by far.
constexpr std::size_t kDeepest = 64;

// Follows the way of keys and arrays to every event.
class JsonPath : public JsonEvents {
 public:
  explicit JsonPath(const std::string& path) : path_(path) {}

  void begin_object() override { open({}); }
  void end_object() override { close(); }
  void begin_array() override { open({true}); }
  void end_array() override { close(); }
  void key(std::string& name) override { at_.back().key = std::move(name); }
  void scalar(const JsonScalar& value) override {
    if (!at_.empty()) at_.back().is_empty = false;
    found(value);
  }

 protected:
  virtual void found(const JsonScalar& value) = 0;
  // An object or array, where is_at leads.
  virtual void begun(bool /*is_array*/) {}
  virtual void ended(const JsonSlot& /*slot*/, bool /*is_array*/) {}

  // Whether the event is reached by these keys; "[]" stands for an element of an array, "?" for any
  // key.
  bool is_at(std::initializer_list<std::string_view> way) const {
    return std::equal(way.begin(), way.end(), at_.begin(), at_.end(),
                      [](std::string_view want, const Level& have) {
                        return have.is_array ? want == "[]" : want == "?" || want == have.key;
                      });
  }
  const std::string& last_key() const { return at_.back().key; }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::Corrupt, what, FilePlace{path_, position()});
  }

 private:
  struct Level {
    bool is_array = false;
    std::string key = {};
    bool is_empty = true;
  };

  void open(Level level) {
    if (!at_.empty()) at_.back().is_empty = false;
    begun(level.is_array);
    if (at_.size() == kDeepest) refuse("nested too deeply for a tokenizer");
    at_.push_back(std::move(level));
  }
  void close() {
    const JsonSlot slot{position() - 1, at_.back().is_empty};
    const bool is_array = at_.back().is_array;
    at_.pop_back();
    ended(slot, is_array);
  }

  const std::string& path_;
  std::vector<Level> at_;
};

// What the readers of JSON share: ids, and tokens that are described by an object of their own.
class TokenEvents : public JsonPath {
 public:
  using JsonPath::JsonPath;
  TokenFile file;

 protected:
  std::uint64_t id_of(const JsonScalar& value) const {
    if (value.kind != JsonScalar::Kind::Unsigned || value.number >= kMostTokens) {
      refuse("a token's id is no number of a row");
    }
    return value.number;
  }

  void take_word(std::string text, std::uint64_t id) {
    if (file.in_vocabulary.size() <= id) file.in_vocabulary.resize(id + 1);
    file.in_vocabulary[id] = true;
    file.tokens.push_back({std::move(text), id});
  }

  void describe(ModelToken& token, const std::string& field, const JsonScalar& value) const {
    if (field == "id") {
      token.id = id_of(value);
    } else if (field == "content") {
      if (value.kind != JsonScalar::Kind::Text) {
        refuse("a token's text is no text");
      }
      token.text = std::move(*value.text);
    } else if (value.kind == JsonScalar::Kind::Boolean) {
      if (field == "special") token.special = value.number != 0;
      if (field == "single_word") token.single_word = value.number != 0;
      if (field == "lstrip") token.lstrip = value.number != 0;
      if (field == "rstrip") token.rstrip = value.number != 0;
      if (field == "normalized") token.normalized = value.number != 0;
    }
  }
};

class TokenizerJson : public TokenEvents {
 public:
  using TokenEvents::TokenEvents;

 private:
  void begun(bool is_array) override {
    if (is_at({"model", "vocab"})) {
      file.is_list = is_array;
    } else if (is_at({"added_tokens", "[]"})) {
      token_ = ModelToken();
      token_.added = true;
    } else if (is_at({"model", "vocab", "[]"})) {  // Unigram: [text, score]
      if (!is_array) refuse_piece();
      ++pieces_;
      token_ = ModelToken();
      expects_text_ = true;
    }
  }
  void ended(const JsonSlot& slot, bool is_array) override {
    if (is_at({"added_tokens", "[]"})) file.tokens.push_back(std::move(token_));
    if (is_at({"added_tokens"}) && is_array) file.added = slot;
    if (is_at({"model", "vocab", "[]"}) && expects_text_) refuse_piece();
    if (is_at({"model", "vocab"})) file.vocabulary = slot;
  }
  void found(const JsonScalar& value) override {
    if (is_at({"added_tokens", "[]", "?"})) {
      describe(token_, last_key(), value);
    } else if (is_at({"model", "vocab", "[]", "[]"})) {
      if (!expects_text_) {
        file.scores.resize(pieces_);
        file.scores.back() = value.real;
        return;
      }
      expects_text_ = false;
      describe(token_, "content", value);
      take_word(std::move(token_.text), pieces_ - 1);
    } else if (is_at({"model", "vocab", "?"})) {
      take_word(last_key(), id_of(value));
    } else if (is_at({"model", "vocab", "[]"})) {
      refuse_piece();
    }
  }

  // Its place is its id: one that is passed over would move all that follow.
  [[noreturn]] void refuse_piece() const { refuse("a token is no text with a score"); }

  ModelToken token_;
  std::uint64_t pieces_ = 0;
  bool expects_text_ = false;
};

// {text: id}
class TextToId : public TokenEvents {
 public:
  using TokenEvents::TokenEvents;

 private:
  void found(const JsonScalar& value) override {
    if (is_at({"?"})) take_word(last_key(), id_of(value));
  }
  void ended(const JsonSlot& slot, bool is_array) override {
    if (is_at({}) && !is_array) file.vocabulary = slot;
  }
};

// {"added_tokens_decoder": {id: {"content": text, ...}}}
class AddedTokensDecoder : public TokenEvents {
 public:
  using TokenEvents::TokenEvents;

 private:
  void begun(bool /*is_array*/) override {
    if (!is_at({"added_tokens_decoder", "?"})) return;
    token_ = ModelToken();
    token_.added = true;
    const std::string& digits = last_key();
    if (digits.empty() || digits.size() > 8 ||
        digits.find_first_not_of("0123456789") != std::string::npos) {
      refuse("a token's id is no number of a row");
    }
    token_.id = std::stoull(digits);
    if (token_.id >= kMostTokens) refuse("a token's id is no number of a row");
  }
  void ended(const JsonSlot& slot, bool is_array) override {
    if (is_at({"added_tokens_decoder", "?"})) file.tokens.push_back(std::move(token_));
    if (is_at({"added_tokens_decoder"}) && !is_array) file.added = slot;
  }
  void found(const JsonScalar& value) override {
    if (is_at({"added_tokens_decoder", "?", "?"}) && last_key() != "id") {
      describe(token_, last_key(), value);
    }
  }

  ModelToken token_;
};

// Ascending ids. The same token may be told twice, with and without what an added token has.
void settle(std::vector<ModelToken>& tokens, const std::string& path) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const ModelToken& a, const ModelToken& b) { return a.id < b.id; });
  std::vector<ModelToken> kept;
  std::unordered_set<std::string_view> texts;
  kept.reserve(tokens.size());  // views of `texts` stay valid
  for (ModelToken& token : tokens) {
    if (token.text.empty()) continue;  // a row that stands for nothing
    if (!kept.empty() && kept.back().id == token.id) {
      if (kept.back().text != token.text) {
        refuse(fmt::format("{} and {} both have the id {}", quoted_token(kept.back().text),
                           quoted_token(token.text), token.id),
               path, 0);
      }
      texts.erase(kept.back().text);
      if (!token.added) token = std::move(kept.back());
      kept.back() = std::move(token);
    } else {
      kept.push_back(std::move(token));
    }
    if (!texts.insert(kept.back().text).second) {
      refuse(
          fmt::format("{} has two ids, {} is one", quoted_token(kept.back().text), kept.back().id),
          path, 0);
    }
  }
  tokens = std::move(kept);
}

template <class Events>
TokenFile read(std::string_view text, const std::string& path) {
  Events events(path);
  read_json_events(text, path, 0, events);
  settle(events.file.tokens, path);
  return std::move(events.file);
}

// ---------------------------------------------------------------- protobuf

// The wire format of protocol buffers: fields of a number, a type and a content, one after the
// other (protobuf.dev/programming-guides/encoding).
class Fields {
 public:
  Fields(std::string_view bytes, const std::string& path, std::size_t base)
      : bytes_(bytes), path_(path), base_(base) {}

  // Reads the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    begin_ = at_;
    const std::uint64_t tag = varint();
    number = tag >> 3;
    content = {};
    switch (tag & 7) {
      case 0:
        value = varint();
        break;
      case 1:
        content = take(8);
        break;
      case 2:
        content = take(varint());
        break;
      case 5:
        content = take(4);
        break;
      default:
        refuse("no sentencepiece model: a field of an unknown type", path_, base_ + begin_);
    }
    if (number == 0) refuse("no sentencepiece model: a field of number 0", path_, base_ + begin_);
    type = tag & 7;
    return true;
  }

  std::string_view field() const { return bytes_.substr(begin_, at_ - begin_); }
  std::size_t content_position() const { return base_ + at_ - content.size(); }

  std::uint64_t number = 0;
  std::uint64_t type = 0;
  std::uint64_t value = 0;   // of type 0
  std::string_view content;  // of all others

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      if (shift == 63 && byte > 1) break;
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    refuse("no sentencepiece model: a number of more than 64 bits", path_, base_ + begin_);
  }

  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - at_) {
      refuse("the sentencepiece model ends inside a field", path_, base_ + begin_);
    }
    const std::string_view taken = bytes_.substr(at_, static_cast<std::size_t>(count));
    at_ += taken.size();
    return taken;
  }

  std::string_view bytes_;
  const std::string& path_;
  std::size_t base_;  // of the first byte in the file
  std::size_t at_ = 0;
  std::size_t begin_ = 0;  // of the field at hand
};

constexpr std::uint64_t kLengthDelimited = 2;
constexpr std::uint64_t kFixed32 = 5;

Piece piece_of(const Fields& whole, const std::string& path) {
  Piece piece;
  piece.message = whole.field();
  Fields fields(whole.content, path, whole.content_position());
  while (fields.next()) {
    if (fields.number == 1 && fields.type == kLengthDelimited) piece.text = fields.content;
    if (fields.number == 2 && fields.type == kFixed32) {
      std::copy_n(fields.content.data(), sizeof(float), reinterpret_cast<char*>(&piece.score));
    }
    if (fields.number == 3 && fields.type == 0) piece.type = fields.value;
  }
  return piece;
}

// ---------------------------------------------------------------- folders

constexpr std::array<std::string_view, 3> kSentencepieceNames = {"tokenizer.model", "spiece.model",
                                                                 "sentencepiece.bpe.model"};

// The file with most of the tokens; empty where there is none.
std::string main_file(const std::vector<std::string>& files) {
  const auto has = [&](std::string_view name) {
    return std::find(files.begin(), files.end(), name) != files.end();
  };
  if (has(kTokenizerJson)) return kTokenizerJson;
  for (const std::string_view name : kSentencepieceNames) {
    if (has(name)) return std::string(name);
  }
  return has(kVocabJson) ? kVocabJson : "";
}

// `main_file` and what may add tokens to it.
std::vector<std::string> token_files(const std::vector<std::string>& files) {
  std::vector<std::string> found;
  const std::string main = main_file(files);
  if (main.empty()) return found;
  found.push_back(main);
  for (const char* name : {kTokenizerConfig, kAddedTokens}) {
    if (std::find(files.begin(), files.end(), name) != files.end()) found.emplace_back(name);
  }
  return found;
}

std::vector<ModelToken> tokens_of_file(Disk& disk, const std::string& folder,
                                       const std::string& name) {
  const std::string path = path_within(disk, folder, name);
  const std::string text = read_text(disk, path, kLargestFile);
  if (name == kTokenizerJson) return read_tokenizer_json(text, path).tokens;
  if (is_sentencepiece_name(name)) return read_sentencepiece(text, path).tokens;
  if (name == kTokenizerConfig) return read_added_tokens_decoder(text, path).tokens;
  std::vector<ModelToken> tokens = read_text_to_id(text, path).tokens;
  for (ModelToken& token : tokens) token.added = name == kAddedTokens;
  return tokens;
}

// Tokens with a text and an id that the list does not have yet.
void join(std::vector<ModelToken>& tokens, std::vector<ModelToken> more) {
  std::unordered_set<std::string> texts;
  std::unordered_set<std::uint64_t> ids;
  for (const ModelToken& token : tokens) {
    texts.insert(token.text);
    ids.insert(token.id);
  }
  for (ModelToken& token : more) {
    if (texts.contains(token.text) || ids.contains(token.id)) continue;
    tokens.push_back(std::move(token));
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const ModelToken& a, const ModelToken& b) { return a.id < b.id; });
}

}  // namespace

std::string quoted_token(std::string_view text) {
  constexpr std::size_t kMostShown = 40;  // bytes
  if (text.size() <= kMostShown) return fmt::format("`{}`", text);
  std::size_t end = kMostShown;
  while (end > 0 && (text[end] & 0xC0) == 0x80) --end;  // inside a character
  return fmt::format("`{}...`", text.substr(0, end));
}

bool is_sentencepiece_name(std::string_view name) {
  return std::find(kSentencepieceNames.begin(), kSentencepieceNames.end(), name) !=
         kSentencepieceNames.end();
}

TokenFile read_tokenizer_json(std::string_view text, const std::string& path) {
  return read<TokenizerJson>(text, path);
}

TokenFile read_text_to_id(std::string_view text, const std::string& path) {
  return read<TextToId>(text, path);
}

TokenFile read_added_tokens_decoder(std::string_view text, const std::string& path) {
  return read<AddedTokensDecoder>(text, path);
}

std::vector<Piece> sentencepieces(std::string_view bytes, const std::string& path) {
  std::vector<Piece> pieces;
  Fields fields(bytes, path, 0);
  while (fields.next()) {
    if (fields.number != 1 || fields.type != kLengthDelimited) continue;
    if (pieces.size() == kMostTokens) {
      refuse(fmt::format("more than {} pieces", kMostTokens), path, fields.content_position());
    }
    pieces.push_back(piece_of(fields, path));
  }
  return pieces;
}

TokenFile read_sentencepiece(std::string_view bytes, const std::string& path) {
  constexpr std::uint64_t kControl = 3;
  constexpr std::uint64_t kUnknown = 2;
  constexpr std::uint64_t kUserDefined = 4;
  TokenFile file;
  for (const Piece& piece : sentencepieces(bytes, path)) {
    if (!is_utf8(piece.text)) {
      refuse("a piece is not UTF-8", path,
             static_cast<std::size_t>(piece.text.data() - bytes.data()));
    }
    ModelToken token;
    token.text = piece.text;
    token.id = file.tokens.size();
    token.special = piece.type == kControl || piece.type == kUnknown;
    token.added = token.special || piece.type == kUserDefined;
    token.normalized = !token.special;
    file.tokens.push_back(std::move(token));
    file.scores.push_back(piece.score);
  }
  file.in_vocabulary.assign(file.tokens.size(), true);
  settle(file.tokens, path);
  return file;
}

TokenList read_tokens(Disk& disk, const std::string& folder,
                      const std::vector<std::string>& files) {
  TokenList list;
  for (const std::string& name : token_files(files)) {
    std::vector<ModelToken> tokens = tokens_of_file(disk, folder, name);
    if (list.tokens.empty()) {
      list.tokens = std::move(tokens);
    } else {
      join(list.tokens, std::move(tokens));
    }
  }
  return list;
}

std::string hash_tokens(Disk& disk, const std::string& folder,
                        const std::vector<std::string>& files) {
  const std::vector<std::string> names = token_files(files);
  if (names.empty()) return {};
  Sha256 hash;
  for (const std::string& name : names) {
    const std::string text = read_text(disk, path_within(disk, folder, name), kLargestFile);
    const std::string head = fmt::format("{} {}\n", name, text.size());
    hash.update(std::as_bytes(std::span(head)));
    hash.update(std::as_bytes(std::span(text)));
  }
  return hash.hex();
}

}  // namespace thorns
