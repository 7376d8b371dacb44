// Several low-rank adapters as the one that PEFT's add_weighted_adapter makes of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "method/combination.h"

namespace thorns {

struct CombinedMember {
  const Adapter* adapter = nullptr;  // outlives the combined adapter
  double weight = 1.0;
  std::string name;  // for messages
};

// With w = weight * scale of a member's update, factors A (rank x in) and B (out x rank), for every
// module from the members that have it:
//   linear  A = sum of sign(w) sqrt|w| A_i, B = sum of sqrt|w| B_i
//   cat     A = the w A_i over each other, B = the B_i beside each other
//   svd     the nearest matrix of the rank asked for to the sum of w B_i A_i
// Pruning keeps, of each A and B (svd: of each scaled product), the `density` largest magnitudes,
// or random ones that are divided by the density (DARE: Yu et al. 2023). Electing signs (TIES:
// Yadav et al. 2023) leaves out what has not the sign of the majority and averages the rest.
// The result has scale 1, whatever the members' scales. All random numbers follow from the seed,
// the module's name, the member's number and the element's; they are not those of torch.
//
// Unsupported for members that are not LoRA or rsLoRA or replace whole tensors; Mismatch where the
// factors of a module differ in shape (or in rank, but for cat and svd). Nothing is read yet.
std::unique_ptr<Adapter> combine(std::vector<CombinedMember> members, const Combination& how,
                                 const std::string& name);

}  // namespace thorns
