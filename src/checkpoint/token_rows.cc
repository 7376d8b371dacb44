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

template <std::size_t N>
bool ends_with_any(std::string_view name, const std::array<std::string_view, N>& ends) {
  return std::any_of(ends.begin(), ends.end(),
                     [&](std::string_view end) { return ends_with_components(name, end); });
}

}  // namespace

bool ends_with_components(std::string_view name, std::string_view end) {
  return name.ends_with(end) &&
         (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
}

bool is_embedding(std::string_view tensor) { return ends_with_any(tensor, kEmbeddings); }
bool is_output_head(std::string_view tensor) { return ends_with_any(tensor, kHeads); }
bool has_token_rows(std::string_view tensor) {
  return is_embedding(tensor) || is_output_head(tensor);
}

}  // namespace thorns
