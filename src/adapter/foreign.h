// Adapters of other makers than PEFT, told in PEFT's terms: a configuration as adapter_config.json
// would have it, and tensors under PEFT's names and in its shapes. Who folds them cannot tell where
// they came from. Private to this room.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "checkpoint/gguf_adapter.h"
#include "checkpoint/stored_tensor.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {

struct ForeignAdapter {
  Json config = Json::object();
  std::vector<StoredTensor> tensors;
  std::vector<std::string> warnings;
  bool rotates_neighbours = false;  // as Adapter says it
};

// A weights file that is to be told, and what it takes to do so.
struct ForeignFile {
  std::string path;
  WeightsHeader header;
  std::function<double(const StoredTensor&)> read_number;  // of a tensor with one element
  // Throws `code` with "the adapter `path` <what>", placed at the tensor where one is named.
  [[noreturn]] void refuse(ErrorCode code, const std::string& what, const std::string& tensor = {},
                           const std::string& hint = {}) const;
};

// What is added to a weight and to a bias as it is, under names of our own in the LoRA family.
inline constexpr const char* kDifference = "lora_diff";
inline constexpr const char* kBiasDifference = "lora_diff_b";

// kohya.cc: the names of Kohya's trainer, LyCORIS, ComfyUI and diffusers.
bool has_kohya_names(const ForeignFile& file);  // factors that PEFT calls otherwise
bool says_alpha(const ForeignFile& file);
// `alpha`: of modules without one; else it is their rank.
ForeignAdapter tell_kohya(const ForeignFile& file, std::optional<double> alpha);

// mlx.cc: adapters.safetensors of mlx-lm with the adapter_config.json beside it.
bool is_mlx_config(const Json& config);
bool has_mlx_names(const ForeignFile& file);
ForeignAdapter tell_mlx(const ForeignFile& file, const Json& config,
                        const std::string& config_path);

// gguf_lora.cc
ForeignAdapter tell_gguf(const ForeignFile& file, GgufAdapter adapter);

// The beginnings that Kohya's trainer puts before all names of one model: "lora_te_".
std::string_view kohya_tag(std::string_view module);

// The model of a pipeline that a module belongs to: Kohya's tag, or what diffusers puts before its
// names without the dot ("text_encoder"). Empty where it says none.
std::string_view pipeline_part(std::string_view module);

// "base_model.model.<module>.<ending>"
std::string peft_name(std::string_view module, std::string_view ending);
// The matrix read with its two dimensions exchanged. Corrupt unless it has two.
StoredTensor transposed(const ForeignFile& file, StoredTensor tensor);

// The ranks and alphas of an adapter's modules, as a PEFT configuration gives them: the commonest
// as defaults, the others as patterns.
class Scales {
 public:
  // alpha / rank is the scale. One call for every module.
  void set(const std::string& module, std::uint64_t rank, double alpha);
  // Writes r, rank_pattern, alpha_pattern and `alpha_name`.
  void write(Json& config, const char* alpha_name) const;

 private:
  struct Scale {
    std::uint64_t rank = 0;
    double alpha = 0;
  };
  std::map<std::string, Scale> modules_;
};

}  // namespace thorns
