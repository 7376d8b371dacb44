// Which tensors have a row for every token of the vocabulary, by the spelling of the model
// families.
#pragma once

#include <string_view>

namespace thorns {

inline constexpr const char* kOutputHead = "lm_head.weight";

// `end` is the name, or its last components.
bool ends_with_components(std::string_view name, std::string_view end);

bool is_embedding(std::string_view tensor);
bool is_output_head(std::string_view tensor);
bool has_token_rows(std::string_view tensor);  // either of the two

}  // namespace thorns
