// LoHa (FedPara, Hyeon-Woo et al. 2022): W + alpha / r * (w1_a w1_b) ⊙ (w2_a w2_b), the elementwise
// product of two products, each of them with a core on convolutions (lycoris.h).
#include <fmt/format.h>

#include <memory>
#include <vector>

#include "adapter/family.h"
#include "adapter/lycoris.h"
#include "base/text.h"

namespace thorns {
namespace {

class Hadamard final : public Delta {
 public:
  Hadamard(ThinProduct first, ThinProduct second)
      : first_(std::move(first)), second_(std::move(second)) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    std::vector<double> other(to.size());
    first_.generate(first, to);
    second_.generate(first, other);
    for (std::size_t i = 0; i < to.size(); ++i) to[i] *= other[i];
  }

 private:
  ThinProduct first_;
  ThinProduct second_;
};

class HadamardChange final : public DeltaChange {
 public:
  HadamardChange(StoredProduct first, StoredProduct second) : first_(first), second_(second) {}

  bool fits(const BaseTensor& base) const override {
    return !base.transposed && base.shape.size() > 1 && base.rows() == first_.rows() &&
           base.columns() == first_.columns();
  }
  std::string expected() const override { return shape_text(first_.shape()); }
  std::optional<std::vector<std::uint64_t>> shape() const override { return first_.shape(); }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all = first_.tensors();
    for (const std::size_t tensor : second_.tensors()) all.push_back(tensor);
    return all;
  }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return (first_.numbers() + second_.numbers()) * sizeof(double);
  }
  std::unique_ptr<Delta> load(const TensorSource& source,
                              const BaseTensor& /*base*/) const override {
    return std::make_unique<Hadamard>(first_.load(source), second_.load(source));
  }

 private:
  StoredProduct first_;
  StoredProduct second_;
};

void fold_loha(FamilyModule& module) {
  const StoredProduct first(module, "hada_w1_a", "hada_w1_b", "hada_t1");
  const StoredProduct second(module, "hada_w2_a", "hada_w2_b", "hada_t2");
  if (first.shape() != second.shape()) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has two products of different shape for `{}`: {} and {}", module.name(),
                    shape_text(first.shape()), shape_text(second.shape())));
  }
  const double scale = module.alpha("alpha") / static_cast<double>(module.rank(first.rank()));
  module.add(UpdateKind::Generate, std::make_shared<HadamardChange>(first, second), scale);
}

const RegisterFamily registered_loha({.type = "LOHA",
                                      .name = "LoHa",
                                      .reference = "Hyeon-Woo et al. 2022",
                                      .update = "W + alpha / r · (w1_a·w1_b) ⊙ (w2_a·w2_b)",
                                      .layers = "linear, convolution in 1 and 2 dimensions",
                                      .tensors = {"hada_w1_a", "hada_w1_b", "hada_w2_a",
                                                  "hada_w2_b", "hada_t1", "hada_t2"},
                                      .fold = fold_loha});

}  // namespace
}  // namespace thorns
