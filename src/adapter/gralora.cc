// GraLoRA (Jung et al. 2025): W + alpha / (r + h) * D, where D is cut into k x k blocks, each a
// product of rank r / k; to it B A of rank h may be added.
//
// Of block (j, n), outputs j and inputs n: with A: k x in / k x r, B: k x r x out / k and s < r /
// k,
//   D[(j, o), (n, i)] = sum over s of B[j, n r / k + s, o] A[n, i, j r / k + s]
// As one product of rank k r the pair (j, n, s) has B's numbers in the rows of j alone, and A's in
// the columns of n.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr double kDefaultGraloraAlpha = 64;

class BlockwiseProduct final : public ProductChange {
 public:
  struct Tensors {
    std::size_t a;
    std::size_t b;
    std::optional<FamilyModule::Factors> general;
  };
  BlockwiseProduct(const FamilyModule& module, const Tensors& tensors, std::uint64_t general_rank)
      : ProductChange(module.shape(tensors.a)[0] * module.shape(tensors.a)[2] + general_rank),
        tensors_(tensors),
        blocks_(module.shape(tensors.a)[0]),
        rank_(module.shape(tensors.a)[2]),
        out_(blocks_ * module.shape(tensors.b)[2]),
        in_(blocks_ * module.shape(tensors.a)[1]),
        general_rank_(general_rank) {}

  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{out_, in_});
  }
  std::optional<std::vector<std::uint64_t>> shape() const override { return {{out_, in_}}; }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all = {tensors_.a, tensors_.b};
    if (tensors_.general) all.insert(all.end(), {tensors_.general->a, tensors_.general->b});
    return all;
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    return ProductChange::memory(base) +
           (rank_ + general_rank_) * (in_ + out_) * (2 * sizeof(double) + sizeof(float));
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override { return out == out_ && in == in_; }
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    std::fill(a.begin(), a.end(), 0.0F);
    std::fill(b.begin(), b.end(), 0.0F);
    std::vector<float> left(out_ * rank_);
    std::vector<float> right(in_ * rank_);
    read_floats(source, tensors_.b, left);
    read_floats(source, tensors_.a, right);
    const std::uint64_t outputs = out_ / blocks_;
    const std::uint64_t inputs = in_ / blocks_;
    const std::uint64_t each = rank_ / blocks_;
    std::uint64_t pair = 0;
    for (std::uint64_t j = 0; j < blocks_; ++j) {
      for (std::uint64_t n = 0; n < blocks_; ++n) {
        for (std::uint64_t s = 0; s < each; ++s, ++pair) {
          for (std::uint64_t o = 0; o < outputs; ++o) {
            b[(j * outputs + o) * rank() + pair] = left[(j * rank_ + n * each + s) * outputs + o];
          }
          for (std::uint64_t i = 0; i < inputs; ++i) {
            a[pair * in_ + n * inputs + i] = right[(n * inputs + i) * rank_ + j * each + s];
          }
        }
      }
    }
    if (!tensors_.general) return;
    read_floats(source, tensors_.general->a, a.subspan(pair * in_));
    std::vector<float> general(out_ * general_rank_);
    read_floats(source, tensors_.general->b, general);
    for (std::uint64_t o = 0; o < out_; ++o) {
      std::copy_n(general.begin() + static_cast<std::ptrdiff_t>(o * general_rank_), general_rank_,
                  b.begin() + static_cast<std::ptrdiff_t>(o * rank() + pair));
    }
  }

  Tensors tensors_;
  std::uint64_t blocks_;
  std::uint64_t rank_;  // of the blocks in a row
  std::uint64_t out_;
  std::uint64_t in_;
  std::uint64_t general_rank_;
};

void fold_gralora(FamilyModule& module) {
  BlockwiseProduct::Tensors all = {module.need("gralora_A"), module.need("gralora_B"), {}};
  const std::vector<std::uint64_t>& a = module.shape(all.a);
  const std::vector<std::uint64_t>& b = module.shape(all.b);
  bool fits = a.size() == 3 && b.size() == 3 && module.info(all.a).elements > 0 &&
              module.info(all.b).elements > 0 && a[0] == b[0] && a[2] == b[1] && a[2] % a[0] == 0;
  std::uint64_t general_rank = 0;
  if (fits && module.has("gralora_A_general")) {
    all.general = {module.need("gralora_A_general"), module.need("gralora_B_general")};
    module.check_matrix(all.general->a);
    module.check_matrix(all.general->b);
    general_rank = module.shape(all.general->a)[0];
    fits = module.shape(all.general->a)[1] == a[0] * a[1] &&
           module.shape(all.general->b) == std::vector<std::uint64_t>{b[0] * b[2], general_rank};
  }
  if (!fits) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a gralora_A of shape {} and a gralora_B of shape {}, which have "
                              "no product: `{}`",
                              shape_text(a), shape_text(b), module.info(all.a).name),
                  all.a);
  }
  const double alpha = module.config().number("alpha", kDefaultGraloraAlpha);
  module.add(UpdateKind::LowRank, std::make_shared<BlockwiseProduct>(module, all, general_rank),
             alpha / static_cast<double>(a[2] + general_rank));
}

const RegisterFamily registered_gralora(
    {.type = "GRALORA",
     .name = "GraLoRA",
     .reference = "Jung et al. 2025",
     .update = "W + alpha / r · a product of low rank for each of k × k "
               "blocks",
     .layers = "linear, Conv1D",
     .tensors = {"gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"},
     .fold = fold_gralora});

}  // namespace
}  // namespace thorns
