// Which token each row of a model's embedding stands for, as its tokenizer files say it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"

namespace thorns {

struct ModelToken {
  std::string text;      // as it stands in the file: pieces of sentencepiece have U+2581 for blanks
  std::uint64_t id = 0;  // the row
  // Added to a vocabulary that was trained before, with what its tokenizer does about it.
  bool added = false;
  bool special = false;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
};

// Beyond this an id is taken for damage.
inline constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 24;

struct TokenList {
  std::vector<ModelToken> tokens;  // ascending in id; ids and texts are unique, ids may have holes

  bool empty() const { return tokens.empty(); }
  std::uint64_t end() const { return tokens.empty() ? 0 : tokens.back().id + 1; }
};

// The tokens of a folder with these tokenizer files. What is read first of: tokenizer.json (BPE,
// WordPiece, WordLevel, Unigram), tokenizer.model or its other names (sentencepiece), vocab.json;
// then tokens with an id and a text of their own in tokenizer_config.json (added_tokens_decoder)
// and added_tokens.json. Empty where there is none of the first. Throws Corrupt (file, byte) for
// what is damaged, for ids from kMostTokens on, and for one token with two ids or one id with two
// tokens in a file.
TokenList read_tokens(Disk& disk, const std::string& folder, const std::vector<std::string>& files);

// SHA-256 over all that read_tokens would read; empty where it finds nothing to read.
std::string hash_tokens(Disk& disk, const std::string& folder,
                        const std::vector<std::string>& files);

// An object or array in a JSON text: more is written before its closing bracket.
struct JsonSlot {
  std::size_t offset = 0;  // of that bracket
  bool is_empty = true;
};

// The tokens of one file, and where it takes more.
struct TokenFile {
  std::vector<ModelToken> tokens;      // as in TokenList
  std::optional<JsonSlot> vocabulary;  // model.vocab; or the whole file, where it is {text: id}
  bool is_list = false;                // the vocabulary, of Unigram: [[text, score], ...]
  std::vector<bool> in_vocabulary;     // by id
  std::vector<double> scores;          // by id, of pieces and lists; else empty
  std::optional<JsonSlot> added;       // added_tokens, or added_tokens_decoder
};
// `path` is for messages.
TokenFile read_tokenizer_json(std::string_view text, const std::string& path);
TokenFile read_text_to_id(std::string_view text, const std::string& path);  // vocab.json
TokenFile read_added_tokens_decoder(std::string_view text, const std::string& path);
TokenFile read_sentencepiece(std::string_view bytes, const std::string& path);

// A token's text in a message: in quotes, the end of a long one cut off.
std::string quoted_token(std::string_view text);

// Names that a sentencepiece model has in a folder.
bool is_sentencepiece_name(std::string_view name);

// One piece of a sentencepiece model: a part of the file.
struct Piece {
  std::string_view message;  // the whole field: tag, length and content
  std::string_view text;
  float score = 0;
  std::uint64_t type = 1;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
};
std::vector<Piece> sentencepieces(std::string_view bytes, const std::string& path);

}  // namespace thorns
