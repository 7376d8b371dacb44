// The executable plan of a merge: for every output tensor a program, in the order in which they are
// written, and the layout of the files they are written to. All that can be refused has been
// refused.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "method/method.h"
#include "recipe/recipe.h"

namespace thorns {

// Consecutive elements of a vector, whole rows, and where they lie in the output tensor.
struct RowRun {
  std::uint64_t to = 0;    // first element, in the output
  std::uint64_t from = 0;  // first element, in the vector
  std::uint64_t count = 0;
};
using RowRuns = std::vector<RowRun>;  // ascending in `to`, without overlaps
// The run that holds an element of the output, or the next one.
RowRuns::const_iterator run_at(const RowRuns& runs, std::uint64_t element);

// One vector of a tensor's span: a stored tensor; the product of an update's two factors; what an
// update computes; or what a linear update makes of another operand.
struct Operand {
  const TensorSource* source = nullptr;
  std::size_t tensor = 0;            // in source->tensors(); stored ones only
  Dtype dtype = Dtype::F32;          // of the stored elements; F32 for all others
  const Adapter* adapter = nullptr;  // set: this is an update of it
  const Update* update = nullptr;    // set: LowRank (unscaled U * V), Generate (unscaled D) or Map
  BaseTensor base;                   // what `update` was made for
  std::size_t mapped = 0;      // Map: the operand that the update is applied to, an earlier one
  std::uint64_t elements = 0;  // fewer than the program's where it lacks rows
  std::shared_ptr<const RowRuns> rows;  // null: its rows are the first of the program's
  std::string label;                    // "NousHermes", "Kimiko"

  bool has(std::uint64_t element) const;  // of the program's
  // As TensorSource has them, of a stored operand, by the program's elements, which it must have.
  void read(std::uint64_t first, std::span<std::byte> to) const;
  std::shared_ptr<const FilePart> map(std::uint64_t first, std::uint64_t count) const;
  std::shared_ptr<const CodedElements> map_codes(std::uint64_t first, std::uint64_t count) const;
  void will_need(std::uint64_t first, std::uint64_t count) const;
  // Calls body(element of the vector, count) for the runs that make up these elements of the
  // program's.
  template <class Body>
  void each_run(std::uint64_t first, std::uint64_t count, Body body) const {
    if (rows == nullptr) return body(first, count);
    for (auto run = run_at(*rows, first); count > 0; ++run) {
      const std::uint64_t skipped = first - run->to;
      const std::uint64_t part = std::min(count, run->count - skipped);
      body(run->from + skipped, part);
      first += part;
      count -= part;
    }
  }

  bool is_stored() const { return update == nullptr; }
  bool is_decoded() const { return is_stored() && source->tensors()[tensor].nominal.has_value(); }
  bool is_product() const { return is(UpdateKind::LowRank); }
  bool is_generated() const { return is(UpdateKind::Generate); }
  bool is_mapped() const { return is(UpdateKind::Map); }
  bool is_computed() const { return is_generated() || is_mapped(); }

 private:
  bool is(UpdateKind kind) const { return update != nullptr && update->kind == kind; }
};

// A node of a program is a point in the span of the operands. Nodes refer to earlier nodes only.
struct SumNode {  // sum of weight * node + sum of scale * operand, all constants of the recipe
  struct Term {
    bool is_operand = false;
    std::size_t index = 0;  // in operands or nodes
    double scale = 1.0;
  };
  std::vector<Term> terms;
  std::size_t recipe_node = 0;  // the leaf or fold that it belongs to, in Recipe::nodes
};
struct MethodNode {
  const SpanMethod* method = nullptr;
  std::vector<std::size_t> models;  // in nodes
  std::vector<double> weights;
  std::vector<std::optional<double>> parameters;
  std::size_t recipe_node = 0;  // in Recipe::nodes, for reports
};
// A linear update of a node. T(sum of c * v) = sum of c * T(v): the node's coefficients stay, its
// operands are exchanged for their images.
struct MapNode {
  std::size_t model = 0;  // in nodes
  struct Image {
    std::size_t from = 0;  // in operands
    std::size_t to = 0;
  };
  std::vector<Image> images;  // of every operand that the model may have
  const Update* update = nullptr;
  std::string label;
  std::size_t recipe_node = 0;  // the fold, in Recipe::nodes
};
// Every line of a node scaled to a norm of its own (Program::lines).
struct NormNode {
  std::size_t model = 0;  // in nodes
  const Adapter* adapter = nullptr;
  const Update* update = nullptr;
  BaseTensor base;
  std::string label;
  std::size_t recipe_node = 0;  // the fold, in Recipe::nodes
};
struct ProgramNode {  // exactly one of them
  std::optional<SumNode> sum;
  std::optional<MethodNode> method;
  std::optional<MapNode> map;
  std::optional<NormNode> norm;

  std::size_t recipe_node() const {
    return sum      ? sum->recipe_node
           : method ? method->recipe_node
           : map    ? map->recipe_node
                    : norm->recipe_node;
  }
};

// Where coefficients are solved line by line, because a node rescales lines: the inner products are
// then measured by line, too.
enum class Lines { None, Rows, Columns };

// What becomes of rows that only some models have (docs/language.md).
enum class VocabularyRule { Union, Gradient, Zero, Truncate, Strict };
VocabularyRule vocabulary_rule(const std::string& word);  // BadRecipe

// Consecutive elements, whole rows, that the same operands have. There are several in an embedding
// or output head, where vocabularies differ.
struct Block {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  bool written = true;  // false: measured for an inner node, but not in the output (Truncate)

