// Where each adapter of a recipe would change the result most and overlap least: measured against
// every model of the recipe, then chosen.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "engine/solve.h"
#include "plan/plan.h"
#include "thorns/check.h"

namespace thorns {

// Adapters that a placement is searched for, at most: the search tries every set of them.
constexpr std::size_t kMostPlaced = 10;

// The models are those of the recipe without any fold: its leaves, and the parts that it merges.
// Every blend is solved anew for them, from the same inner products.
class PlacementSurvey {
 public:
  // `same_adapter`: per adapter of the recipe the first one of the same content; only these are
  // placed. Throws BadUsage where there are none, or more than kMostPlaced. `plan` must outlive
  // this.
  PlacementSurvey(const Plan& plan, const std::vector<std::size_t>& same_adapter);

  // What `survey` of the engine measured of one program.
  void add(std::size_t program, const CellGrams& grams);

  // `base`: the leaf from which the others differ, where one is known; what a model learned is then
  // seen from it, else from the mean of all leaves.
  //
  // Of all ways to fold each adapter into one model the suggestion is one of those with the fewest
  // adapters on top of one another; among these one with the fewest adapters on a model without any
  // part of the one that their configuration names, where the recipe has that; and among these one
  // with the largest product of what of each adapter survives the merges above it, of 1 - held
  // (where that is positive), and of 1 - |cosine| for every two that have to share a model.
  Suggestion suggest(std::optional<std::size_t> base) const;

 private:
  // Sums over all tensors that an adapter changes, as if they were one vector.
  struct Against {     // one model
    double model = 0;  // squared norm
    double cross = 0;  // <delta, model>
    double reach = 0;  // squared norm of the delta, times the model's share of the result
  };
  struct Sums {
    double delta = 0;                                             // squared norm
    std::map<std::size_t, Against> against;                       // by recipe node
    std::map<std::pair<std::size_t, std::size_t>, double> parts;  // (blend, term): like reach
    std::vector<double> with;                                     // <delta, delta of another>
  };

  const Plan& plan_;
  std::vector<std::size_t> folds_;   // recipe nodes: the first fold of every adapter to be placed
  std::vector<std::size_t> models_;  // recipe nodes
  std::vector<Sums> sums_;           // like folds_
};

}  // namespace thorns
