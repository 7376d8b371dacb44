#include "output/prompt_formats.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace thorns {
namespace {

struct Format {
  std::string_view name;
  std::string_view example;
};

// The fixed parts are what the models were trained on, letter for letter.
constexpr std::array<Format, 4> kFormats = {{
    {"alpaca",
     "Below is an instruction that describes a task. Write a response that appropriately completes "
     "the request.\n\n### Instruction:\nName three plants with thorns.\n\n### Response:\n"},
    {"chatml",
     "<|im_start|>system\nYou answer briefly.<|im_end|>\n<|im_start|>user\nName three plants with "
     "thorns.<|im_end|>\n<|im_start|>assistant\n"},
    {"llama2",
     "[INST] <<SYS>>\nYou answer briefly.\n<</SYS>>\n\nName three plants with thorns. [/INST]\n"},
    {"vicuna",
     "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
     "helpful, detailed, and polite answers to the user's questions. USER: Name three plants with "
     "thorns. ASSISTANT:\n"},
}};

}  // namespace

std::optional<std::string> prompt_example(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  for (const Format& format : kFormats) {
    if (format.name == lower) return std::string(format.example);
  }
  return std::nullopt;
}

}  // namespace thorns
