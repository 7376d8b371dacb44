#include "checkpoint/tokens.h"

#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using Words = std::vector<std::pair<std::uint64_t, std::string>>;

Words words(const std::vector<ModelToken>& tokens) {
  Words words;
  for (const ModelToken& token : tokens) words.emplace_back(token.id, token.text);
  return words;
}

std::string field(char tag, const std::string& content) {
  return std::string{tag, static_cast<char>(content.size())} + content;
}
std::string piece(const std::string& text, char type = 1) {
  return field('\x0A', field('\x0A', text) + std::string("\x15\0\0\x80\x3F\x18", 6) + type);
}

TEST(ModelTokens, OfTokenizerJson) {
  const TokenFile bpe = read_tokenizer_json(
      R"({"added_tokens": [{"id": 3, "content": "<s>", "special": true, "lstrip": true, "normalized": false},
          {"content": "a", "id": 0}], "model": {"merges": [["a", "b"]], "vocab": {"a": 0, "*": 1}, "x": {"vocab": {"q": 9}}}})",
      "t");
  EXPECT_EQ(words(bpe.tokens), (Words{{0, "a"}, {1, "*"}, {3, "<s>"}}));
  EXPECT_TRUE(bpe.tokens[0].added && bpe.tokens[0].normalized && !bpe.tokens[0].special);
  EXPECT_TRUE(bpe.tokens[2].special && bpe.tokens[2].lstrip && !bpe.tokens[2].normalized);
  EXPECT_EQ(bpe.in_vocabulary, (std::vector<bool>{true, true}));
  EXPECT_FALSE(bpe.is_list);

  const std::string text =
      R"({"model": {"vocab": [["<unk>", 0], ["a", -1.5]]}, "added_tokens": [ ]})";
  const TokenFile unigram = read_tokenizer_json(text, "t");
  EXPECT_EQ(words(unigram.tokens), (Words{{0, "<unk>"}, {1, "a"}}));
  EXPECT_EQ(unigram.scores, (std::vector<double>{0, -1.5}));
  EXPECT_TRUE(unigram.is_list);
  EXPECT_EQ(text.substr(unigram.vocabulary->offset), R"(]}, "added_tokens": [ ]})");
  EXPECT_FALSE(unigram.vocabulary->is_empty);
  EXPECT_EQ(text.substr(unigram.added->offset), "]}");
  EXPECT_TRUE(unigram.added->is_empty);
}

// More could be written only into what the readers of these files expect.
TEST(ModelTokens, ContainersOfTheWrongKindTakeNoMore) {
  EXPECT_FALSE(read_text_to_id("[]", "t").vocabulary);
  EXPECT_FALSE(read_tokenizer_json(R"({"added_tokens": {"a": 1}})", "t").added);
  EXPECT_FALSE(read_added_tokens_decoder(R"({"added_tokens_decoder": [{}]})", "t").added);
}

TEST(ModelTokens, OfSentencepiece) {
  // Fields of every type that are of no concern stand between the pieces.
  const std::string other = field('\x12', "\xFF\xFF") + std::string("\x18\x96\x01", 3) +
                            std::string("\x21\0\0\0\0\0\0\0\0", 9);
  const TokenFile file = read_sentencepiece(
      piece("<unk>", 2) + other + piece("\xE2\x96\x81the") + piece("<u>", 4), "t");
  EXPECT_EQ(words(file.tokens), (Words{{0, "<unk>"}, {1, "\xE2\x96\x81the"}, {2, "<u>"}}));
  EXPECT_TRUE(file.tokens[0].special);
  EXPECT_FALSE(file.tokens[1].added);
  EXPECT_TRUE(file.tokens[2].added && !file.tokens[2].special);
  EXPECT_EQ(file.scores, (std::vector<double>{1, 1, 1}));
  EXPECT_TRUE(read_sentencepiece("", "t").tokens.empty());
}

