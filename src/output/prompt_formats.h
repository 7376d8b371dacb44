// Prompt formats by name, written out with an example, for the model card.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thorns {

// A filled example of `alpaca`, `chatml`, `vicuna` or `llama2` (case ignored), up to where the
// model's answer begins; nullopt for another name.
std::optional<std::string> prompt_example(std::string_view name);

}  // namespace thorns
