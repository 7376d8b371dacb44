// LoKr (LyCORIS, Yeh et al. 2024): W + alpha / r * kron(w1, w2), each of the two stored whole or as
// a product (lycoris.h).
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>

#include "adapter/family.h"
#include "adapter/lycoris.h"
#include "base/text.h"

namespace thorns {
namespace {

// One side of the Kronecker product: `name` whole, or name_a, name_b and perhaps a core.
class KroneckerFactor {
 public:
  KroneckerFactor(FamilyModule& module, const std::string& name, const std::string& core) {
    if (!module.has(name)) {
      product_.emplace(module, name + "_a", name + "_b", core);
      shape_ = product_->shape();
      return;
    }
    whole_ = module.need(name);
    shape_ = module.shape(whole_);
    if (shape_.size() < 2 || module.info(whole_).elements == 0) module.check_matrix(whole_);
  }

  std::uint64_t rows() const { return shape_[0]; }
  std::uint64_t columns() const { return elements() / rows(); }
  std::uint64_t elements() const { return BaseTensor{shape_}.elements(); }
  const std::vector<std::uint64_t>& shape() const { return shape_; }
  std::optional<std::uint64_t> rank() const {
    return product_ ? std::optional(product_->rank()) : std::nullopt;
  }
  std::vector<std::size_t> tensors() const {
    return product_ ? product_->tensors() : std::vector<std::size_t>{whole_};
  }
  std::uint64_t numbers() const { return elements() + (product_ ? product_->numbers() : 0); }
  Matrix load(const TensorSource& source) const {
    return product_ ? product_->load(source).whole() : read_matrix(source, whole_);
  }

 private:
  std::size_t whole_ = 0;
  std::optional<StoredProduct> product_;
  std::vector<std::uint64_t> shape_;
};

// Element (i1 * rows2 + i2, j1 * columns2 + j2) is w1[i1, j1] * w2[i2, j2].
class Kronecker final : public Delta {
 public:
  Kronecker(Matrix first, Matrix second) : first_(std::move(first)), second_(std::move(second)) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    const std::uint64_t columns = first_.columns * second_.columns;
    std::uint64_t row = first / columns;
    std::uint64_t column = first % columns;
    while (!to.empty()) {
      const std::uint64_t j2 = column % second_.columns;
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(to.size(), second_.columns - j2));
      const double factor = first_(row / second_.rows, column / second_.columns);
      const double* const from = second_.values.data() + row % second_.rows * second_.columns + j2;
      for (std::size_t i = 0; i < count; ++i) to[i] = factor * from[i];
      to = to.subspan(count);
      column += count;
      if (column == columns) {
        column = 0;
        ++row;
      }
    }
  }

 private:
  Matrix first_;
  Matrix second_;
};

// What PEFT makes of a w2 of three dimensions (rows2, channels2, kernel), that of a Conv1d: it
// aligns the axes of w1 with the last two, and reads the result in the order of W. Element
//   ((i2 * rows1 + i1) * channels2 + j2) * columns1 * kernel + j1 * kernel + k
// is w1[i1, j1] * w2[i2, j2, k].
class ShiftedKronecker final : public Delta {
 public:
  ShiftedKronecker(Matrix first, Matrix second, std::uint64_t kernel)
      : first_(std::move(first)), second_(std::move(second)), kernel_(kernel) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    const std::uint64_t channels = second_.columns / kernel_;
    for (std::size_t i = 0; i < to.size(); ++i) {
      std::uint64_t rest = first + i;
      const auto next = [&](std::uint64_t count) {
        const std::uint64_t index = rest % count;
        rest /= count;
        return index;
      };
      const std::uint64_t k = next(kernel_);
      const std::uint64_t j1 = next(first_.columns);
      const std::uint64_t j2 = next(channels);
      const std::uint64_t i1 = next(first_.rows);
      to[i] = first_(i1, j1) * second_(rest, j2 * kernel_ + k);
    }
  }

 private:
  Matrix first_;
  Matrix second_;
  std::uint64_t kernel_;
};

class KroneckerChange final : public DeltaChange {
 public:
  KroneckerChange(KroneckerFactor first, KroneckerFactor second)
      : first_(std::move(first)), second_(std::move(second)) {}

  bool fits(const BaseTensor& base) const override {
    if (base.transposed || base.shape.size() < 2) return false;
    if (base.rows() != rows() || base.columns() != columns()) return false;
    return !is_shifted() || (base.shape.size() == 3 && base.shape[2] == second_.shape()[2]);
  }
  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{rows(), columns()});
  }
  std::optional<std::vector<std::uint64_t>> shape() const override {
    if (!is_shifted()) return {{rows(), columns()}};
    const std::uint64_t kernel = second_.shape()[2];
    return {{rows(), columns() / kernel, kernel}};
  }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all = first_.tensors();
    for (const std::size_t tensor : second_.tensors()) all.push_back(tensor);
    return all;
  }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return (first_.numbers() + second_.numbers()) * sizeof(double);
  }
  std::unique_ptr<Delta> load(const TensorSource& source,
                              const BaseTensor& /*base*/) const override {
    Matrix first = first_.load(source);
    Matrix second = second_.load(source);
    if (!is_shifted()) return std::make_unique<Kronecker>(std::move(first), std::move(second));
    return std::make_unique<ShiftedKronecker>(std::move(first), std::move(second),
                                              second_.shape()[2]);
  }

 private:
  bool is_shifted() const { return second_.shape().size() == 3; }
  std::uint64_t rows() const { return first_.rows() * second_.rows(); }
  std::uint64_t columns() const { return first_.columns() * second_.columns(); }

  KroneckerFactor first_;
  KroneckerFactor second_;
};

void fold_lokr(FamilyModule& module) {
  KroneckerFactor first(module, "lokr_w1", "");
  KroneckerFactor second(module, "lokr_w2", "lokr_t2");
  if (first.shape().size() > 2) module.check_matrix(module.need("lokr_w1"));
  // Tensors stored whole do not show the rank; PEFT divides by it even so.
  const auto stored = second.rank() ? second.rank() : first.rank();
  const double scale = module.alpha("alpha") / static_cast<double>(module.rank(stored));
  module.add(UpdateKind::Generate,
             std::make_shared<KroneckerChange>(std::move(first), std::move(second)), scale);
}

const RegisterFamily registered_lokr({.type = "LOKR",
                                      .name = "LoKr",
                                      .reference = "Yeh et al. 2024",
                                      .update = "W + alpha / r · w1 ⊗ w2, each of them whole or a "
                                                "product",
                                      .layers = "linear, convolution in 1 and 2 dimensions",
                                      .tensors = {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2",
                                                  "lokr_w2_a", "lokr_w2_b", "lokr_t2"},
                                      .fold = fold_lokr});

}  // namespace
}  // namespace thorns
