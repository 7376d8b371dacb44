// thorns builds one language model out of many.
//
// A recipe names models and adapters and says how to blend them:
//
//     #include "thorns/thorns.h"
//
//     thorns::MergeOptions options;
//     options.recipe = "{({NousHermes+Chronos}[Kimiko])+Platypus}";
//     options.inputs.paths = {"models", "adapters"};
//     options.output = "MyModel";
//     thorns::Observer silent;
//     thorns::MergeSummary summary = thorns::merge(options, silent);
//
// `merge` streams every input tensor, evaluates the whole recipe tensor by tensor and writes the
// finished checkpoint once. `plan` says what it would do and all that it would refuse. `read_key`
// reads a key back without touching a file.
//
// Errors are thrown as thorns::Error (error.h). The functions may be called from several threads at
// once, with different outputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "thorns/dtype.h"
#include "thorns/error.h"
#include "thorns/observer.h"

namespace thorns {

// "0.1.0"
const char* version();

// Where the names of a recipe are looked up: its own bindings first, then `models` and `adapters`
// (name -> folder or file), then `paths` (DIR/NAME), then `fallback_paths`, then the file system.
struct Inputs {
  std::vector<std::pair<std::string, std::string>> models;
  std::vector<std::pair<std::string, std::string>> adapters;
  std::vector<std::string> paths;
  std::vector<std::string> fallback_paths;
  // Adapter's name -> file of the beginnings of its module names and what the model has in their
  // place (docs/adapters.md). Without a name: for all adapters that have none of their own.
  std::vector<std::pair<std::string, std::string>> key_maps;
};

struct MergeOptions {
  std::string recipe;          // a key, or the path of a recipe file, or "-"
  std::string standard_input;  // the recipe's text where `recipe` is "-"
  Inputs inputs;
  std::string output;  // the folder to make
  std::string card;    // a template of the model card; empty: the default (docs/model-card.md)
  std::optional<Dtype> dtype;
  std::optional<std::uint64_t> shard_size;  // bytes; default 5 GB
  std::string vocabulary;                   // empty: the recipe's, else the default
  std::string tokenizer;                    // a model's name; empty: the first that has one
  std::uint64_t memory = 512'000'000;       // ceiling on resident memory, bytes
  std::size_t threads = 0;                  // 0: one per core
  bool force = false;                       // replace a finished folder
  bool allow_nonfinite = false;             // count NaN and Inf instead of stopping
};

// ---------------------------------------------------------------- keys

// A line of the drawn key: a model or a blend with what is folded into it.
struct KeyPart {
  std::size_t depth = 0;  // 0: the whole; else it belongs to the last part before it that is one
                          // less deep
  std::string label;      // brackets as in the key: "(SLERP merge [Kimiko])", "Holodeck [LIMA RP]"
  double share = 0.0;     // of the result, 0 to 1
};
// How much of one model or adapter the result has, over all its mentions.
struct KeyShare {
  std::string name;
  double share = 0.0;  // of an adapter: its weight, 1 where it is folded into the whole
};

struct KeyReport {
  std::string canonical;
  std::string tree;                 // in words, one node a line
  std::vector<std::string> legend;  // what the brackets that occur mean
  std::vector<std::string> models;  // names, in order of first mention
  std::vector<std::string> adapters;
  // By the weights of the key alone: for SLERP by t, which stands for nearly that share where the
  // models are close; a gradient counts as its mean.
  std::vector<KeyPart> parts;            // in the order in which they are drawn
  std::vector<KeyShare> model_shares;    // like `models`
  std::vector<KeyShare> adapter_shares;  // like `adapters`
};
KeyReport read_key(const std::string& key);

// ---------------------------------------------------------------- methods

struct MethodParameter {
  std::string name;
  std::string type;  // "number", "flag" or "word"
  std::string default_value;
  std::string range;
  std::string help;
};
struct MethodInfo {
  std::string name;
  std::string summary;
  std::string reference;
  std::string models;  // "2", "1 or more"; of a combination, how many adapters
  std::vector<MethodParameter> parameters;
};
std::vector<MethodInfo> methods();
// The ways to make one adapter of several before it is folded: `A[L+K; ties, density=0.5]`.
std::vector<MethodInfo> combinations();

// ---------------------------------------------------------------- plan

struct LeafReport {
  std::string name;
  std::string path;
  std::string architecture;
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
  std::string dtypes;  // "BF16", "BF16 290, F32 1"
};
struct AdapterReport {
  std::string name;
  std::string path;
  std::string family;
  std::string base_model;
  std::uint64_t updates = 0;
  std::uint64_t bytes = 0;
};
struct ShardReport {
  std::string file;
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
};
struct DroppedReport {
  std::string tensor;
  std::string leaf;
  std::string reason;
};

struct PlanReport {
  std::string key;
  std::vector<LeafReport> leaves;
  std::vector<AdapterReport> adapters;
  std::uint64_t tensors = 0;
  std::uint64_t merged = 0;
  std::uint64_t copied = 0;
  std::uint64_t cast = 0;
  std::vector<DroppedReport> dropped;
  std::uint64_t bytes_in = 0;    // of all inputs that are used, each once
  std::uint64_t bytes_read = 0;  // read calls in all, second sweeps of large tensors included
  std::uint64_t bytes_out = 0;
  std::uint64_t memory = 0;  // what the run will hold at most
  std::uint64_t memory_ceiling = 0;
  std::uint64_t least_memory = 0;  // smallest ceiling this recipe accepts
  std::uint64_t disk_needed = 0;
  std::uint64_t disk_free = 0;
  std::optional<double>
      seconds;  // estimate from a short measured read; none where nothing can be read
  std::vector<ShardReport> shards;
  std::vector<std::string> warnings;
  std::vector<Error> problems;  // everything merge would refuse
};
// Opens headers only and writes nothing. Throws only where no recipe can be made at all (a key that
// does not parse); everything else is in `problems`.
PlanReport plan(const MergeOptions& options, Observer& observer);

// The little program of one output tensor, in words.
std::string explain(const MergeOptions& options, const std::string& tensor);

// ---------------------------------------------------------------- merge

struct AngleExtreme {
  double radians = 0.0;
  std::string tensor;
};
struct NodeSummary {
  std::string key;  // canonical key of the node
  std::string method;
  std::optional<AngleExtreme> smallest;
  std::optional<AngleExtreme> largest;
  std::uint64_t fell_back = 0;  // tensors blended linearly because the angle was too small
};
struct FirstAngles {  // of one tensor at every node, in writing order
  std::string tensor;
  std::vector<std::pair<std::string, double>> angles;  // node key, radians
};

struct MergeSummary {
  PlanReport plan;
  std::string output;
  std::uint64_t merged = 0;
  std::uint64_t copied = 0;
  std::uint64_t cast = 0;
  std::uint64_t dropped = 0;
  std::uint64_t bytes_read = 0;     // of inputs, second reads of large tensors included
  std::uint64_t bytes_written = 0;  // of tensor data
  // Of an interrupted run that this one went on with; not in the two above.
  std::uint64_t tensors_kept = 0;
  std::uint64_t bytes_kept = 0;    // of their data
  std::uint64_t reads_spared = 0;  // bytes of the plan that were read for them
  std::uint64_t peak_memory = 0;   // resident, of the whole process
  double seconds = 0.0;
  std::uint64_t elements = 0;
  std::uint64_t rounded = 0;
  std::uint64_t clipped = 0;
  std::uint64_t nonfinite = 0;
  std::vector<NodeSummary> nodes;
  std::vector<FirstAngles> first_angles;  // of the first few tensors
  std::vector<std::string> warnings;
};
MergeSummary merge(const MergeOptions& options, Observer& observer);

// ---------------------------------------------------------------- JSON, one document each

std::string to_json(const KeyReport& report);
std::string to_json(const std::vector<MethodInfo>& methods,
                    const std::vector<MethodInfo>& combinations);
std::string to_json(const PlanReport& report);
std::string to_json(const MergeSummary& summary);
std::string to_json(const Error& error);

}  // namespace thorns
