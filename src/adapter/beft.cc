// BEFT (Huang et al. 2025): bias + b, and no weight is touched.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "adapter/family.h"
#include "adapter/numbers.h"

namespace thorns {
namespace {

class AddedBias final : public Delta {
 public:
  explicit AddedBias(std::vector<double> numbers) : numbers_(std::move(numbers)) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    std::copy_n(numbers_.begin() + static_cast<std::ptrdiff_t>(first), to.size(), to.begin());
  }

 private:
  std::vector<double> numbers_;
};

// The file has the numbers as a row, (1, out).
class BiasChange final : public DeltaChange {
 public:
  BiasChange(std::size_t tensor, std::uint64_t count) : tensor_(tensor), count_(count) {}

  bool fits(const BaseTensor& base) const override {
    return !base.transposed && base.shape == std::vector<std::uint64_t>{count_};
  }
  std::string expected() const override { return fmt::format("{} outputs", count_); }
  std::vector<std::size_t> tensors() const override { return {tensor_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return 2 * count_ * sizeof(double);
  }
  std::unique_ptr<Delta> load(const TensorSource& source,
                              const BaseTensor& /*base*/) const override {
    return std::make_unique<AddedBias>(read_numbers(source, tensor_));
  }

 private:
  std::size_t tensor_;
  std::uint64_t count_;
};

void fold_beft(FamilyModule& module) {
  const std::size_t bias = module.need("beft_bias");
  Update update;
  update.kind = UpdateKind::Generate;
  update.parameter = "bias";
  update.change = std::make_shared<BiasChange>(bias, module.info(bias).elements);
  module.add(std::move(update));
}

const RegisterFamily registered_beft({.type = "BEFT",
                                      .name = "BEFT",
                                      .reference = "Huang et al. 2025",
                                      .update = "W; bias + b",
                                      .layers = "linear",
                                      .tensors = {"beft_bias"},
                                      .fold = fold_beft});

}  // namespace
}  // namespace thorns
