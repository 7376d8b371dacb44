#include "adapter/tucker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "adapter/matrix.h"
#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

// The core and A become one factor, of rank x (channels * kernel).
class CoreProduct final : public FactorChange {
 public:
  CoreProduct(const FamilyModule& module, const FamilyModule::Factors& factors, std::size_t core)
      : factors_(factors),
        core_(core),
        rank_(module.shape(factors.a)[0]),
        channels_(module.shape(factors.a)[1]),
        shape_(module.shape(core)) {
    shape_[0] = module.shape(factors.b)[0];
    shape_[1] = channels_;
  }

  bool fits(const BaseTensor& base) const override {
    return !base.transposed && base.shape == shape_;
  }
  std::string expected() const override { return shape_text(shape_); }
  std::optional<std::vector<std::uint64_t>> shape() const override { return shape_; }
  std::vector<std::size_t> tensors() const override { return {factors_.a, factors_.b, core_}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    const std::uint64_t columns = base.columns();
    return rank_ * (2 * columns + channels_ + columns / channels_ * rank_) * sizeof(double);
  }
  std::uint64_t rank() const override { return rank_; }
  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const override {
    read_floats(source, factors_.b, u);
    const Matrix a = read_matrix(source, factors_.a);
    const Matrix core = read_matrix(source, core_);  // rank x (rank * kernel)
    const std::uint64_t columns = base.columns();
    const std::uint64_t kernel = columns / channels_;
    std::vector<double> row(columns);
    for (std::uint64_t p = 0; p < rank_; ++p) {
      std::fill(row.begin(), row.end(), 0.0);
      for (std::uint64_t q = 0; q < rank_; ++q) {
        for (std::uint64_t i = 0; i < channels_; ++i) {
          for (std::uint64_t k = 0; k < kernel; ++k) {
            row[i * kernel + k] += core(p, q * kernel + k) * a(q, i);
          }
        }
      }
      std::transform(row.begin(), row.end(), v.begin() + static_cast<std::ptrdiff_t>(p * columns),
                     [](double number) { return static_cast<float>(number); });
    }
  }

 private:
  FamilyModule::Factors factors_;
  std::size_t core_;
  std::uint64_t rank_;
  std::uint64_t channels_;
  std::vector<std::uint64_t> shape_;  // of the weight
};

}  // namespace

std::shared_ptr<const FactorChange> core_product(FamilyModule& module,
                                                 const FamilyModule::Factors& factors) {
  const std::size_t core = module.need(kCore);
  const std::vector<std::uint64_t>& shape = module.shape(core);
  const std::vector<std::uint64_t>& a = module.shape(factors.a);
  const bool fits = shape.size() > 2 && shape[0] == a[0] && shape[1] == a[0] &&
                    module.info(core).elements > 0 &&
                    module.info(factors.a).elements == a[0] * a[1];
  if (!fits) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a core of shape {} for a lora_A of shape {}: `{}`",
                              shape_text(shape), shape_text(a), module.info(core).name),
                  core);
  }
  return std::make_shared<CoreProduct>(module, factors, core);
}

}  // namespace thorns
