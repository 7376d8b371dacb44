#include "output/tokenizer_union.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <unordered_map>

#include "checkpoint/tokens.h"
#include "output/json_text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestFile = std::uint64_t{128} << 20;
constexpr const char* kAddedTokens = "added_tokens.json";

const char* json_bool(bool value) { return value ? "true" : "false"; }

// What an added token says of itself, after its id.
std::string description(const ModelToken& token) {
  return fmt::format(
      R"("content": {}, "single_word": {}, "lstrip": {}, "rstrip": {}, "normalized": {}, "special": {})",
      json_string(token.text), json_bool(token.single_word), json_bool(token.lstrip),
      json_bool(token.rstrip), json_bool(token.normalized), json_bool(token.special));
}

// Elements that are written before the closing bracket of a container.
class Elements {
 public:
  explicit Elements(const JsonSlot& slot) : slot_(slot) {}
  void add(std::string_view element) {
    text_ += slot_.is_empty && text_.empty() ? "" : ", ";
    text_ += element;
  }
  Insertion insertion() const { return {slot_.offset, text_}; }

 private:
  JsonSlot slot_;
  std::string text_;
};

class TokenizerUnion {
 public:
  TokenizerUnion(Disk& disk, const Plan& plan, const Vocabulary& vocabulary,
                 std::vector<TokenizerFile>& files)
      : disk_(disk), plan_(plan), vocabulary_(vocabulary), files_(files) {
    const Checkpoint& base = *plan.leaves[vocabulary.base];
    base_ = read_tokens(disk, base.path(), base.tokenizer_files());
    for (const Vocabulary::NewToken& added : vocabulary.added) {
      if (!added.token.added) has_words_ = true;
    }
  }

  void run() {
    if (TokenizerFile* file = find("tokenizer.json")) edit_tokenizer_json(*file);
    for (TokenizerFile& file : files_) {
      if (is_sentencepiece_name(file.name) && has_words_) edit_sentencepiece(file);
    }
    if (TokenizerFile* file = find("vocab.json")) edit_vocab_json(*file);
    edit_added_tokens();
  }

 private:
  TokenizerFile* find(std::string_view name) {
    const auto found = std::find_if(files_.begin(), files_.end(),
                                    [&](const TokenizerFile& file) { return file.name == name; });
    return found == files_.end() ? nullptr : &*found;
  }

  std::string text_of(const TokenizerFile& file) const {
    return read_text(disk_, file.from, kLargestFile);
  }

  static void insert(TokenizerFile& file, Insertion insertion) {
    if (insertion.text.empty()) return;
    file.size += insertion.text.size();
    file.insertions.push_back(std::move(insertion));
  }

  // All tokens of the output that a vocabulary lacks, in the order of their ids.
  std::vector<const ModelToken*> lacking(const TokenFile& have) const {
    std::vector<const ModelToken*> tokens;
    for (const ModelToken& token : base_.tokens) {
      if (token.id >= have.in_vocabulary.size() || !have.in_vocabulary[token.id])
        tokens.push_back(&token);
    }
    for (const Vocabulary::NewToken& added : vocabulary_.added) tokens.push_back(&added.token);
    return tokens;
  }

  // Those of the others that are no words of a vocabulary.
  std::vector<const ModelToken*> added_tokens() const {
    std::vector<const ModelToken*> tokens;
    for (const Vocabulary::NewToken& added : vocabulary_.added) {
      if (added.token.added) tokens.push_back(&added.token);
    }
    return tokens;
  }

  // The base's files may say different things, of which one is believed: then another may have a
  // token already with another id, or its id for another token.
  void refuse_conflicts(const TokenizerFile& file, const TokenFile& have,
                        const std::vector<const ModelToken*>& tokens) const {
    std::unordered_map<std::string_view, std::uint64_t> ids;
    std::unordered_map<std::uint64_t, std::string_view> texts;
    for (const ModelToken& token : have.tokens) {
      ids.emplace(token.text, token.id);
      texts.emplace(token.id, token.text);
    }
    for (const ModelToken* token : tokens) {
      const auto id = ids.find(token->text);
      const auto text = texts.find(token->id);
      if ((id != ids.end() && id->second != token->id) ||
          (text != texts.end() && text->second != token->text)) {
        refuse(file, fmt::format("it disagrees with other files on the token {} or the id {}",
                                 quoted_token(token->text), token->id));
      }
    }
  }

