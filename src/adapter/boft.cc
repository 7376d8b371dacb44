// BOFT (Liu et al. 2024): the inputs of a layer are rotated by a product of sparse factors, W' =
// (W M^T) * s with M = F(m-1) ... F0. A factor rotates runs of b inputs; before the later ones the
// inputs are put in another order, so that a few factors mix far more than b (a butterfly).
#include <fmt/format.h>

#include <algorithm>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "adapter/rotation.h"
#include "base/text.h"

namespace thorns {
namespace {

// Factor i: every stretch of 2^i runs has its half runs in a new order, the even ones first.
std::vector<std::size_t> butterfly_order(std::size_t inputs, std::size_t size, std::size_t factor) {
  const std::size_t stretch = size << factor;
  const std::size_t half = size / 2;
  std::vector<std::size_t> order;
  for (std::size_t at = 0; at < inputs; at += stretch) {
    for (const std::size_t odd : {0U, 1U}) {
      for (std::size_t group = at + odd * half; group < at + stretch; group += size) {
        for (std::size_t k = 0; k < half; ++k) order.push_back(group + k);
      }
    }
  }
  return order;
}

// The shape of boft_R: factors x runs x size x size.
struct Factors {
  std::uint64_t count = 0;
  std::uint64_t runs = 0;
  std::uint64_t size = 0;
  std::uint64_t inputs() const { return runs * size; }
};

class Butterfly final : public MapChange {
 public:
  Butterfly(std::size_t rotations, std::size_t scales, Factors factors, std::uint64_t outputs)
      : rotations_(rotations), scales_(scales), factors_(factors), outputs_(outputs) {}

  bool fits(const BaseTensor& base) const override {
    return base.shape.size() >= 2 && !base.transposed && base.rows() == outputs_ &&
           base.columns() == factors_.inputs();
  }
  std::string expected() const override {
    return fmt::format("{} outputs and {} inputs", outputs_, factors_.inputs());
  }
  bool elementwise() const override { return false; }
  std::vector<std::size_t> tensors() const override { return {rotations_, scales_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    const std::uint64_t made = Matrices::memory(factors_.size, factors_.runs * factors_.count);
    return 3 * made + factors_.count * factors_.inputs() * sizeof(std::size_t) +
           3 * outputs_ * sizeof(double);
  }

  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const std::vector<double> stored = read_numbers(source, rotations_);
    const auto size = static_cast<std::size_t>(factors_.size);
    const double* next = stored.data();
    std::vector<Rotation::Step> steps;
    for (std::size_t factor = 0; factor < factors_.count; ++factor) {
      Matrices matrices(size, static_cast<std::size_t>(factors_.runs));
      for (std::size_t i = 0; i < matrices.count(); ++i, next += size * size) {
        const auto matrix = matrices[i];
        std::copy_n(next, size * size, matrix.data());
        make_skew(matrix, size, -1);  // M x as a row is x^T M^T: the transpose is that of -Q
        cayley(matrix, size);
      }
      const auto inputs = static_cast<std::size_t>(factors_.inputs());
      steps.push_back({std::move(matrices), factor == 0 ? std::vector<std::size_t>{}
                                                        : butterfly_order(inputs, size, factor)});
    }
    return std::make_unique<Rotation>(std::move(steps), base.columns(),
                                      read_numbers(source, scales_));
  }

 private:
  std::size_t rotations_;
  std::size_t scales_;
  Factors factors_;
  std::uint64_t outputs_;
};

void fold_boft(FamilyModule& module) {
  const std::size_t rotations = module.need("boft_R");
  const std::size_t scales = module.need("boft_s");
  const std::vector<std::uint64_t>& shape = module.shape(rotations);
  Factors factors;
  if (shape.size() == 4) factors = {shape[0], shape[1], shape[2]};
  // The last factor's stretches have to come out even.
  const bool whole =
      factors.count == 1 || (factors.count > 0 && factors.count <= 32 && factors.size % 2 == 0 &&
                             factors.runs % (std::uint64_t{1} << (factors.count - 1)) == 0);
  if (shape.size() != 4 || shape[2] != shape[3] || module.info(rotations).elements == 0 || !whole) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has butterfly factors of shape {}, which cannot be put together: "
                              "`{}`",
                              shape_text(shape), module.info(rotations).name),
                  rotations, "the file was saved incompletely");
  }
  module.add(UpdateKind::Map,
             std::make_shared<Butterfly>(rotations, scales, factors, module.info(scales).elements));
}

const RegisterFamily registered_boft(
    {.type = "BOFT",
     .name = "BOFT",
     .reference = "Liu et al. 2024",
     .update = "s ⊙ W · (F_m ⋯ F₁)ᵀ with sparse rotations F, a factor "
               "s for each output",
     .layers = "linear, convolution in 2 dimensions",
     .tensors = {"boft_R", "boft_s"},
     .fold = fold_boft});

}  // namespace
}  // namespace thorns
