// What a checkpoint, an adapter or a single weights file holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thorns/observer.h"

namespace thorns {

struct InspectOptions {
  // A folder, a weights file of any format that is read, or a JSON file of a folder (an index).
  std::string path;
  std::string base;                    // the model that an adapter is measured on; empty: none
  bool fold = true;                    // tensors that differ in numbers alone are one group
  bool norms = true;                   // of an adapter's updates: reads them
  bool scan = false;                   // reads every tensor and counts NaN and Inf
  std::uint64_t memory = 512'000'000;  // ceiling on resident memory, bytes
  std::size_t threads = 0;             // 0: one per core; fewer run where the ceiling asks for it
};

// Tensors of one shape and type whose names differ in numbers alone.
struct TensorGroup {
  std::string name;  // "model.layers.{0..31}.mlp.up_proj.weight"
  std::uint64_t tensors = 0;
  std::vector<std::uint64_t> shape;  // of each
  std::string type;                  // as stored: "BF16", "Q4_K"
  std::uint64_t elements = 0;        // of all
  std::uint64_t bytes = 0;           // of all, as stored
};

struct InspectedFile {
  std::string path;
  std::uint64_t bytes = 0;
};

// Something that is not as it mostly is. docs/cli.md lists the codes.
struct InspectNote {
  std::string code;
  std::string message;
};

// What config.json says, under whichever of their names it has the numbers; GGUF's metadata.
struct ModelShape {
  std::string model_type;    // "llama"
  std::string architecture;  // "LlamaForCausalLM"
  std::string dtype;         // "bfloat16"
  std::optional<std::uint64_t> layers;
  std::optional<std::uint64_t> hidden_size;
  std::optional<std::uint64_t> intermediate_size;
  std::optional<std::uint64_t> heads;
  std::optional<std::uint64_t> key_value_heads;
  std::optional<std::uint64_t> head_size;
  std::optional<std::uint64_t> experts;
  std::optional<std::uint64_t> vocabulary;
  std::optional<std::uint64_t> positions;
};

struct SpecialToken {
  std::string role;  // "bos", "eos", "unk", "pad"
  std::string token;
};

struct TokenizerFacts {
  std::string kind;  // "BPE", "Unigram", "WordPiece", "SentencePiece", "llama"; empty: unknown
  std::optional<std::uint64_t> tokens;  // the largest id + 1
  std::optional<std::uint64_t> added;   // of them, special or added to the vocabulary
  std::vector<SpecialToken> special;
  bool chat_template = false;
  std::vector<std::string> files;  // names
};

struct CheckpointFacts {
  ModelShape shape;
  std::string quantisation;  // what the weights are decoded from; empty: plain numbers
  std::string head;  // "tied", "stored", "tied and stored" or "none"; empty of what is refused
  std::optional<TokenizerFacts> tokenizer;
};

// Updates of one rank and scale.
struct RankUse {
  std::uint64_t rank = 0;
  std::optional<double> alpha;  // as the adapter gives it
  double scale = 1.0;
  std::uint64_t updates = 0;
};

struct TargetUse {
  std::string name;  // "q_proj"
  std::uint64_t modules = 0;
};

// What an adapter does to one parameter of its model.
struct UpdateFacts {
  std::string parameter;   // "model.layers.0.self_attn.q_proj.weight", by the adapter's names
  std::string change;      // "low rank", "sum", "replaced", "map", "lines scaled"; joined by ", "
  std::uint64_t rank = 0;  // 0: it has none
  double scale = 1.0;
  // Frobenius norm of what is added; none where it depends on the model, or on its shape.
  std::optional<double> norm;
};

// The same on a model: the difference that the adapter makes.
struct ChangedTensor {
  std::string tensor;              // by the model's name
  double norm = 0.0;               // Frobenius norm of the difference
  std::optional<double> relative;  // to that of the tensor; none where it is zero
};

struct AdapterFacts {
  std::string family;                  // "LoRA", "rsLoRA", "DoRA", "LoHa"
  std::string base_model;              // as the adapter names it; may be empty
  std::vector<RankUse> ranks;          // the most used first; families without ranks have none
  std::vector<TargetUse> targets;      // modules changed by the family itself, by name
  std::vector<std::string> replaced;   // parameters that are stored whole
  std::vector<UpdateFacts> updates;    // in natural order
  std::vector<ChangedTensor> changed;  // with a base; without what is replaced whole
  std::vector<std::string> warnings;
};

struct InspectReport {
  std::string path;
  std::string kind;    // "checkpoint", "adapter" or "weights": tensors and nothing beside them
  std::string format;  // of the weights: "safetensors", "PyTorch", "GGUF"
  std::vector<InspectedFile> files;  // that were opened, in name order
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;  // of the tensors, as stored
  std::vector<TensorGroup> groups;
  std::vector<InspectNote> notes;
  std::optional<CheckpointFacts> checkpoint;
  std::optional<AdapterFacts> adapter;
};

// Reads headers and small files; weights only where the options ask for it, and a tied model's head
// to compare it with the embedding. Of what a merge would refuse: what the files say of themselves,
// with a note of the code `no-leaf`; only where none of them can be read, or `base` or `scan` asks
// for more, it throws what opening a checkpoint or an adapter throws. Throws BadUsage
// where a base is given for what is no adapter, NoSpace, Io and Cancelled.
InspectReport inspect(const InspectOptions& options, Observer& observer);

std::string to_json(const InspectReport& report);

}  // namespace thorns
