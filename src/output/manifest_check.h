// A manifest held against the plan that its recipe makes of the inputs as they are now.
#pragma once

#include <string>
#include <vector>

#include "output/manifest_reader.h"
#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

struct ManifestDifference {
  std::string tensor;   // empty where the whole is meant
  std::string message;  // a clause about the tensor or the manifest: "lists 2 models, ..."
};

// Inputs (by name, files, sizes, and SHA-256 where it is recorded: those are read), recipe, output
// and tensors. What depends on where the inputs lie is left out, and the numbers of the tensors.
// Throws what reading the inputs throws.
std::vector<ManifestDifference> recipe_differences(Disk& disk, const Manifest& manifest,
                                                   const Plan& plan);

// The numbers of the tensors (coefficients, norms, angles, counts), for the programs of `plan`,
// which may be a part of the whole plan. One entry of `facts` per program.
std::vector<ManifestDifference> number_differences(const Manifest& manifest, const Plan& plan,
                                                   const std::vector<TensorFacts>& facts);

}  // namespace thorns