  bool has(const Operand& operand) const { return operand.has(first); }
};

enum class ProgramKind {
  Blend,  // measure, solve, blend
  Copy,   // one operand, bytes unchanged
  Cast,   // one operand, rounded to another type
  Same,   // integers: all operands must be equal, the first is copied
};

struct Program {
  std::string tensor;
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 0;
  Dtype dtype = Dtype::F32;  // of the output
  ProgramKind kind = ProgramKind::Blend;
  VocabularyRule vocabulary = VocabularyRule::Strict;
  std::vector<Block> blocks;       // in order, without gaps; the written ones make the output
  std::vector<Operand> operands;   // distinct
  std::vector<ProgramNode> nodes;  // Blend only; the last is the result
  Lines lines = Lines::None;
  std::uint64_t rows_together = 1;  // that are computed together, because a node mixes them

  std::uint64_t rows() const { return shape.size() < 2 ? 1 : shape[0]; }
  std::uint64_t columns() const { return elements == 0 ? 0 : elements / rows(); }
  std::uint64_t bytes() const { return elements * size_of(dtype); }
  std::uint64_t measured_rows() const;  // of all blocks, those that are not written included
  std::uint64_t stored_bytes() const;   // of all stored operands
  std::uint64_t update_bytes() const;   // of the tensors that all other operands are made of
  // Bytes of one element of every stored operand together.
  std::uint64_t stored_width() const;

  // A cell is a part of the tensor that has one coefficient per operand: a block; with Lines::Rows
  // a row; with Lines::Columns a column of a block. Cells of a block follow each other.
  std::size_t cells_of(std::size_t block) const;
  std::size_t cells_before(std::size_t block) const;  // with the number of blocks, of all
};

struct Shard {
  std::string file;       // "model-00001-of-00002.safetensors"
  std::size_t first = 0;  // programs [first, first + count)
  std::size_t count = 0;
  std::uint64_t data_bytes = 0;
};

// How the engine uses the memory it may have. All bytes.
struct MemoryPlan {
  std::uint64_t ceiling = 0;  // what the user allowed
  std::uint64_t fixed = 0;    // program, libraries, headers: an upper estimate
  std::uint64_t factors = 0;  // largest set of adapter factors needed at once
  std::uint64_t scratch = 0;  // per-thread working space, all threads
  std::uint64_t output = 0;   // output tiles on their way to the disk
  std::uint64_t tiles = 0;    // input tiles: slots * slot_bytes
  std::uint64_t slot_bytes = 0;
  std::size_t slots = 0;
  std::size_t output_slots = 0;
  std::uint64_t output_slot_bytes = 0;

  std::uint64_t total() const { return fixed + factors + scratch + output + tiles; }
};

struct Vocabulary;  // plan/vocabulary.h

// A thing that was left out or changed on purpose, for the summary and manifest.
struct Dropped {
  std::string tensor;
  std::string leaf;
  std::string reason;
};

struct PlanOptions {
  std::optional<Dtype> dtype;  // over the recipe's
  std::optional<std::uint64_t> shard_size;
  std::string tokenizer;
  std::string vocabulary;
  std::uint64_t memory = 512'000'000;
  std::size_t threads = 1;
  bool findings = false;  // what findings are computed from counts towards the ceiling, too
};

struct Plan {
  Recipe recipe;
  std::vector<std::unique_ptr<Checkpoint>> leaves;  // like recipe.leaves
  std::vector<std::unique_ptr<Adapter>> adapters;   // like recipe.adapters
  // What folds make of several of them, by node of the recipe.
  std::map<std::size_t, std::unique_ptr<Adapter>> combined;
  std::vector<std::unique_ptr<TensorSource>> extensions;  // of leaves with fewer token rows
  std::vector<Program> programs;                          // in writing order
  std::vector<Shard> shards;
  MemoryPlan memory;
  std::size_t threads = 1;
  bool findings = false;  // as in PlanOptions
  // As read from the sources: a quantised tensor counts as the float32 that it is decoded to.
  std::uint64_t bytes_in = 0;    // of all operands, each once
  std::uint64_t bytes_read = 0;  // second sweeps of tensors that do not fit included
  std::uint64_t bytes_out = 0;   // tensor data
  std::vector<Dropped> dropped;
  std::vector<std::string> warnings;
  // What the token rows of the output stand for, where `union` matched them by text; else null.
  std::shared_ptr<const Vocabulary> vocabulary;
  std::size_t tokenizer_leaf = 0;  // whose tokenizer files are copied
  bool has_tokenizer = false;
  bool tied = false;             // the output's tie_word_embeddings
  Json config = Json::object();  // other fields of config.json that differ from the first leaf's
  std::string base_dtype;        // torch name of the output's commonest type, for config.json
};

// Opens every leaf and adapter (headers only), matches tensors and makes the plan. All problems
// that can be found are collected: an empty `problems` means that the plan can be run.
struct PlanResult {
  Plan plan;
  std::vector<Error> problems;
};
PlanResult make_plan(Disk& disk, Recipe recipe, const PlanOptions& options);
// The same for leaves and adapters that are open already, in the order of the recipe's. Without a
// disk no tokenizer is read, and token rows are matched by number.
PlanResult make_plan(Recipe recipe, std::vector<std::unique_ptr<Checkpoint>> leaves,
                     std::vector<std::unique_ptr<Adapter>> adapters, const PlanOptions& options,
                     Disk* disk = nullptr);

// The little program of one tensor, in words: operands with files and types, nodes with parameters
// and where each number comes from. NotFound with a suggestion where no output tensor has that
// name.
std::string explain(const Plan& plan, const std::string& tensor);

}  // namespace thorns
