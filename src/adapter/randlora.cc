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
        most_(module.shape(tensors.b)[0]) {}

  std::string expected() const override {
    return fmt::format("a matrix of {} by at most {}", smaller_, most_);
  }
  std::vector<std::size_t> tensors() const override {
    return {tensors_.a, tensors_.b, tensors_.lambda, tensors_.gamma};
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    const std::uint64_t larger = std::max(base.rows(), base.columns());
    return ProductChange::memory(base) + rank() * (larger + smaller_) * sizeof(float);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override {
    return std::min(out, in) == smaller_ && std::max(out, in) <= most_;
  }
  // The left factor is B read as larger x (n r), the right one lambda A gamma as (r n) x smaller.
  // The two count n and r in opposite order, and PEFT multiplies them even so.
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    const bool inputs_smaller = a.size() <= b.size();
    const std::size_t larger = std::max(a.size(), b.size()) / rank();
    std::vector<float> left(larger * rank());
    const std::uint64_t stored = source.tensors()[tensors_.b].shape[1] * r_;
    for (std::size_t row = 0; row < larger; ++row) {
      read_floats(source, tensors_.b, std::span(left).subspan(row * rank(), rank()), row * stored);
    }
    std::vector<float> right(rank() * smaller_);
    fill_right(source, right);
    if (inputs_smaller) {
      std::copy(left.begin(), left.end(), b.begin());
      std::copy(right.begin(), right.end(), a.begin());
    } else {  // of the transpose
      transpose(right, smaller_, b);
      transpose(left, rank(), a);
    }
  }
  void fill_right(const TensorSource& source, std::span<float> right) const {
    const Matrix a = read_matrix(source, tensors_.a);
    const Matrix lambda = read_matrix(source, tensors_.lambda);
    const Matrix gamma = read_matrix(source, tensors_.gamma);
    float* to = right.data();
    for (std::uint64_t k = 0; k < r_; ++k) {
      for (std::uint64_t n = 0; n < n_; ++n) {
        for (std::uint64_t j = 0; j < smaller_; ++j) {
          *to++ = static_cast<float>(lambda(k, n) * a(k, j) * gamma(n, j));
        }
      }
    }
  }

  Tensors tensors_;
  std::uint64_t r_;
  std::uint64_t n_;
  std::uint64_t smaller_;
  std::uint64_t most_;
};

void fold(FamilyModule& module) {
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

const RegisterFamily registered({.type = "RANDLORA",
                                 .name = "RandLoRA",
                                 .reference = "Albert et al. 2025",
                                 .update = "W + alpha / r · Σ Bₙ·diag(λₙ)·A·diag(γₙ), with A and B "
                                           "shared by all layers",
                                 .layers = "linear, Conv1D",
                                 .tensors = {"randlora_lambda", "randlora_gamma"},
                                 .shared = {"randlora_A", "randlora_B"},
                                 .fold = fold});

}  // namespace
}  // namespace thorns
