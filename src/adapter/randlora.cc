// RandLoRA (Albert et al. 2025): W + alpha / r * the sum of n products of random matrices B_n A,
// each scaled by diagonals that are trained, enough of them for full rank. The matrices are shared
// by all layers; of each a layer takes as much as it has rows and columns.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "adapter/family.h"
#include "adapter/matrix.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr double kRandDefaultAlpha = 640;

class RandProduct final : public ProductChange {
 public:
  struct Tensors {
    std::size_t a;       // r x 1 x at least the smaller side of W
    std::size_t b;       // at least the larger side x at least n x r
    std::size_t lambda;  // r x n
    std::size_t gamma;   // n x the smaller side
  };
  RandProduct(const FamilyModule& module, const Tensors& tensors)
      : ProductChange(module.info(tensors.lambda).elements),
        tensors_(tensors),
        r_(module.shape(tensors.lambda)[0]),
        n_(module.shape(tensors.lambda)[1]),
        smaller_(module.shape(tensors.gamma)[1]),
        small_numbers_(module.info(tensors.a).elements + module.info(tensors.lambda).elements +
                       module.info(tensors.gamma).elements),
        most_(module.shape(tensors.b)[0]) {}

  std::string expected() const override {
    return fmt::format("a matrix of {} by at most {}", smaller_, most_);
  }
  std::vector<std::size_t> tensors() const override {
    return {tensors_.a, tensors_.b, tensors_.lambda, tensors_.gamma};
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    return ProductChange::memory(base) + 2 * small_numbers_ * sizeof(double) +
           rank() * sizeof(float);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override {
    return std::min(out, in) == smaller_ && std::max(out, in) <= most_;
  }
  // The left factor is B read as larger x (n r), the right one lambda A gamma as (r n) x smaller.
  // The two count n and r in opposite order, and PEFT multiplies them even so. Where the inputs are
  // the larger side, the product is that of the transposes.
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    const Matrix outer = read_matrix(source, tensors_.a);
    const Matrix lambda = read_matrix(source, tensors_.lambda);
    const Matrix gamma = read_matrix(source, tensors_.gamma);
    const bool inputs_smaller = a.size() <= b.size();
    const std::size_t larger = std::max(a.size(), b.size()) / rank();
    const std::uint64_t stored = source.tensors()[tensors_.b].shape[1] * r_;
    std::vector<float> row(rank());
    for (std::size_t i = 0; i < larger; ++i) {
      const std::span<float> to = inputs_smaller ? b.subspan(i * rank(), rank()) : std::span(row);
      read_floats(source, tensors_.b, to, i * stored);
      if (inputs_smaller) continue;
      for (std::size_t k = 0; k < rank(); ++k) a[k * larger + i] = row[k];
    }
    for (std::size_t k = 0; k < rank(); ++k) {
      const std::size_t outer_row = k / n_;
      const std::size_t n = k % n_;
      for (std::size_t j = 0; j < smaller_; ++j) {
        (inputs_smaller ? a[k * smaller_ + j] : b[j * rank() + k]) =
            static_cast<float>(lambda(outer_row, n) * outer(outer_row, j) * gamma(n, j));
      }
    }
  }

  Tensors tensors_;
  std::uint64_t r_;
  std::uint64_t n_;
  std::uint64_t smaller_;
  std::uint64_t small_numbers_;
  std::uint64_t most_;
};

void fold_randlora(FamilyModule& module) {
  const RandProduct::Tensors all = {module.need_shared("randlora_A"),
                                    module.need_shared("randlora_B"),
                                    module.need("randlora_lambda"), module.need("randlora_gamma")};
  const std::vector<std::uint64_t>& a = module.shape(all.a);
  const std::vector<std::uint64_t>& b = module.shape(all.b);
  const std::vector<std::uint64_t>& lambda = module.shape(all.lambda);
  const std::vector<std::uint64_t>& gamma = module.shape(all.gamma);
  module.check_matrix(all.lambda);
  module.check_matrix(all.gamma);
  if (a.size() != 3 || b.size() != 3 || a[0] != lambda[0] || a[1] != 1 || b[2] != lambda[0] ||
      gamma[0] != lambda[1] || b[1] < lambda[1] || a[2] < gamma[1] || b[0] < gamma[1]) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a randlora_A of shape {} and a randlora_B of {}, which are too "
                              "small or of another rank for a randlora_lambda of {} and a "
                              "randlora_gamma of {}: `{}`",
                              shape_text(a), shape_text(b), shape_text(lambda), shape_text(gamma),
                              module.info(all.lambda).name),
                  all.lambda);
  }
  const double alpha = module.config().number("randlora_alpha", kRandDefaultAlpha);
  module.add(UpdateKind::LowRank, std::make_shared<RandProduct>(module, all),
             alpha / static_cast<double>(module.rank(lambda[0])));
}

const RegisterFamily registered_randlora(
    {.type = "RANDLORA",
     .name = "RandLoRA",
     .reference = "Albert et al. 2025",
     .update = "W + alpha / r · Σ Bₙ·diag(λₙ)·A·diag(γₙ), with A and B "
               "shared by all layers",
     .layers = "linear, Conv1D",
     .tensors = {"randlora_lambda", "randlora_gamma"},
     .shared = {"randlora_A", "randlora_B"},
     .fold = fold_randlora});

}  // namespace
}  // namespace thorns
