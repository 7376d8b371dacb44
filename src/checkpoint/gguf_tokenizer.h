// The tokenizer in the metadata of a GGUF file, as the files that transformers loads. Private to
// this room.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/gguf_header.h"
#include "checkpoint/self_described.h"

namespace thorns {

// Why the metadata does not make a tokenizer: "it names the pre-tokenizer `x`"; empty where it
// does. A SentencePiece model (`llama`) does, and byte-level BPE (`gpt2`) whose pre-tokenizer is
// that of Llama 3, Qwen 2 or GPT-2.
std::string why_no_tokenizer(const GgufHeader& header);

// tokenizer.model (SentencePiece) or tokenizer.json (BPE), and tokenizer_config.json with the chat
// template. Ids, texts, scores, kinds and merges are those of the metadata. Throws Corrupt where
// arrays do not fit together.
std::vector<MadeFile> make_tokenizer(const ReadFile& file, const GgufHeader& header);

}  // namespace thorns
