// HiRA (Huang et al. 2025): W ⊙ (1 + B A); no scale.
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "adapter/family.h"
#include "adapter/matrix.h"
#include "base/text.h"

namespace thorns {
namespace {

class HadamardMap final : public RowMap {
 public:
  explicit HadamardMap(ThinProduct product) : product_(std::move(product)) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    product_.generate(first, to);
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i] + from[i] * to[i];
  }

 private:
  ThinProduct product_;
};

// A: rank x in (on a convolution rank x channels x kernel), B: out x rank. An embedding is stored
// (in, out), like a Conv1D.
class HiraChange final : public MapChange {
 public:
  HiraChange(const FamilyModule& module, std::size_t a, std::size_t b, bool embedding)
      : a_(a),
        b_(b),
        numbers_(module.info(a).elements + module.info(b).elements),
        embedding_(embedding),
        shape_(module.shape(a)),
        turned_{module.shape(a)[1], module.shape(b)[0]} {
    shape_[0] = module.shape(b)[0];
  }

  bool fits(const BaseTensor& base) const override {
    if (embedding_) return !base.transposed && base.shape == turned_;
    if (base.transposed) return shape_.size() == 2 && base.shape == turned_;
    return base.shape == shape_;
  }
  std::string expected() const override { return shape_text(embedding_ ? turned_ : shape_); }
  std::vector<std::size_t> tensors() const override { return {a_, b_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return 2 * numbers_ * sizeof(double);
  }
  bool elementwise() const override { return true; }
  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const Matrix a = read_matrix(source, a_);
    const Matrix b = read_matrix(source, b_);
    if (embedding_ || base.transposed) {
      return std::make_unique<HadamardMap>(ThinProduct(transposed(a), transposed(b)));
    }
    return std::make_unique<HadamardMap>(ThinProduct(b, a));
  }

 private:
  std::size_t a_;
  std::size_t b_;
  std::uint64_t numbers_;
  bool embedding_;
  std::vector<std::uint64_t> shape_;
  std::vector<std::uint64_t> turned_;
};

void fold_pair(FamilyModule& module, const std::string& mark, bool embedding) {
  const auto [a, b] = module.need_factors(mark, embedding);
  module.rank(module.shape(a)[0]);  // for the warning
  module.add(UpdateKind::Map, std::make_shared<HiraChange>(module, a, b, embedding));
}

void fold_hira(FamilyModule& module) {
  if (module.has("hira_A") || module.has("hira_B")) fold_pair(module, "hira_", false);
  if (module.has("hira_embedding_A") || module.has("hira_embedding_B")) {
    fold_pair(module, "hira_embedding_", true);
  }
}

const RegisterFamily registered_hira(
    {.type = "HIRA",
     .name = "HiRA",
     .reference = "Huang et al. 2025",
     .update = "W ⊙ (1 + B·A)",
     .layers = "linear, Conv1D, embedding, convolution in 1, 2 and 3 "
               "dimensions",
     .tensors = {"hira_A", "hira_B", "hira_embedding_A", "hira_embedding_B"},
     .fold = fold_hira});

}  // namespace
}  // namespace thorns
