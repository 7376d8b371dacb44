// IA3 (Liu et al. 2022): the outputs, or the inputs of a feed-forward layer, are multiplied by one
// factor each.
#include "adapter/ia3.h"

#include <fmt/format.h>

#include <utility>

#include "adapter/numbers.h"

namespace thorns {
namespace {

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
  ScaleChange(std::size_t tensor, std::uint64_t count, Ia3Side side)
      : tensor_(tensor), count_(count), side_(side) {}

  bool fits(const BaseTensor& base) const override {
    if (base.shape.size() == 1) return side_ == Ia3Side::Outputs && count_ == base.shape[0];
    return base.shape.size() == 2 && count_ == (by_row(base) ? base.shape[0] : base.shape[1]);
  }
  std::string expected() const override {
    return fmt::format("{} {}", count_, side_ == Ia3Side::Outputs ? "outputs" : "inputs");
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
  bool by_row(const BaseTensor& base) const {
    return (side_ == Ia3Side::Outputs) != base.transposed;
  }

  std::size_t tensor_;
  std::uint64_t count_;
  Ia3Side side_;
};

}  // namespace

std::shared_ptr<const Change> ia3_scale(std::size_t tensor, std::uint64_t count, Ia3Side side) {
  return std::make_shared<ScaleChange>(tensor, count, side);
}

}  // namespace thorns
