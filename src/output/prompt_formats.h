// Prompt formats by name, written out with an example for the model card, and as chat templates.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thorns {

// A filled example of `alpaca`, `chatml`, `llama2`, `llama3` or `vicuna` (case ignored), up to
// where the model's answer begins; nullopt for another name.
std::optional<std::string> prompt_example(std::string_view name);

// The same format as a chat template of transformers (Jinja).
std::optional<std::string> chat_template(std::string_view name);

}  // namespace thorns
