// Which tensors have a row for every token of the vocabulary, by the spelling of the model
// families.
#pragma once

#include <string>
#include <string_view>

namespace thorns {

inline constexpr const char* kOutputHead = "lm_head.weight";
inline constexpr const char* kSpeechHead = "proj_out.weight";  // Whisper's

// What the output head of models of this type is called, where it is tied to the embedding.
std::string_view output_head_of(std::string_view model_type);

// `end` is the name, or its last components.
bool ends_with_components(std::string_view name, std::string_view end);

bool is_embedding(std::string_view tensor);
// "model.shared", the one embedding that T5, BART and their kin have for both, for
// "model.encoder.embed_tokens" and "model.decoder.embed_tokens"; empty for other modules.
std::string shared_embedding(std::string_view module);
bool is_output_head(std::string_view tensor);
bool has_token_rows(std::string_view tensor);  // either of the two

}  // namespace thorns
