// DeLoRA (Bini et al. 2025): W + B D A diag(w), where D scales every pair of a column of B and a
// row of A to the length lambda / r, and w are the norms that the columns of W had before training.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "adapter/family.h"
#include "adapter/matrix.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr double kLeastNorm = 1e-4;

class DeloraProduct final : public ProductChange {
 public:
  struct Tensors {
    std::size_t a;       // rank x in
    std::size_t b;       // out x rank
    std::size_t lambda;  // one number
    std::size_t norms;   // in
  };
  DeloraProduct(const FamilyModule& module, const Tensors& tensors)
      : ProductChange(module.shape(tensors.a)[0]),
        tensors_(tensors),
        out_(module.shape(tensors.b)[0]),
        in_(module.shape(tensors.a)[1]) {}

  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{out_, in_});
  }
  std::optional<std::vector<std::uint64_t>> shape() const override { return {{out_, in_}}; }
  std::vector<std::size_t> tensors() const override {
    return {tensors_.a, tensors_.b, tensors_.lambda, tensors_.norms};
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    return ProductChange::memory(base) +
           2 * (rank() * (in_ + out_) + in_ + rank()) * sizeof(double);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override { return out == out_ && in == in_; }
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    const Matrix rows = read_matrix(source, tensors_.a);
    const Matrix columns = read_matrix(source, tensors_.b);
    const std::vector<double> norms = read_numbers(source, tensors_.norms);
    const double length = read_numbers(source, tensors_.lambda)[0] / static_cast<double>(rank());
    std::copy(columns.values.begin(), columns.values.end(), b.begin());
    for (std::uint64_t k = 0; k < rank(); ++k) {
      double row = 0;
      double column = 0;
      for (std::uint64_t i = 0; i < in_; ++i) row += rows(k, i) * rows(k, i);
      for (std::uint64_t o = 0; o < out_; ++o) column += columns(o, k) * columns(o, k);
      const double factor =
          length / (std::max(std::sqrt(row), kLeastNorm) * std::max(std::sqrt(column), kLeastNorm));
      for (std::uint64_t i = 0; i < in_; ++i) {
        a[k * in_ + i] = static_cast<float>(factor * rows(k, i) * norms[i]);
      }
    }
  }

  Tensors tensors_;
  std::uint64_t out_;
  std::uint64_t in_;
};

void fold_delora(FamilyModule& module) {
  const auto [a, b] = module.need_factors("delora_", true);
  const DeloraProduct::Tensors all = {a, b, module.need("delora_lambda"),
                                      module.need("delora_w_norm")};
  if (module.info(all.lambda).elements != 1 ||
      module.shape(all.norms) != std::vector<std::uint64_t>{module.shape(a)[1]}) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has a delora_lambda of shape {} and a delora_w_norm of shape {} for a "
                    "delora_A of shape {}: `{}`",
                    shape_text(module.shape(all.lambda)), shape_text(module.shape(all.norms)),
                    shape_text(module.shape(a)), module.info(all.lambda).name),
        all.lambda);
  }
  module.rank(module.shape(a)[0]);  // for the warning
  module.add(UpdateKind::LowRank, std::make_shared<DeloraProduct>(module, all));
}

const RegisterFamily registered_delora(
    {.type = "DELORA",
     .name = "DeLoRA",
     .reference = "Bini et al. 2025",
     .update = "W + λ / r · Σ bₖaₖ / (‖bₖ‖‖aₖ‖) · diag(w), with the "
               "norms w of the columns of W",
     .layers = "linear",
     .tensors = {"delora_A", "delora_B", "delora_lambda", "delora_w_norm"},
     .fold = fold_delora});

}  // namespace
}  // namespace thorns
