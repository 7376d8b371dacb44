// Any bytes as the tokenizer file that the first of them names: tokens with ids and texts of their
// own, and places for more that lie before a closing bracket, or an error.
#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "checkpoint/tokens.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  if (size == 0) return 0;
  constexpr std::array kNames = {"tokenizer.json", "tokenizer.model", "vocab.json",
                                 "tokenizer_config.json"};
  const std::size_t kind = data[0] % kNames.size();
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    const thorns::TokenFile file = kind == 0   ? thorns::read_tokenizer_json(text, "t")
                                   : kind == 1 ? thorns::read_sentencepiece(text, "t")
                                   : kind == 2 ? thorns::read_text_to_id(text, "t")
                                               : thorns::read_added_tokens_decoder(text, "t");
    std::set<std::string> texts;
    for (std::size_t i = 0; i < file.tokens.size(); ++i) {
      const thorns::ModelToken& token = file.tokens[i];
      require(token.id < thorns::kMostTokens && !token.text.empty());
      require(i == 0 || file.tokens[i - 1].id < token.id);
      require(texts.insert(token.text).second);
    }
    for (const auto& slot : {file.vocabulary, file.added}) {
      require(!slot || (slot->offset < text.size() &&
                        (text[slot->offset] == '}' || text[slot->offset] == ']')));
    }
    thorns::MemoryDisk disk;
    disk.add_file(std::string("m/") + kNames[kind], text);
    const thorns::TokenList list = thorns::read_tokens(disk, "m", {kNames[kind]});
    require(kind == 3 ? list.empty() : list.tokens.size() == file.tokens.size());
  } catch (const thorns::Error& error) {
    require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
