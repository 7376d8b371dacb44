// The truth report: what a finished merge is made of, in numbers, from its manifest and weights.
//
//     thorns::Observer silent;
//     const thorns::Report report = thorns::report({"13B-Thorns"}, silent);
//     std::string page = thorns::to_html(report);
//
// The page is one file that needs no network. Every text in it that came with the folder is
// escaped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thorns/dtype.h"
#include "thorns/observer.h"

namespace thorns {

// A model or an adapter of the recipe.
struct ReportInput {
  enum class Kind {
    Model,
    Adapter,
    Other  // named as the source of a tensor, but not in the recipe
  };
  Kind kind = Kind::Model;
  std::string name;
  std::string where;
  std::string what;         // a model's architecture, an adapter's family; may be empty
  std::string base_model;   // an adapter's
  std::uint64_t bytes = 0;  // of its weights files
};

// What an input is in a set of tensors. Numbers that were not measured are missing.
struct ReportPart {
  std::optional<double> norm;      // L2, of a model
  std::optional<double> distance;  // L2, of the result from a model
  std::optional<double> length;    // L2 norm of what it contributes: its coefficient times itself
  std::optional<double> share;     // its length / the sum of all inputs' lengths
};

// The angles that one node found in a set of tensors, in radians.
struct ReportAngles {
  std::uint64_t tensors = 0;
  std::uint64_t averaged = 0;  // of them, those at which it fell back to linear interpolation
  double smallest = 0.0;
  double mean = 0.0;
  double largest = 0.0;
};

// A set of tensors, with norms and distances as if they were one vector.
struct ReportNumbers {
  std::uint64_t tensors = 0;
  std::uint64_t elements = 0;
  std::optional<double> norm;        // L2, of the exact result
  std::vector<ReportPart> parts;     // like Report::inputs
  std::vector<ReportAngles> angles;  // like Report::measured
  std::uint64_t rounded = 0;
  std::uint64_t clipped = 0;
  std::uint64_t nonfinite = 0;
  std::uint64_t sampled = 0;  // elements that were looked at for the next
  std::uint64_t changed = 0;  // of them: those that one more rounding would have changed
};

// Tensors of one layer that have one name but for numbers ("mlp.experts.*.w1"); mostly one tensor.
struct ReportPlace {
  std::optional<std::size_t> layer;
  std::string module;  // "self_attn.q_proj"; outside of the layers the tensor's name
  std::string tensor;  // the name of the first one
  std::string made;    // "blend", "copy", "cast", "same", or "various"
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;  // of the first one
  ReportNumbers numbers;
};

struct ReportLayer {
  std::size_t layer = 0;
  ReportNumbers numbers;
};

// A node refers to earlier nodes only.
struct ReportEdge {
  bool to_adapter = false;
  std::size_t index = 0;        // in Report::nodes; of an adapter in Report::inputs
  double weight = 1.0;          // as the key has it
  std::optional<double> share;  // what arrives through it: a part of the result
};
struct ReportNode {
  std::string key;
  std::string method;               // empty for models and folds
  std::optional<std::size_t> leaf;  // in Report::inputs
  std::vector<ReportEdge> edges;    // of a fold: the model, then the adapter
  std::optional<double> share;      // what passes through it: a part of the result
};

struct ReportFile {
  std::string name;
  std::uint64_t size = 0;
  std::string sha256;
};
struct ReportDropped {
  std::string tensor;
  std::string leaf;
  std::string reason;
};

struct Report {
  std::string name;                 // of the folder
  std::string program_version;      // of the thorns that merged
  std::string published;            // the key as its author wrote it
  std::string key;                  // canonical
  std::string dtype;                // commonest type of the output
  std::uint64_t bytes = 0;          // of the output's tensors
  std::vector<ReportInput> inputs;  // models, then adapters, then others
  std::vector<ReportNode> nodes;
  std::size_t root = 0;
  std::vector<std::size_t> measured;  // the nodes that found angles
  ReportNumbers whole;
  std::vector<ReportLayer> layers;
  std::vector<ReportPlace> places;  // in the order of the layers, the others around them
  std::vector<std::string> warnings;
  std::vector<ReportDropped> dropped;
  std::vector<ReportFile> files;
};

struct ReportOptions {
  std::string folder;
  bool no_weights = false;  // do not read the norms that the manifest lacks from the weights
  std::size_t threads = 0;  // 0: one per core
};

// Reads `folder`/thorns.json, and of the weights the tensors that the merge copied without
// measuring them. Throws NotFound where there is no manifest, Corrupt and Unsupported for one that
// cannot be understood, what reading a checkpoint throws, Mismatch where weights are not as listed,
// and Cancelled.
Report report(const ReportOptions& options, Observer& observer);

// Where a page about `folder` is kept: beside it, "13B-Thorns.html".
std::string page_path(const std::string& folder);
// Writes `page` to `path`. A page that is there is replaced in one step; anything else is Exists.
void save_page(const std::string& path, const std::string& page);

std::string to_html(const Report& report);
std::string to_json(const Report& report);

}  // namespace thorns
