// LoRA on the raw parameters of a module (target_parameters), as stacks of experts have them.
// Private to this room.
//
// Of E experts and rank r, A is (E r, in), the experts behind one another, and B is (out, r E), the
// experts fastest: D_e = B[:, :, e] A[e]. The parameter is stored (E, out, in) and D_e added to it,
// or (E, in, out) and the transpose of D_e: the shapes tell, or where they are square the version
// of PEFT that wrote the adapter. A checkpoint may also hold every expert's matrices by themselves,
// with the rows of a stacked gate and up cut in two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "adapter/adapter.h"

namespace thorns {

struct ExpertFactors {
  std::size_t a = 0;  // indices in the adapter's source
  std::size_t b = 0;
  std::uint64_t experts = 1;
  std::uint64_t rank = 1;  // of one expert
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  std::string peft_version;  // empty where it is older than the field (0.18.0)

  // Whether a square parameter is stored (E, in, out) in a model of this type.
  Orientation orientation(const std::string& model_type) const;
};

// The update of the stacked parameter `parameter` of `module`, with those of the single experts'
// matrices in its place where the model has these.
Update expert_update(const ExpertFactors& factors, const std::string& module,
                     const std::string& parameter, double scale);

}  // namespace thorns
