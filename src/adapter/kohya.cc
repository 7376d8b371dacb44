// LoRA files that keep alpha inside: Kohya's trainer, LyCORIS, ComfyUI, diffusers.
//
//   MODULE.lora_down.weight, .lora_up.weight, .alpha    W + alpha / rank * up * down
//   MODULE.lora_mid.weight                              a core between the two (tucker.h)
//   MODULE.diff, .diff_b                                W + diff, bias + diff_b
//   MODULE.oft_blocks, .rescale, .alpha                 outputs rotated (lycoris_oft.cc)
//
// MODULE is a path with underscores for dots behind a tag for the model ("lora_te_"), or a path.
// Without an alpha the scale is 1. Diffusers calls the two lora.down, lora_linear_layer.down or
// lora_A, and once kept them in processors: "attn1.processor.to_q_lora.down" belongs to
// "attn1.to_q". LyCORIS calls the differences of a norm w_norm and b_norm. Its LoHa and LoKr have
// the names that PEFT took over from them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "adapter/foreign.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

enum class Kind { Lora, Loha, Lokr, Oft, Other };

// The end of a tensor's name and what PEFT calls it; nothing for alpha and what is not folded.
struct Ending {
  std::string_view ending;
  Kind kind;
  std::string_view peft;
  bool only_here = true;  // no tensor of PEFT's has such a name
};
constexpr std::array<Ending, 37> kEndings = {{
    {".lora_down.weight", Kind::Lora, "lora_A.weight"},
    {".lora_up.weight", Kind::Lora, "lora_B.weight"},
    {".lora.down.weight", Kind::Lora, "lora_A.weight"},
    {".lora.up.weight", Kind::Lora, "lora_B.weight"},
    {".lora_linear_layer.down.weight", Kind::Lora, "lora_A.weight"},
    {".lora_linear_layer.up.weight", Kind::Lora, "lora_B.weight"},
    {"_lora.down.weight", Kind::Lora, "lora_A.weight"},
    {"_lora.up.weight", Kind::Lora, "lora_B.weight"},
    {".lora_A.default.weight", Kind::Lora, "lora_A.weight", false},
    {".lora_B.default.weight", Kind::Lora, "lora_B.weight", false},
    {".lora_A.weight", Kind::Lora, "lora_A.weight", false},
    {".lora_B.weight", Kind::Lora, "lora_B.weight", false},
    {".dora_scale", Kind::Lora, "lora_magnitude_vector"},
    {".hada_w1_a", Kind::Loha, "hada_w1_a", false},
    {".hada_w1_b", Kind::Loha, "hada_w1_b", false},
    {".hada_w2_a", Kind::Loha, "hada_w2_a", false},
    {".hada_w2_b", Kind::Loha, "hada_w2_b", false},
    {".hada_t1", Kind::Loha, "hada_t1", false},
    {".hada_t2", Kind::Loha, "hada_t2", false},
    {".lokr_w1", Kind::Lokr, "lokr_w1", false},
    {".lokr_w1_a", Kind::Lokr, "lokr_w1_a", false},
    {".lokr_w1_b", Kind::Lokr, "lokr_w1_b", false},
    {".lokr_w2", Kind::Lokr, "lokr_w2", false},
    {".lokr_w2_a", Kind::Lokr, "lokr_w2_a", false},
    {".lokr_w2_b", Kind::Lokr, "lokr_w2_b", false},
    {".lokr_t2", Kind::Lokr, "lokr_t2", false},
    {".alpha", Kind::Lora, "", false},
    {".lora_mid.weight", Kind::Lora, "lora_mid.weight"},
    {".diff", Kind::Lora, kDifference},
    {".diff_b", Kind::Lora, kBiasDifference},
    {".w_norm", Kind::Lora, kDifference},
    {".b_norm", Kind::Lora, kBiasDifference},
    {".set_weight", Kind::Other, "whole weights (set_weight)", false},
    {".reshape_weight", Kind::Other, "weights of another shape (reshape_weight)", false},
    {".oft_blocks", Kind::Oft, "oft_blocks"},
    {".rescale", Kind::Oft, "oft_rescale"},
    {".oft_diag", Kind::Other,
     "matrices of older LyCORIS (oft_diag), whose versions made different things of them", false},
}};

