#include "output/prompt_formats.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace thorns {
namespace {

struct Format {
  std::string_view name;
  std::string_view example;
  std::string_view chat_template;  // Jinja, as transformers renders it
};

// The fixed parts are what the models were trained on, letter for letter.
constexpr std::array<Format, 5> kFormats = {{
    {"alpaca",
     "Below is an instruction that describes a task. Write a response that appropriately completes "
     "the request.\n\n### Instruction:\nName three plants with thorns.\n\n### Response:\n",
     R"({{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }})"
     R"({% else %}Below is an instruction that describes a task. Write a response that )"
     R"(appropriately completes the request.{% endif %}{% for message in messages %})"
     R"({% if message['role'] == 'user' %}{{ '\n\n### Instruction:\n' + message['content'] }})"
     R"({% elif message['role'] == 'assistant' %}{{ '\n\n### Response:\n' + message['content'] }})"
     R"({{ eos_token }}{% endif %}{% endfor %})"
     R"({% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %})"},
    {"chatml",
     "<|im_start|>system\nYou answer briefly.<|im_end|>\n<|im_start|>user\nName three plants with "
     "thorns.<|im_end|>\n<|im_start|>assistant\n",
     R"({% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' )"
     R"(+ message['content'] + '<|im_end|>\n' }}{% endfor %})"
     R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})"},
    {"llama2",
     "[INST] <<SYS>>\nYou answer briefly.\n<</SYS>>\n\nName three plants with thorns. [/INST]\n",
     R"({% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + )"
     R"(messages[0]['content'] + '\n<</SYS>>\n\n' %}{% set turns = messages[1:] %})"
     R"({% else %}{% set system = '' %}{% set turns = messages %}{% endif %})"
     R"({% for message in turns %}{% if message['role'] == 'user' %}{{ bos_token }})"
     R"({{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }})"
     R"({% else %}{{ ' ' + message['content'] + ' ' }}{{ eos_token }}{% endif %}{% endfor %})"},
    {"llama3",
     "<|start_header_id|>system<|end_header_id|>\n\nYou answer briefly.<|eot_id|>"
     "<|start_header_id|>user<|end_header_id|>\n\nName three plants with thorns.<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     R"({{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + )"
     R"('<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}{% endfor %})"
     R"({% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }})"
     R"({% endif %})"},
    {"vicuna",
     "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
     "helpful, detailed, and polite answers to the user's questions. USER: Name three plants with "
     "thorns. ASSISTANT:\n",
     R"({{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }})"
     R"({% else %}A chat between a curious user and an artificial intelligence assistant. The )"
     R"(assistant gives helpful, detailed, and polite answers to the user's questions.{% endif %})"
     R"({% for message in messages %}{% if message['role'] == 'user' %})"
     R"({{ ' USER: ' + message['content'] }}{% elif message['role'] == 'assistant' %})"
     R"({{ ' ASSISTANT: ' + message['content'] }}{{ eos_token }}{% endif %}{% endfor %})"
     R"({% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %})"},
}};

const Format* find(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  const auto* const at = std::find_if(kFormats.begin(), kFormats.end(),
                                      [&](const Format& format) { return format.name == lower; });
  return at == kFormats.end() ? nullptr : at;
}

}  // namespace

std::optional<std::string> prompt_example(std::string_view name) {
  const Format* const format = find(name);
  if (format == nullptr) return std::nullopt;
  return std::string(format->example);
}

std::optional<std::string> chat_template(std::string_view name) {
  const Format* const format = find(name);
  if (format == nullptr) return std::nullopt;
  return std::string(format->chat_template) + "\n";
}

}  // namespace thorns
