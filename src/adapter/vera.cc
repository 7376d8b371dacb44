// VeRA (Kopiczko et al. 2024): W + diag(lambda_b) B diag(lambda_d) A. A and B are random matrices
// that all layers share; of each a layer takes as many columns and rows as it has. PVeRA (Fillioux
// et al. 2025) has A and lambda_d twice, for the means and the variances of what it draws; a merge
// takes the means, which come first.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <random>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"
#include "kernel/reference.h"

namespace thorns {
namespace {

// Random matrices in the order in which PEFT draws them: PyTorch's numbers for a seed, as a CPU
// with a fused multiply-add makes them.
class Projections {
 public:
  explicit Projections(std::uint64_t seed) : random_(static_cast<std::uint32_t>(seed)) {}

  // The next rows x columns matrix (Kaiming, uniform), of which `to` gets the rows and `kept`
  // columns that it has room for.
  void draw(std::uint64_t rows, std::uint64_t columns, std::uint64_t kept, std::span<float> to) {
    const double bound =
        std::sqrt(3.0) * (std::sqrt(2.0) / std::sqrt(static_cast<double>(columns)));
    const auto low = static_cast<float>(-bound);
    const float range = static_cast<float>(bound) - low;
    for (std::uint64_t row = 0; row < rows; ++row) {
      for (std::uint64_t column = 0; column < columns; ++column) {
        const auto bits = static_cast<std::uint32_t>(random_()) & kMantissa;
        const float unit = static_cast<float>(bits) / static_cast<float>(kMantissa + 1);
        const std::uint64_t at = row * kept + column;
        if (column < kept && at < to.size()) to[at] = std::fma(unit, range, low);
      }
    }
  }

 private:
  static constexpr std::uint32_t kMantissa = (1U << 24) - 1;
  std::mt19937 random_;
};

void round_numbers(Dtype dtype, std::span<float> numbers) {
  if (dtype != Dtype::F16 && dtype != Dtype::BF16) return;
  for (float& number : numbers) number = static_cast<float>(reference::round_to(dtype, number));
}

class VeraProduct final : public ProductChange {
 public:
  struct Tensors {
    std::size_t lambda_d;  // rank
    std::size_t lambda_b;  // out
    struct Shared {
      std::size_t a;  // rank x at least in
      std::size_t b;  // at least out x rank
    };
    std::optional<Shared> shared;  // not stored: drawn from the seed
  };
  VeraProduct(const FamilyModule& module, const Tensors& tensors, std::uint64_t rank,
              std::uint64_t seed)
      : ProductChange(rank),
        tensors_(tensors),
        seed_(seed),
        out_(module.info(tensors.lambda_b).elements) {
    if (tensors.shared) most_in_ = module.shape(tensors.shared->a)[1];
  }

  std::string expected() const override {
    return fmt::format("{} outputs{}", out_,
                       tensors_.shared ? fmt::format(" and at most {} inputs", most_in_) : "");
  }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all = {tensors_.lambda_d, tensors_.lambda_b};
    if (tensors_.shared) all.insert(all.end(), {tensors_.shared->a, tensors_.shared->b});
    return all;
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    return ProductChange::memory(base) + 2 * (rank() + out_) * sizeof(double);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override {
    return out == out_ && in <= most_in_;
  }
  void make(const TensorSource& source, const BaseTensor& base, std::span<float> b,
            std::span<float> a) const override {
    const std::size_t in = a.size() / rank();
    if (tensors_.shared) {
      for (std::size_t k = 0; k < rank(); ++k) {
        read_floats(source, tensors_.shared->a, a.subspan(k * in, in), k * most_in_);
      }
      read_floats(source, tensors_.shared->b, b);  // its first rows
    } else {
      Projections drawn(seed_);
      drawn.draw(rank(), base.most_in, in, a);
      drawn.draw(base.most_out, rank(), rank(), b);
      // PEFT keeps them in the type of the layers.
      for (const std::span<float> factor : {a, b}) round_numbers(base.dtype, factor);
    }
    const std::vector<double> lambda_d = read_numbers(source, tensors_.lambda_d);
    const std::vector<double> lambda_b = read_numbers(source, tensors_.lambda_b);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] *= static_cast<float>(lambda_d[i / in]);
    for (std::size_t i = 0; i < b.size(); ++i) b[i] *= static_cast<float>(lambda_b[i / rank()]);
  }

