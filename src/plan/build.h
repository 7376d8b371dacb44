// Turns a recipe into one program per output tensor.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "plan/match.h"
#include "plan/plan.h"
#include "plan/tensor_sets.h"

namespace thorns {

// The updates of one fold node, by base tensor.
using FoldUpdates = std::multimap<std::string, ResolvedUpdate>;

// Leaves below a node, as indices in Recipe::leaves, in order of first mention.
std::vector<std::size_t> leaves_below(const Recipe& recipe, std::size_t node);

// Everything that programs are made from.
struct Workshop {
  const Recipe* recipe = nullptr;
  const std::vector<LeafView>* views = nullptr;  // like recipe->leaves
  TensorSet set;                                 // of the output
  std::map<std::size_t, const Adapter*> folded;  // what each fold folds, by recipe node
  std::map<std::size_t, FoldUpdates> folds;      // by recipe node
  // Folds, as recipe nodes, that part a head from the embedding that it is: with a word of their
  // own for the head, or by an embedding of modules_to_save, which training kept apart.
  std::set<std::size_t> parting;
  std::optional<Dtype> dtype;  // of all floating outputs
  VocabularyRule vocabulary = VocabularyRule::Strict;
};

// A tensor of modules_to_save, of as many rows as the model's `embedding`: training left a head
// that is tied to that what it was.
bool is_apart(const ResolvedUpdate& resolved, const TensorInfo& embedding);

// The tensor as the first leaf that has it describes it.
const TensorInfo& described(const std::vector<LeafView>& views, const std::string& tensor);

// The program of one tensor of the output, without operands that do not reach the result. Throws
// Mismatch or Unsupported where the recipe makes no sense for it.
// `lost` gets the labels of adapters
// whose change of this tensor is replaced by a later adapter.
Program build_program(const Workshop& workshop, const LayerStack& stack, const std::string& tensor,
                      std::vector<std::string>& lost);

}  // namespace thorns