  // Whether the loader of a vocabulary gives the first token that is added to it the id that it has
  // here: it counts on from the larger of the number of words and the last added token.
  bool counts_on(const TokenFile& have) const {
    const auto words = static_cast<std::uint64_t>(
        std::count(have.in_vocabulary.begin(), have.in_vocabulary.end(), true));
    std::uint64_t next = words;
    for (const ModelToken& token : base_.tokens) {
      if (token.added) next = std::max(next, token.id + 1);
    }
    const std::vector<const ModelToken*> rest = lacking(have);
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i]->id != words + i) return false;
    }
    return next == vocabulary_.base_end;
  }

  // Writes words into {text: id} where the loader would not find their ids alone.
  void add_words(TokenizerFile& file, const TokenFile& have) {
    if (!have.vocabulary || (!has_words_ && counts_on(have))) return;
    Elements elements(*have.vocabulary);
    const std::vector<const ModelToken*> tokens = lacking(have);
    refuse_conflicts(file, have, tokens);
    for (const ModelToken* token : tokens) {
      elements.add(fmt::format("{}: {}", json_string(token->text), token->id));
    }
    insert(file, elements.insertion());
  }

  void edit_tokenizer_json(TokenizerFile& file) {
    const TokenFile have = read_tokenizer_json(text_of(file), file.from);
    if (!have.vocabulary || !have.added) {
      refuse(file, "it has no list of added tokens");
    }
    if (have.is_list) {
      add_pieces(file, have);
    } else {
      add_words(file, have);
    }
    Elements elements(*have.added);
    for (const ModelToken* token : added_tokens()) {
      elements.add(fmt::format(R"({{"id": {}, {}}})", token->id, description(*token)));
    }
    insert(file, elements.insertion());
    std::sort(file.insertions.begin(), file.insertions.end(),
              [](const Insertion& a, const Insertion& b) { return a.offset < b.offset; });
  }

  // Unigram: a word's place in the list is its id.
  void add_pieces(TokenizerFile& file, const TokenFile& have) {
    if (!has_words_ && counts_on(have)) return;
    Elements elements(*have.vocabulary);
    std::uint64_t place = have.in_vocabulary.size();
    for (const ModelToken* token : lacking(have)) {
      if (token->id != place++) refuse(file, "its ids have holes");
      elements.add(fmt::format("[{}, {}]", json_string(token->text), json_number(score(*token))));
    }
    insert(file, elements.insertion());
  }

  // A piece's place among all pieces is its id. Fields of a protocol buffer may stand in any order:
  // pieces at the end belong to the others.
  void edit_sentencepiece(TokenizerFile& file) {
    const TokenFile have = read_sentencepiece(text_of(file), file.from);
    std::string text;
    std::uint64_t place = have.in_vocabulary.size();
    const std::vector<const ModelToken*> tokens = lacking(have);
    refuse_conflicts(file, have, tokens);
    for (const ModelToken* token : tokens) {
      if (token->id != place++) refuse(file, "its ids have holes");
      text += piece(*token);
    }
    insert(file, {static_cast<std::size_t>(file.size), std::move(text)});
  }

  // How a word is weighed against others: as in its own model, where that says it.
  double score(const ModelToken& token) {
    constexpr double kUnlikely = -1e6;
    if (token.added) return 0;
    if (token.id < vocabulary_.base_end) return kUnlikely;
    const Vocabulary::NewToken& added = vocabulary_.added[token.id - vocabulary_.base_end];
    const auto [at, is_new] = scores_.emplace(added.leaf, std::vector<double>());
    if (is_new) at->second = scores_of(*plan_.leaves[added.leaf]);
    return added.id_there < at->second.size() ? at->second[added.id_there] : kUnlikely;
  }

  std::vector<double> scores_of(const Checkpoint& leaf) const {
    for (const std::string& name : leaf.tokenizer_files()) {
      const std::string path = join_path(leaf.path(), name);
      std::vector<double> scores;
      if (name == "tokenizer.json") {
        scores = read_tokenizer_json(read_text(disk_, path, kLargestFile), path).scores;
      } else if (is_sentencepiece_name(name)) {
        scores = read_sentencepiece(read_text(disk_, path, kLargestFile), path).scores;
      }
      if (!scores.empty()) return scores;
    }
    return {};
  }

  static std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7F));
    return bytes + static_cast<char>(value);
  }

  // The field of one piece: text, score, type.
  std::string piece(const ModelToken& token) {
    constexpr char kNormal = 1;
    constexpr char kControl = 3;
    constexpr char kUserDefined = 4;
    const char type = !token.added ? kNormal : token.special ? kControl : kUserDefined;
    std::string content = "\x0A" + varint(token.text.size()) + token.text;
    content += '\x15';
    const auto score_bits = std::bit_cast<std::uint32_t>(static_cast<float>(score(token)));
    for (int shift = 0; shift < 32; shift += 8) content += static_cast<char>(score_bits >> shift);
    content += {'\x18', type};
    return "\x0A" + varint(content.size()) + content;
  }

  void edit_vocab_json(TokenizerFile& file) {
    add_words(file, read_text_to_id(text_of(file), file.from));
  }

  // Where transformers looks for added tokens: added_tokens_decoder, else added_tokens.json.
  void edit_added_tokens() {
    bool listed = find("tokenizer.json") != nullptr;
    if (TokenizerFile* file = find("tokenizer_config.json")) {
      const TokenFile have = read_added_tokens_decoder(text_of(*file), file->from);
      if (have.added) {
        listed = true;
        Elements elements(*have.added);
        refuse_conflicts(*file, have, added_tokens());
        for (const ModelToken* token : added_tokens()) {
          elements.add(fmt::format(R"("{}": {{{}}})", token->id, description(*token)));
        }
        insert(*file, elements.insertion());
      }
    }
    TokenizerFile* file = find(kAddedTokens);
    if (file == nullptr && listed) return;
    JsonSlot slot;
    if (file != nullptr) {
      const TokenFile have = read_text_to_id(text_of(*file), file->from);
      if (!have.vocabulary) refuse(*file, "it is no object");
      refuse_conflicts(*file, have, added_tokens());
      slot = *have.vocabulary;
    }
    Elements elements(slot);
    for (const ModelToken* token : added_tokens()) {
      elements.add(fmt::format("{}: {}", json_string(token->text), token->id));
    }
    if (elements.insertion().text.empty()) return;
    if (file != nullptr) return insert(*file, elements.insertion());
    TokenizerFile made;
    made.name = kAddedTokens;
    insert(made, {0, "{" + elements.insertion().text + "}\n"});
    files_.push_back(std::move(made));
  }

  [[noreturn]] void refuse(const TokenizerFile& file, const std::string& why) const {
    throw Error(ErrorCode::Unsupported,
                fmt::format("`{}` of `{}` cannot take the tokens of the other models: {}",
                            file.name, plan_.recipe.leaves[vocabulary_.base].name, why),
                FilePlace{file.from},
                "take the tokenizer of another model (--tokenizer), or match token rows by number "
                "(--vocabulary gradient, zero or truncate)");
  }

  Disk& disk_;
  const Plan& plan_;
  const Vocabulary& vocabulary_;
  std::vector<TokenizerFile>& files_;
  TokenList base_;
  std::map<std::size_t, std::vector<double>> scores_;  // by leaf
  bool has_words_ = false;                             // some of the new tokens were no added ones
};

}  // namespace

void add_tokens(Disk& disk, const Plan& plan, const Vocabulary& vocabulary,
                std::vector<TokenizerFile>& files) {
  if (vocabulary.added.empty()) return;
  TokenizerUnion(disk, plan, vocabulary, files).run();
}

}  // namespace thorns
