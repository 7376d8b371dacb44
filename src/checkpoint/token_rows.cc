#include "checkpoint/token_rows.h"

#include <algorithm>
#include <array>

namespace thorns {
namespace {

// shared: T5's; embeddings, embedding: Mamba's.
constexpr std::array<std::string_view, 8> kEmbeddings = {
    "embed_tokens.weight",   "wte.weight",        "word_embeddings.weight", "embed_in.weight",
    "tok_embeddings.weight", "embeddings.weight", "embedding.weight",       "shared.weight"};
constexpr std::array<std::string_view, 4> kHeads = {kOutputHead, "lm_head.bias", "embed_out.weight",
                                                    "output.weight"};

constexpr std::array<std::string_view, 5> kSpeechModels = {"canary", "cohere_asr", "moonshine",
                                                           "moonshine_streaming", "whisper"};

template <std::size_t N>
bool ends_with_any(std::string_view name, const std::array<std::string_view, N>& ends) {
  return std::any_of(ends.begin(), ends.end(),
                     [&](std::string_view end) { return ends_with_components(name, end); });
}

}  // namespace

std::string_view output_head_of(std::string_view model_type) {
  const bool speech =
      std::find(kSpeechModels.begin(), kSpeechModels.end(), model_type) != kSpeechModels.end();
  return speech ? kSpeechHead : kOutputHead;
}

std::string shared_embedding(std::string_view module) {
  constexpr std::string_view kEmbedding = "coder.embed_tokens";  // "text_encoder" is one, too
  if (!module.ends_with(kEmbedding)) return {};
  const std::size_t dot = module.rfind('.', module.size() - kEmbedding.size());
  return std::string(module.substr(0, dot == module.npos ? 0 : dot + 1)) + "shared";
}

bool ends_with_components(std::string_view name, std::string_view end) {
  return name.ends_with(end) &&
         (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
}

bool is_embedding(std::string_view tensor) { return ends_with_any(tensor, kEmbeddings); }
// Other models have a proj_out, too, within some module.
bool is_output_head(std::string_view tensor) {
  return tensor == kSpeechHead || ends_with_any(tensor, kHeads);
}
bool has_token_rows(std::string_view tensor) {
  return is_embedding(tensor) || is_output_head(tensor);
}

}  // namespace thorns