const Ending* ending_of(std::string_view name) {
  const auto* const found = std::find_if(kEndings.begin(), kEndings.end(), [&](const Ending& one) {
    return name.ends_with(one.ending);
  });
  return found == kEndings.end() || found->ending.size() == name.size() ? nullptr : found;
}

// "mid.attn1.processor.to_q" is "mid.attn1.to_q", and the output of such a processor is the first
// part of "to_out".
std::string without_processor(std::string module) {
  constexpr std::string_view kProcessor = ".processor.";
  const std::size_t at = module.find(kProcessor);
  if (at == module.npos) return module;
  module.erase(at, kProcessor.size() - 1);
  if (module.ends_with(".to_out")) module += ".0";
  return module;
}

// What one module has.
struct Module {
  std::map<std::string_view, const StoredTensor*> tensors;  // by PEFT's ending
  Kind kind = Kind::Lora;
  std::optional<double> alpha;
};

class Teller {
 public:
  Teller(const ForeignFile& file, std::optional<double> alpha) : file_(file), alpha_(alpha) {}

  ForeignAdapter tell() {
    for (const StoredTensor& tensor : file_.header.tensors) sort(tensor);
    refuse_others();
    for (const auto& [name, module] : modules_) tell_module(name, module);
    if (kinds_.size() > 1) {
      file_.refuse(ErrorCode::Unsupported, "holds LoRA, LoHa, LoKr or OFT side by side", {},
                   "fold them one after the other from files of their own");
    }
    const Kind kind = kinds_.empty() ? Kind::Lora : *kinds_.begin();
    told_.config["peft_type"] = kind == Kind::Loha   ? "LOHA"
                                : kind == Kind::Lokr ? "LOKR"
                                : kind == Kind::Oft  ? "OFT"
                                                     : "LORA";
    if (dora_) told_.config["use_dora"] = true;
    scales_.write(told_.config, kind == Kind::Lora ? "lora_alpha" : "alpha");
    return std::move(told_);
  }

 private:
  void sort(const StoredTensor& tensor) {
    const std::string& name = tensor.info.name;
    const Ending* const ending = ending_of(name);
    if (ending == nullptr) {
      others_["tensors of no known kind"].push_back(name);
      return;
    }
    if (ending->kind == Kind::Other) {
      others_[std::string(ending->peft)].push_back(name);
      return;
    }
    Module& module =
        modules_[without_processor(name.substr(0, name.size() - ending->ending.size()))];
    if (ending->peft.empty()) {
      module.alpha = alpha_of(tensor);
      return;
    }
    if (!module.tensors.emplace(ending->peft, &tensor).second) {
      file_.refuse(ErrorCode::Corrupt,
                   fmt::format("holds the same tensor under two names, `{}` and `{}`",
                               module.tensors[ending->peft]->info.name, name),
                   name);
    }
    if (ending->peft == "lora_magnitude_vector") return;  // of a LoRA; LoHa and LoKr are refused
    module.kind = ending->kind;
    kinds_.insert(ending->kind);
  }

  void refuse_others() const {
    if (others_.empty()) return;
    const auto& [what, names] = *others_.begin();
    file_.refuse(ErrorCode::Unsupported,
                 fmt::format("holds {}, which are not folded: {}", what, list_text(names)),
                 names.front());
  }

  double alpha_of(const StoredTensor& tensor) const {
    const double alpha = tensor.info.elements == 1 ? file_.read_number(tensor) : std::nan("");
    if (std::isfinite(alpha)) return alpha;
    file_.refuse(ErrorCode::Corrupt,
                 fmt::format("has an alpha that is not one number: `{}`", tensor.info.name),
                 tensor.info.name);
  }

  void tell_module(const std::string& name, const Module& module) {
    if (module.tensors.empty()) {
      file_.refuse(ErrorCode::Corrupt, fmt::format("has an alpha, but no factors for `{}`", name),
                   name, "the file was saved incompletely");
    }
    if (has_factors(module)) set_scale(name, module);
    for (const auto& [ending, tensor] : module.tensors) {
      StoredTensor told = *tensor;
      if (ending == "lokr_w2" && tensor->info.shape.size() == 3) {
        // PEFT multiplies its axes in another order than LyCORIS, and both call it so.
        file_.refuse(
            ErrorCode::Unsupported,
            fmt::format("has LoKr on a convolution in one dimension: `{}`", tensor->info.name),
            tensor->info.name);
      }
      if (ending == "lora_magnitude_vector") {
        check_magnitude(name, module, *tensor);
        dora_ = true;
      }
      told.info.name = peft_name(name, ending);
      told_.tensors.push_back(std::move(told));
    }
  }

