// Leaves that do not hold the same tensors: names spelled in other ways, tensors that only some of
// them have. docs/checkpoints.md lists the rules, and why each is safe.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/match.h"

namespace thorns {

// How a leaf that lacks a tensor of the output takes part in it.
enum class Absent {
  Zero,   // as zeros: what a bias that is not there adds
  Apart,  // not at all: the others are blended by their weights among themselves
};

struct TensorSet {
  std::map<std::string, std::optional<Absent>> names;  // of the output; set where a leaf lacks it
  Json config = Json::object();  // fields that the first leaf's config.json has to have then
};

// Spells the names of every view as one leaf does: the first that keeps its body under a prefix
// (`model.`), which a model saved without its head does not. Says what was done, a line for each
// leaf that was renamed.
std::vector<std::string> align_names(const Recipe& recipe, std::vector<LeafView>& views);

// Decides on every tensor that only some views hold. Tensors that the output leaves out are taken
// from the views and added to `dropped`; what else was decided is said in `warnings`, a few lines
// however many tensors there are. Where no rule is safe, a leaf has one line in `problems`.
TensorSet settle_tensors(const Recipe& recipe, std::vector<LeafView>& views,
                         std::vector<Dropped>& dropped, std::vector<std::string>& warnings,
                         std::vector<Error>& problems);

}  // namespace thorns
