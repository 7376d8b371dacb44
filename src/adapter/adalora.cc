// AdaLoRA (Zhang et al. 2023): W + alpha / (init_r + 1e-5) * B diag(E) A.
#include <fmt/format.h>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr std::uint64_t kDefaultInitialRank = 12;

class SingularProduct final : public ProductChange {
 public:
  SingularProduct(const FamilyModule& module, std::size_t a, std::size_t b, std::size_t e)
      : ProductChange(module.shape(a)[0]),
        out_(module.shape(b)[0]),
        in_(module.shape(a)[1]),
        a_(a),
        b_(b),
        e_(e) {}

  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{out_, in_});
  }
  std::optional<std::vector<std::uint64_t>> shape() const override { return {{out_, in_}}; }
  std::vector<std::size_t> tensors() const override { return {a_, b_, e_}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    return ProductChange::memory(base) + 2 * rank() * sizeof(double);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override { return out == out_ && in == in_; }
  bool fits_convolutions() const override { return true; }
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    read_floats(source, b_, b);
    read_floats(source, a_, a);
    const std::vector<double> singular = read_numbers(source, e_);
    for (std::size_t i = 0; i < a.size(); ++i) {
      a[i] *= static_cast<float>(singular[i / in_]);  // in float32, as PEFT does
    }
  }

  std::uint64_t out_;
  std::uint64_t in_;
  std::size_t a_;
  std::size_t b_;
  std::size_t e_;
};

// PEFT divides by the rank that training began with, whatever was cut away since. `r` means
// nothing, and `rank_pattern` says what was cut away, which the tensors show.
double scale_of(const ConfigFields& config) {
  const auto initial = static_cast<double>(config.count("init_r", kDefaultInitialRank));
  const double alpha = config.number("lora_alpha", kDefaultAlpha);
  return (alpha > 0 ? alpha : initial) / (initial + 1e-5);
}

// Training may cut away all of a module: matrices of rank 0 are what is left.
bool is_cut_away(FamilyModule& module) {
  if (module.shape(module.need("lora_E")) != std::vector<std::uint64_t>{0, 1}) return false;
  const std::vector<std::uint64_t>& a = module.shape(module.need("lora_A"));
  const std::vector<std::uint64_t>& b = module.shape(module.need("lora_B"));
  return a.size() == 2 && a[0] == 0 && b.size() == 2 && b[1] == 0;
}

void fold_adalora(FamilyModule& module) {
  const double scale = scale_of(module.config());
  if (is_cut_away(module)) return;
  const std::size_t e = module.need("lora_E");
  const auto [a, b] = module.need_factors("lora_", true);
  if (module.shape(e) != std::vector<std::uint64_t>{module.shape(a)[0], 1}) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has singular values of shape {} for a lora_A of shape {}: `{}`",
                    shape_text(module.shape(e)), shape_text(module.shape(a)), module.info(e).name),
        e);
  }
  module.add(UpdateKind::LowRank, std::make_shared<SingularProduct>(module, a, b, e), scale);
}

const RegisterFamily registered_adalora({.type = "ADALORA",
                                         .name = "AdaLoRA",
                                         .reference = "Zhang et al. 2023",
                                         .update = "W + alpha / (init_r + 10⁻⁵) · B·diag(E)·A",
                                         .layers = "linear, Conv1D, convolution in 2 dimensions",
                                         .tensors = {"lora_E"},
                                         .borrowed = {"lora_A", "lora_B"},
                                         .fold = fold_adalora});

}  // namespace
}  // namespace thorns
