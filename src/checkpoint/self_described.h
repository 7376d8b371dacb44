// What a GGUF checkpoint can say of itself, because its file holds what a model folder has in files
// of its own.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace thorns {

// A small file of a model folder that is made, not copied.
struct MadeFile {
  std::string name;
  std::string text;
};

// Implemented by checkpoints; thread-safe as they are.
class SelfDescribed {
 public:
  virtual ~SelfDescribed() = default;
  // config() is made from the metadata, which call Mistral a llama.
  virtual bool makes_config() const = 0;
  // The metadata hold a tokenizer, and no tokenizer_files() go before it.
  virtual bool holds_tokenizer() const = 0;
  // Why it cannot be made: "it is of the kind `rwkv`"; empty where it can.
  virtual std::string why_no_tokenizer() const = 0;
  // The tokenizer as the files that transformers reads, made anew with every call; empty where
  // there is none or it cannot be made.
  virtual std::vector<MadeFile> made_tokenizer() const = 0;
};

// nullptr for a checkpoint that is not.
inline const SelfDescribed* self_described(const Checkpoint& checkpoint) {
  return dynamic_cast<const SelfDescribed*>(&checkpoint);
}

}  // namespace thorns