TEST(ModelTokens, OfAFolder) {
  MemoryDisk disk;
  disk.add_file("m/tokenizer.model", piece("a") + piece("b"));
  disk.add_file(
      "m/tokenizer_config.json",
      R"({"added_tokens_decoder": {"1": {"content": "other"}, "2": {"content": "<x>", "special": true}}})");
  disk.add_file("m/added_tokens.json", R"({"<x>": 2, "<y>": 4, "a": 9})");
  disk.add_file("m/vocab.json", R"({"never": 0})");
  const std::vector<std::string> files = {"added_tokens.json", "tokenizer.model",
                                          "tokenizer_config.json", "vocab.json"};
  const TokenList list = read_tokens(disk, "m", files);
  EXPECT_EQ(words(list.tokens), (Words{{0, "a"}, {1, "b"}, {2, "<x>"}, {4, "<y>"}}));
  EXPECT_TRUE(list.tokens[2].special && list.tokens[3].added);
  EXPECT_EQ(list.end(), 5U);
  const std::string hash = hash_tokens(disk, "m", files);
  disk.add_file("m/vocab.json", "changed");
  EXPECT_EQ(hash_tokens(disk, "m", files), hash);
  disk.add_file("m/added_tokens.json", "{}");
  EXPECT_NE(hash_tokens(disk, "m", files), hash);
  EXPECT_TRUE(read_tokens(disk, "m", {"added_tokens.json"}).empty());
  EXPECT_EQ(hash_tokens(disk, "m", {"tekken.json"}), "");
}

TEST(ModelTokens, HostileJsonIsRefused) {
  for (const char* text :
       {R"({"model": {"vocab": {"a": -1}}})", R"({"model": {"vocab": {"a": 1.5}}})",
        R"({"model": {"vocab": {"a": 16777216}}})", R"({"model": {"vocab": {"a": "0"}}})",
        R"({"model": {"vocab": {"a": 0, "b": 0}}})", R"({"model": {"vocab": {"a": 0, "a": 1}}})",
        R"({"model": {"vocab": [[7, 1]]}})", R"({"model": {"vocab": [["a", 1], []]}})",
        R"({"model": {"vocab": [["a", 1], {}]}})", R"({"model": {"vocab": [["a", 1], 7]}})",
        R"({"added_tokens": [{"id": 0, "content": 7}]})",
        R"({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 0, "content": "b"}]})",
        R"({"model": {"vocab": {"a": 0})"}) {
    EXPECT_EQ(test::error_of([&] { read_tokenizer_json(text, "t"); }).code(), ErrorCode::Corrupt)
        << text;
  }
  EXPECT_EQ(test::error_of([&] { read_tokenizer_json(std::string(100, '['), "t"); }).code(),
            ErrorCode::Corrupt);
  for (const char* id : {"", "-1", "1x", "999999999", "16777216"}) {
    const std::string text =
        std::string(R"({"added_tokens_decoder": {")") + id + R"(": {"content": "a"}}})";
    EXPECT_EQ(test::error_of([&] { read_added_tokens_decoder(text, "t"); }).code(),
              ErrorCode::Corrupt)
        << text;
  }
}

TEST(ModelTokens, HostileSentencepieceIsRefused) {
  const std::string good = piece("a") + piece("b");
  // Every cut but between the pieces.
  for (std::size_t size = 1; size < good.size(); ++size) {
    if (size == piece("a").size()) continue;
    EXPECT_EQ(test::error_of([&] { read_sentencepiece(good.substr(0, size), "t"); }).code(),
              ErrorCode::Corrupt)
        << size;
  }
  for (const std::string& bytes : {field('\x0A',
                                         "\x0A\x7F"
                                         "a"),
                                   piece("a") + piece("a"), piece("\xFF"),
                                   std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
                                   std::string("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
                                   std::string("\x0B"), std::string("\x02\x00", 2)}) {
    const Error error = test::error_of([&] { read_sentencepiece(bytes, "t"); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_EQ(std::get<FilePlace>(error.where()).path, "t");
  }
}

}  // namespace
}  // namespace thorns
