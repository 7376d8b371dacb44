// C3A (Chen et al. 2024): W + D, where D is made of circulant blocks: with kernels w of b numbers,
// D[p b + i, q b + j] = w[p, q, (j - i) mod b] / inputs.
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

class Circulants final : public Delta {
 public:
  Circulants(std::vector<double> kernels, std::uint64_t columns, std::uint64_t block)
      : kernels_(std::move(kernels)), columns_(columns), block_(block) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    for (std::size_t e = 0; e < to.size(); ++e) {
      const std::uint64_t row = (first + e) / columns_;
      const std::uint64_t column = (first + e) % columns_;
      const std::uint64_t kernel = row / block_ * (columns_ / block_) + column / block_;
      const std::uint64_t at = (column % block_ + block_ - row % block_) % block_;
      to[e] = kernels_[kernel * block_ + at] / static_cast<double>(columns_);
    }
  }

 private:
  std::vector<double> kernels_;
  std::uint64_t columns_;
  std::uint64_t block_;
};

class CirculantChange final : public DeltaChange {
 public:
  CirculantChange(std::size_t kernels, std::vector<std::uint64_t> shape)
      : kernels_(kernels), shape_(std::move(shape)) {}

  bool fits(const BaseTensor& base) const override {
    return !base.transposed && base.shape == all();
  }
  std::string expected() const override { return shape_text(all()); }
  std::optional<std::vector<std::uint64_t>> shape() const override { return all(); }
  std::vector<std::size_t> tensors() const override { return {kernels_}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    return 2 * base.elements() / shape_[2] * sizeof(double);
  }
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    return std::make_unique<Circulants>(read_numbers(source, kernels_), base.columns(), shape_[2]);
  }

 private:
  std::vector<std::uint64_t> all() const { return {shape_[0] * shape_[2], shape_[1] * shape_[2]}; }

  std::size_t kernels_;
  std::vector<std::uint64_t> shape_;  // blocks of outputs, blocks of inputs, numbers in a block
};

void fold_c3a(FamilyModule& module) {
  const std::size_t kernels = module.need("c3a_kernel");
  const std::vector<std::uint64_t>& shape = module.shape(kernels);
  if (shape.size() != 3 || module.info(kernels).elements == 0) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a c3a_kernel of shape {}, expected three dimensions: `{}`",
                              shape_text(shape), module.info(kernels).name),
                  kernels);
  }
  module.add(UpdateKind::Generate, std::make_shared<CirculantChange>(kernels, shape));
}

const RegisterFamily registered_c3a({.type = "C3A",
                                     .name = "C3A",
                                     .reference = "Chen et al. 2024",
                                     .update = "W + circulant blocks / inputs",
                                     .layers = "linear",
                                     .tensors = {"c3a_kernel"},
                                     .fold = fold_c3a});

}  // namespace
}  // namespace thorns
