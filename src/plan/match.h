// Which tensors the output has, and where each leaf keeps its share of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/token_rows.h"
#include "plan/plan.h"
#include "thorns/error.h"

namespace thorns {

// One leaf, seen as the merge sees it: buffers that model code computes anew are left out, what
// training tools wrap modules in is taken off the names, and a tied output head stands for the
// embedding it shares.
struct LeafView {
  const Checkpoint* source = nullptr;
  std::vector<TensorInfo> tensors;             // sorted by name; what folds may address
  std::map<std::string, std::size_t> by_name;  // merge name -> index in source->tensors()
  std::string_view head = kOutputHead;         // what its output head is called
  std::optional<std::string> embedding;        // of a leaf whose head is tied and not stored
  // Where the rows of token tensors lie in the output, by merge name; the first where none is
  // given.
  std::map<std::string, std::shared_ptr<const RowRuns>> rows;
  const TensorSource* extension = nullptr;  // rows beyond its own, by merge name (extension.h)

  // After lend_heads, also one that is lent.
  bool has_head() const { return by_name.contains(std::string(head)); }
  // As its file describes it; the name may be another. `name` must be in by_name.
  const TensorInfo& tensor(const std::string& name) const {
    return source->tensors()[by_name.at(name)];
  }
};

// A buffer that model code computes anew on loading (rotary tables, causal masks): the reason why
// it is dropped, or nullopt for everything else.
std::optional<std::string> recomputed_buffer(const TensorInfo& tensor);

std::optional<std::string> find_embedding(const LeafView& view);

// Whether two tensors of a source have the same type, shape and bytes. Reads no further than the
// first difference, with less than 2 MB of memory.
bool same_bytes(const TensorSource& source, std::size_t a, std::size_t b);

// Makes the view of one leaf. Dropped tensors are added to `dropped`. Throws Unsupported for a
// model that was saved with adapters in it.
LeafView view_leaf(const Checkpoint& leaf, const std::string& name, std::vector<Dropped>& dropped);

// Gives every view an output head where `head_needed` or where another leaf stores one, and its
// embedding is its head.
void lend_heads(std::vector<LeafView>& views, bool head_needed);

// Tensors of one name must have one shape, but for token rows where `rule` allows it, and all be
// numbers that can be blended or of one other type. Problems are collected, one line for a leaf
// however many tensors differ.
void compare_tensors(const Recipe& recipe, const std::vector<LeafView>& views, VocabularyRule rule,
                     std::vector<Error>& problems);

// All leaves must be models of one architecture; false, and a problem each, where they are not.
bool same_architecture(const Recipe& recipe, const std::vector<LeafView>& views,
                       std::vector<Error>& problems);

}  // namespace thorns
