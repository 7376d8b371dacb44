// What the metadata of a GGUF file says of its model: the architecture, config.json, and what
// transformers calls the tensors. Private to this room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf_header.h"
#include "thorns/dtype.h"

namespace thorns {

// What is known of one of ggml's architectures.
struct GgufFamily {
  std::string_view ggml;        // general.architecture
  std::string_view model_type;  // of transformers
  std::string_view model_class;
  bool experts = false;             // the name of the family with experts in its layers
  bool rotates_neighbours = false;  // llama.cpp's converter reorders the rows of q and k
  bool norms_from_one = false;      // it adds 1 to the weights of all norms
};

// How a name of ggml is one of transformers'.
struct TransformersName {
  std::string before;  // the whole name, or what stands before the number of an expert
  std::string after;   // what stands behind it; empty: the tensor is not of several experts
  bool stacked() const { return !after.empty(); }
};

// "blk.0.attn_q.weight" is "model.layers.0.self_attn.q_proj.weight"; "blk.0.ffn_up_exps.weight" is
// "model.layers.0.mlp.experts." and ".up_proj.weight". nullopt for a name that is not known.
std::optional<TransformersName> transformers_name(const GgufFamily& family, std::string_view name);

// The same for a name of the commonest family, llama; empty for one that is not known.
std::string transformers_name(std::string_view name);

class GgufModel {
 public:
  // `header` must outlive it. Throws Unsupported, naming it, for what is no model or of an
  // architecture that is not known.
  GgufModel(const ReadFile& file, const GgufHeader& header);

  const GgufFamily& family() const { return *family_; }

  [[noreturn]] void refuse(const std::string& what, const std::string& hint) const;
  [[noreturn]] void fail(const std::string& what) const;

  std::string text(const std::string& name) const;  // empty where there is none
  std::optional<std::uint64_t> number(const std::string& name) const;
  // Of a field under the architecture's name. Corrupt where it is missing or 0.
  std::uint64_t need(const std::string& name) const;
  std::uint64_t key_value_heads() const;

  // What only the tensors say.
  struct Facts {
    std::uint64_t vocabulary = 0;
    bool ties = false;
    bool has_bias = false;  // in q
    Dtype dtype = Dtype::F32;
    std::vector<float> rotary_factors;  // rope_freqs.weight, where it is there
  };
  Json config(const Facts& facts) const;

 private:
  std::optional<double> real(const std::string& name) const;
  Json rope_scaling(const std::vector<float>& factors) const;
  void set_experts(Json& config) const;
  void set_gemma(Json& config) const;

  const GgufHeader& header_;
  std::string path_;
  const GgufFamily* family_ = nullptr;
};

}  // namespace thorns
