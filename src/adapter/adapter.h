// A PEFT adapter opened for folding: what it does to each parameter of a model, as updates.
//
// An update changes one parameter W of the base model:
//   LowRank    W + scale * U * V     U: rows x rank, V: rank x columns (LoRA: Hu et al. 2021).
//                                    A row of W is what its first dimension counts: the kernels
//                                    of a convolution are rows of channels * height * width
//   Add        W + scale * D         D: a tensor of W's shape (lora_B.bias)
//   Generate   W + scale * D         D: computed from smaller tensors (LoHa, LoKr, ...)
//   Replace    R                     R: a tensor of W's shape (modules_to_save, trained biases)
//   Map        T(W)                  T: linear, row by row (IA3, OFT, ...)
//   Normalise  m / |W| * W           line by line, what other updates did included (DoRA)
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/change.h"
#include "base/disk.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/source.h"

namespace thorns {

// In the order in which several updates of one tensor are applied.
enum class UpdateKind { Replace, Map, LowRank, Add, Generate, Normalise };

struct Update {
  UpdateKind kind = UpdateKind::LowRank;
  std::string module;      // "model.layers.0.self_attn.q_proj": PEFT's prefixes removed
  std::string parameter;   // "weight", "bias", or another name of that module
  double scale = 1.0;      // alpha / r, or alpha / sqrt(r) (rsLoRA: Kalajdzievski 2023)
  std::uint64_t rank = 0;  // 0: of no rank
  // Where no change says more, indices in source().tensors(): lora_A (rank x in), or the tensor of
  // Add and Replace; and lora_B (out x rank).
  std::size_t first = 0;
  std::size_t second = 0;
  // LowRank: W is an embedding, stored (in, out), whatever its shape says.
  bool embedding = false;
  // Generate, Map and Normalise, and LowRank whose factors are computed: a change of that kind.
  std::shared_ptr<const Change> change = nullptr;
  bool if_present = false;  // the model may do without this parameter
  // Replace, of modules_to_save: a module of its own, which shares nothing with an output head that
  // the model ties to it.
  bool saved_module = false;
  // Replace, of a weight that the adapter changes as well: what it lies on, which PEFT keeps with
  // it for embeddings and heads. What other adapters change of that weight stays.
  bool below = false;
  // Done instead where the model stores the parameter's parts and not itself: the matrices of
  // single experts.
  std::vector<Update> parts = {};
  std::optional<double> alpha = std::nullopt;  // as the adapter gives it

  // What is read for it, as indices in source().tensors().
  std::vector<std::size_t> tensors() const;
};

// Whether two updates of one adapter do the same, by what `source`, the adapter's, holds for them.
// An embedding's factors are those of an output head transposed.
bool same_update(const TensorSource& source, const Update& one, const Update& other);

class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual const std::string& path() const = 0;
  virtual const std::string& family() const = 0;      // "LoRA", "rsLoRA", "LN tuning"
  virtual const std::string& base_model() const = 0;  // base_model_name_or_path; may be empty
  virtual const std::vector<Update>& updates() const = 0;
  virtual const std::vector<std::string>& warnings() const = 0;
  virtual const std::vector<InputFile>& files() const = 0;
  virtual const TensorSource& source() const = 0;
  virtual bool fan_in_fan_out() const = 0;  // as its config says; decides only where shapes cannot
  // Its rows of q and k are in the order in which llama.cpp rotates them, by neighbours instead of
  // halves; recut() puts them back.
  virtual bool rotates_neighbours() const { return false; }
};

// Reads adapter_config.json and the header of the weights. Every tensor of the file belongs to an
// update or the adapter is refused: Unsupported names the type (DoRA, LoHa, ...) or the tensors.
std::unique_ptr<Adapter> open_adapter(Disk& disk, const std::string& path);

// Whether what stands at `path` is an adapter rather than a model, by the names of files and
// tensors. Throws what opening a file throws; a folder is only listed.
bool is_adapter(Disk& disk, const std::string& path);

// What a fold needs to know of the model it folds into.
struct FoldTarget {
  std::span<const TensorInfo> tensors;  // sorted by name
  std::string model_type;               // decides the layout of square Conv1D weights (GPT-2)
  // What its output head is called, where the model ties it to its embedding and stores none; else
  // empty.
  std::string_view tied_head = {};
  std::uint64_t head_rows = 0;  // that q and k have for each head; 0: unknown
};

struct ResolvedUpdate {
  const Update* update = nullptr;  // owned by the adapter
  std::string tensor;  // name of the base tensor; the output head may be one that a tied model
                       // does not store
  BaseTensor base;     // its shape; transposed where W is (in, out): U = A^T and V = B^T
};

// Matches every update to a tensor of the model, all or nothing: one rewriting of module names must
// map all of them to tensors of the right shape. Mismatch lists every update that finds no tensor
// (or one of another shape, with both shapes), or the competing rewritings. Order: by base tensor
// name. Where one tensor stands for several modules (T5's embedding), and updates of two of them
// are the same, one is left.
std::vector<ResolvedUpdate> resolve(const Adapter& adapter, const FoldTarget& target);

// The factors of a LowRank update in float32, row-major: u (rows x rank), v (rank x columns), where
// rows and columns are those of the base tensor. NaN or Inf is passed through.
void load_factors(const Adapter& adapter, const Update& update, const BaseTensor& base,
                  std::span<float> u, std::span<float> v);

}  // namespace thorns
