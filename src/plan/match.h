// Which tensors the output has, and where each leaf keeps its share of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "thorns/error.h"

namespace thorns {

inline constexpr const char* kOutputHead = "lm_head.weight";

// One leaf, seen as the merge sees it: buffers that model code computes anew are left out, and a
// tied output head stands for the embedding it shares.
struct LeafView {
  const Checkpoint* source = nullptr;
  std::vector<TensorInfo> tensors;             // sorted by name; what folds may address
  std::map<std::string, std::size_t> by_name;  // merge name -> index in source->tensors()
  std::optional<std::string> embedding;        // of a leaf whose head is tied and not stored
};

// A buffer that model code computes anew on loading (rotary tables, causal masks): the reason why
// it is dropped, or nullopt for everything else.
std::optional<std::string> recomputed_buffer(const TensorInfo& tensor);

// True for embeddings and output heads: their first dimension counts tokens.
bool has_token_rows(std::string_view tensor);

// Makes the view of one leaf. Dropped tensors are added to `dropped`.
LeafView view_leaf(const Checkpoint& leaf, const std::string& name, std::vector<Dropped>& dropped);

// Gives every view an output head where `needed` or where another leaf stores one; then all views
// must hold the same names with the same shapes, but for token rows where `rule` allows it.
// Problems are collected, a few lines each however many tensors differ.
void match_views(const Recipe& recipe, std::vector<LeafView>& views, bool head_needed,
                 VocabularyRule rule, std::vector<Error>& problems);

}  // namespace thorns
