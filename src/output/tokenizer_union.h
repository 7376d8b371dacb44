// The tokens that a merge's tokenizer gets from other models, written into the files of its own.
#pragma once

#include <vector>

#include "base/disk.h"
#include "output/tokenizer_files.h"
#include "plan/vocabulary.h"

namespace thorns {

// Adds `vocabulary.added` to the base's files: what is there of tokenizer.json, tokenizer.model,
// vocab.json, tokenizer_config.json and added_tokens.json, so that every token's id is its row,
// however the tokenizer is loaded; bytes that are there stay. Tokens that were added to their own
// model's vocabulary are added again, with its flags; all others become part of the vocabulary
// itself, where they cut up no text that the base's tokens would not. Throws Unsupported where a
// file cannot hold a token at its id.
void add_tokens(Disk& disk, const Plan& plan, const Vocabulary& vocabulary,
                std::vector<TokenizerFile>& files);

}  // namespace thorns
