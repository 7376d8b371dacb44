// IA3 (Liu et al. 2022): the outputs, or the inputs of a feed-forward layer, are multiplied by one
// factor each.
#include <fmt/format.h>

#include <utility>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

// Outputs: every row of a Linear weight (column of a Conv1D) and every element of a bias is
// multiplied by its factor. Inputs: every column of a Linear weight (row of a Conv1D).
enum class Side { Outputs, Inputs };

class Scale final : public RowMap {
 public:
  // Element e is multiplied by factors[e / run % factors.size()].
  Scale(std::vector<double> factors, std::uint64_t run) : factors_(std::move(factors)), run_(run) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    auto factor = static_cast<std::size_t>(first / run_ % factors_.size());
    std::uint64_t left = run_ - first % run_;
    for (std::size_t i = 0; i < from.size(); ++i) {
      to[i] = factors_[factor] * from[i];
      if (--left > 0) continue;
      left = run_;
      if (++factor == factors_.size()) factor = 0;
    }
  }

 private:
  std::vector<double> factors_;
  std::uint64_t run_;
};

class ScaleChange final : public MapChange {
 public:
  ScaleChange(std::size_t tensor, std::uint64_t count, Side side)
      : tensor_(tensor), count_(count), side_(side) {}

  bool fits(const BaseTensor& base) const override {
    if (base.shape.size() == 1) return side_ == Side::Outputs && count_ == base.shape[0];
    return base.shape.size() == 2 && count_ == (by_row(base) ? base.shape[0] : base.shape[1]);
  }
  std::string expected() const override {
    return fmt::format("{} {}", count_, side_ == Side::Outputs ? "outputs" : "inputs");
  }
  bool elementwise() const override { return true; }
  std::vector<std::size_t> tensors() const override { return {tensor_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return count_ * 2 * sizeof(double);
  }
  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const bool rows = base.shape.size() == 2 && by_row(base);
    return std::make_unique<Scale>(read_numbers(source, tensor_), rows ? base.columns() : 1);
  }

 private:
  bool by_row(const BaseTensor& base) const { return (side_ == Side::Outputs) != base.transposed; }

  std::size_t tensor_;
  std::uint64_t count_;
  Side side_;
};

void fold(FamilyModule& module) {
  const std::size_t factors = module.need("ia3_l");
  const std::vector<std::uint64_t>& shape = module.shape(factors);
  const bool outputs = shape.size() == 2 && shape[1] == 1;
  if (!outputs && (shape.size() != 2 || shape[0] != 1)) {
    module.refuse(ErrorCode::Unsupported,
                  fmt::format("has IA3 on a layer that is not linear: `{}` has shape {}",
                              module.info(factors).name, shape_text(shape)),
                  factors);
  }
  const auto change = std::make_shared<ScaleChange>(factors, module.info(factors).elements,
                                                    outputs ? Side::Outputs : Side::Inputs);
  module.add(UpdateKind::Map, change);
  if (!outputs) return;
  Update bias;
  bias.kind = UpdateKind::Map;
  bias.parameter = "bias";
  bias.change = change;
  bias.if_present = true;
  module.add(std::move(bias));
}

const RegisterFamily registered({.type = "IA3",
                                 .name = "IA3",
                                 .reference = "Liu et al. 2022",
                                 .update = "outputs (and biases), or the inputs of feed-forward "
                                           "layers, times one factor each",
                                 .layers = "linear, Conv1D",
                                 .tensors = {"ia3_l"},
                                 .fold = fold});

}  // namespace
}  // namespace thorns