  Tensors tensors_;
  std::uint64_t seed_;
  std::uint64_t out_;
  std::uint64_t most_in_ = std::numeric_limits<std::uint64_t>::max();
};

void check_shared(const FamilyModule& module, const VeraProduct::Tensors& all, std::uint64_t rank) {
  module.check_matrix(all.shared->a);
  module.check_matrix(all.shared->b);
  const std::vector<std::uint64_t>& a = module.shape(all.shared->a);
  const std::vector<std::uint64_t>& b = module.shape(all.shared->b);
  if (a[0] == module.info(all.lambda_d).elements && b[1] == rank &&
      b[0] >= module.info(all.lambda_b).elements) {
    return;
  }
  module.refuse(
      ErrorCode::Corrupt,
      fmt::format("has a vera_A of shape {} and a vera_B of {}, which are too small or of "
                  "another rank for a vera_lambda_d of {} and a vera_lambda_b of {}: `{}`",
                  shape_text(a), shape_text(b), shape_text(module.shape(all.lambda_d)),
                  shape_text(module.shape(all.lambda_b)), module.info(all.lambda_d).name),
      all.lambda_d);
}

// `mark`: of the names; `parts`: how often A and lambda_d are there.
void fold_as(FamilyModule& module, const std::string& mark, std::uint64_t parts, bool redrawn) {
  VeraProduct::Tensors all = {module.need(mark + "lambda_d"), module.need(mark + "lambda_b"), {}};
  for (const std::size_t lambda : {all.lambda_d, all.lambda_b}) {
    const std::uint64_t divisor = lambda == all.lambda_d ? parts : 1;
    if (module.shape(lambda).size() == 1 && module.info(lambda).elements > 0 &&
        module.info(lambda).elements % divisor == 0) {
      continue;
    }
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a vector of shape {}: `{}`", shape_text(module.shape(lambda)),
                              module.info(lambda).name),
                  lambda);
  }
  const std::uint64_t rank = module.info(all.lambda_d).elements / parts;
  if (!redrawn || module.has_shared(mark + "A") || module.has_shared(mark + "B")) {
    all.shared = {module.need_shared(mark + "A"), module.need_shared(mark + "B")};
    check_shared(module, all, rank);
  } else {
    module.warn(
        "its projections were not saved; they are drawn again from projection_prng_key, and are "
        "those of training where PyTorch drew them on a CPU with fused multiply-add");
  }
  const std::uint64_t seed = module.config().seed("projection_prng_key");
  module.add(UpdateKind::LowRank, std::make_shared<VeraProduct>(module, all, rank, seed));
}

void fold_vera(FamilyModule& module) { fold_as(module, "vera_", 1, true); }
void fold_pvera(FamilyModule& module) { fold_as(module, "pvera_", 2, false); }

const RegisterFamily registered_vera(
    {.type = "VERA",
     .name = "VeRA",
     .reference = "Kopiczko et al. 2024",
     .update = "W + diag(λ_b)·B·diag(λ_d)·A, with A and B shared by all "
               "layers",
     .layers = "linear, Conv1D",
     .tensors = {"vera_lambda_b", "vera_lambda_d"},
     .shared = {"vera_A", "vera_B"},
     .fold = fold_vera});

const RegisterFamily registered_pvera({.type = "PVERA",
                                       .name = "PVeRA",
                                       .reference = "Fillioux et al. 2025",
                                       .update = "as VeRA, with the means of λ_d and A",
                                       .layers = "linear, Conv1D",
                                       .tensors = {"pvera_lambda_b", "pvera_lambda_d"},
                                       .shared = {"pvera_A", "pvera_B"},
                                       .fold = fold_pvera});

}  // namespace
}  // namespace thorns
