#include "checkpoint/gguf_facts.h"

#include "base/text.h"
#include "checkpoint/gguf_adapter.h"
#include "checkpoint/gguf_header.h"

namespace thorns {

std::optional<GgufFacts> read_gguf_facts(const ReadFile& file) {
  if (!is_gguf_file(file)) return std::nullopt;
  const GgufHeader header = read_gguf_header(file);
  const auto text = [&](const char* name) -> std::string {
    const auto found = header.fields.find(name);
    if (found == header.fields.end() || !found->second.is_string()) return {};
    const auto value = found->second.get<std::string>();
    return is_utf8(value) ? value : "?";
  };
  GgufFacts facts;
  facts.type = text("general.type");
  if (facts.type.empty()) facts.type = "model";  // files from before the field
  facts.tokenizer = text("tokenizer.ggml.model");
  if (const auto tokens = header.arrays.find("tokenizer.ggml.tokens");
      tokens != header.arrays.end()) {
    facts.tokens = tokens->second.count;
  }
  constexpr const char* kTemplate = "tokenizer.chat_template";
  facts.chat_template = header.fields.contains(kTemplate) || header.arrays.contains(kTemplate);
  return facts;
}

}  // namespace thorns