  static bool has_factors(const Module& module) {
    return std::any_of(module.tensors.begin(), module.tensors.end(), [](const auto& one) {
      return one.first != kDifference && one.first != kBiasDifference;
    });
  }

  void set_scale(const std::string& name, const Module& module) {
    if (module.kind == Kind::Oft) return scales_.set(name, 1, module.alpha.value_or(0));
    const std::uint64_t rank = rank_of(name, module);
    // Where both factors of a Kronecker product are whole, LyCORIS does not scale them.
    const bool whole = module.tensors.contains("lokr_w1") && module.tensors.contains("lokr_w2");
    const double own = module.alpha.value_or(alpha_.value_or(static_cast<double>(rank)));
    scales_.set(name, rank, whole ? static_cast<double>(rank) : own);
  }

  // The rows of the factor that has one for each.
  std::uint64_t rank_of(const std::string& name, const Module& module) const {
    for (const char* ending : {"lora_A.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"}) {
      const auto found = module.tensors.find(ending);
      if (found == module.tensors.end()) continue;
      const std::vector<std::uint64_t>& shape = found->second->info.shape;
      if (!shape.empty() && shape[0] > 0) return shape[0];
      file_.refuse(ErrorCode::Corrupt,
                   fmt::format("has a factor of shape {}, expected a matrix: `{}`",
                               shape_text(shape), found->second->info.name),
                   found->second->info.name);
    }
    if (module.kind == Kind::Lokr) return 1;  // both factors are whole
    const char* const missing = module.kind == Kind::Loha ? "hada_w1_b" : "lora_down";
    file_.refuse(ErrorCode::Corrupt, fmt::format("has no {} for `{}`", missing, name), name,
                 "the file was saved incompletely");
  }

  // (out, 1, ...): one norm for each output, as PEFT has it. LyCORIS once had one for each input.
  void check_magnitude(const std::string& name, const Module& module,
                       const StoredTensor& tensor) const {
    const auto up = module.tensors.find("lora_B.weight");
    if (module.kind != Kind::Lora || up == module.tensors.end()) {
      file_.refuse(ErrorCode::Unsupported,
                   fmt::format("has DoRA on what is no plain LoRA: `{}`", name), tensor.info.name);
    }
    const std::vector<std::uint64_t>& shape = tensor.info.shape;
    const std::vector<std::uint64_t>& out = up->second->info.shape;
    if (!shape.empty() && !out.empty() && shape[0] == out[0] && tensor.info.elements == out[0]) {
      return;
    }
    file_.refuse(ErrorCode::Unsupported,
                 fmt::format("has a dora_scale of shape {} for {} outputs: norms of inputs are not "
                             "folded: `{}`",
                             shape_text(shape), out.empty() ? 0 : out[0], tensor.info.name),
                 tensor.info.name);
  }

  const ForeignFile& file_;
  std::optional<double> alpha_;  // of modules that say none
  ForeignAdapter told_;
  Scales scales_;
  std::map<std::string, Module> modules_;
  std::map<std::string, std::vector<std::string>> others_;  // what they are -> tensors
  std::set<Kind> kinds_;
  bool dora_ = false;
};

}  // namespace

bool has_kohya_names(const ForeignFile& file) {
  const auto& tensors = file.header.tensors;
  return std::any_of(tensors.begin(), tensors.end(), [](const StoredTensor& tensor) {
    const Ending* const ending = ending_of(tensor.info.name);
    return (ending != nullptr && ending->only_here) || !kohya_tag(tensor.info.name).empty();
  });
}

bool says_alpha(const ForeignFile& file) {
  const auto& tensors = file.header.tensors;
  return std::any_of(tensors.begin(), tensors.end(), [](const StoredTensor& tensor) {
    return tensor.info.name.ends_with(".alpha");
  });
}

ForeignAdapter tell_kohya(const ForeignFile& file, std::optional<double> alpha) {
  return Teller(file, alpha).tell();
}

}  // namespace thorns
