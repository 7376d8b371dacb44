// What is likely to go wrong with a recipe, with the measurements behind it.
//
//     thorns::MergeOptions options;
//     options.recipe = "{A[L]+B[L]}";
//     thorns::Observer silent;
//     for (const thorns::Finding& finding : thorns::check(options, {}, silent).findings) ...
//
// Headers, configurations and cards are compared first; then all inner products of the recipe's
// models and adapters are measured in one sweep, and everything that is said of weights follows
// from them. They are measurements of weights and no promise of quality. Nothing is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "thorns/thorns.h"

namespace thorns {

enum class Severity {
  Note,     // worth knowing
  Warning,  // probably not what was meant
  Error     // merge would refuse it
};
const char* to_string(Severity severity);  // "note", "warning", "error"

struct Finding {
  std::string code;  // a stable word: "adapter-repeated"
  Severity severity = Severity::Note;
  std::string message;    // one sentence, no full stop
  std::string advice;     // what to do; may be empty
  Where place;            // in the key where it has one, else a file or tensor
  std::string leaf = {};  // whom it is about, by the names of the recipe
  std::string adapter = {};
  std::string node = {};                                      // canonical key
  std::vector<std::pair<std::string, double>> measured = {};  // the numbers of the message, by name
};

// An adapter where the recipe folds it, over all tensors that it changes and that were measured.
struct FoldMeasure {
  std::string adapter;
  std::string model;      // canonical key of what it is folded into
  double strength = 0.0;  // norm of what it adds / norm of what it is added to
  double overlap = 0.0;   // cosine between what it adds and what sets that model apart from the
                          // mean of all models of the recipe
  double reaches = 0.0;   // its weight in the result; 1: as folded into the whole with weight 1
  // How much of the models below lies in the adapter's input space, to a random space of its rank;
  // none where it has no low-rank update of a plain weight.
  std::optional<double> fit;
  std::uint64_t tensors = 0;
};

// A node at which a method measured an angle.
struct NodeMeasure {
  std::string key;
  std::uint64_t tensors = 0;
  std::uint64_t fell_back = 0;  // of them: blended linearly
  double smallest = 0.0;        // radians; of matrices alone where there are any
  double median = 0.0;
  double largest = 0.0;
};

// An adapter against a model of the recipe, which is taken without any fold, over all tensors that
// the adapter changes and that were measured.
struct PlacementMeasure {
  std::string adapter;
  std::string model;      // canonical key: a leaf, or a part that the recipe merges
  double strength = 0.0;  // norm of what the adapter adds / norm of the model
  double held = 0.0;     // how many times over the model has that already: what sets it apart (from
                         // Suggestion::seen_from) projected onto it
  double reaches = 0.0;  // weight in the result if it were folded there
};

// Where each adapter would have the largest effect at the least overlap, by measurements of weights
// alone.
struct Suggestion {
  std::string seen_from;  // the model that is the base of the others; empty: their mean
  std::vector<PlacementMeasure> table;   // every adapter against every model
  std::vector<PlacementMeasure> chosen;  // where the key folds each, in its order
  std::string key;                       // ready to use
};

struct CheckReport {
  std::string key;                // canonical
  std::vector<Finding> findings;  // errors first, then warnings, then notes
  std::vector<FoldMeasure> folds;
  std::vector<NodeMeasure> nodes;
  std::optional<Suggestion> suggestion;
  std::uint64_t tensors = 0;     // of the output
  std::uint64_t measured = 0;    // of them
  std::uint64_t bytes_read = 0;  // to measure

  bool refused() const {  // merge would not start
    return !findings.empty() && findings.front().severity == Severity::Error;
  }
};

struct CheckOptions {
  bool headers_only = false;          // measure nothing
  std::optional<std::size_t> layers;  // measure this many layers, evenly spread; default all
  bool suggest = false;               // look for a better place for every adapter
};

// Throws only where no recipe can be made at all (a key that does not parse, names that are not
// found) and for damage met while measuring; what merge would refuse is among the findings.
CheckReport check(const MergeOptions& options, const CheckOptions& check_options,
                  Observer& observer);

std::string to_json(const CheckReport& report);

}  // namespace thorns
