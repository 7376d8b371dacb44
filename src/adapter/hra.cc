// HRA (Yuan et al. 2024): the inputs of a layer are reflected at r hyperplanes, one after the
// other, W' = W (I - 2 k1 k1^T) (I - 2 k2 k2^T) ..., where the unit vectors k are the columns of
// `hra_u`, or (apply_GS) what Gram-Schmidt makes of them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "adapter/family.h"
#include "adapter/numbers.h"

namespace thorns {
namespace {

// What is left of a stored column may be no shorter than this part of it: below it is the rounding
// of the file, which points nowhere.
constexpr double kLeastPart = 1e-7;

double dot(std::span<const double> a, std::span<const double> b) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  std::size_t e = 0;
  for (; e + kLanes <= a.size(); e += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[e + lane] * b[e + lane];
  }
  for (; e < a.size(); ++e) sums[0] += a[e] * b[e];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

void add_multiple(std::span<double> to, double factor, std::span<const double> from) {
  for (std::size_t e = 0; e < to.size(); ++e) to[e] += factor * from[e];
}

// Unit vectors of `size` elements, one after the other.
class Reflections final : public RowMap {
 public:
  Reflections(std::vector<double> vectors, std::uint64_t size)
      : vectors_(std::move(vectors)), size_(static_cast<std::size_t>(size)) {}

  void apply(std::uint64_t /*first*/, std::span<const double> from,
             std::span<double> to) const override {
    std::copy(from.begin(), from.end(), to.begin());
    for (std::size_t at = 0; at < to.size(); at += size_) {
      const auto row = to.subspan(at, size_);
      for (std::size_t k = 0; k < vectors_.size(); k += size_) {
        const std::span<const double> vector(vectors_.data() + k, size_);
        add_multiple(row, -2 * dot(row, vector), vector);
      }
    }
  }

 private:
  std::vector<double> vectors_;
  std::size_t size_;
};

class ReflectionMap final : public MapChange {
 public:
  ReflectionMap(std::size_t tensor, const std::vector<std::uint64_t>& shape, bool orthogonal)
      : tensor_(tensor), inputs_(shape[0]), rank_(shape[1]), orthogonal_(orthogonal) {}

  bool fits(const BaseTensor& base) const override {
    return base.shape.size() >= 2 && !base.transposed && base.columns() == inputs_;
  }
  std::string expected() const override { return fmt::format("{} inputs", inputs_); }
  bool elementwise() const override { return false; }
  std::vector<std::size_t> tensors() const override { return {tensor_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return 3 * inputs_ * rank_ * sizeof(double);  // stored, read, made
  }
  std::unique_ptr<RowMap> load(const TensorSource& source,
                               const BaseTensor& /*base*/) const override {
    const std::vector<double> stored = read_numbers(source, tensor_);
    const auto size = static_cast<std::size_t>(inputs_);
    const auto rank = static_cast<std::size_t>(rank_);
    std::vector<double> vectors(stored.size());
    for (std::size_t k = 0; k < rank; ++k) {
      const std::span<double> vector(vectors.data() + k * size, size);
      for (std::size_t e = 0; e < size; ++e) vector[e] = stored[e * rank + k];
      const double whole = std::sqrt(dot(vector, vector));
      for (std::size_t before = 0; orthogonal_ && before < k; ++before) {
        const std::span<const double> other(vectors.data() + before * size, size);
        add_multiple(vector, -dot(vector, other), other);
      }
      const double length = std::sqrt(dot(vector, vector));
      if (length <= kLeastPart * whole) refuse_column(source, k, whole == 0);
      for (double& element : vector) element /= length;
    }
    return std::make_unique<Reflections>(std::move(vectors), inputs_);
  }

 private:
  [[noreturn]] void refuse_column(const TensorSource& source, std::size_t column, bool zero) const {
    const std::string& name = source.tensors()[tensor_].name;
    throw Error(ErrorCode::Corrupt,
                fmt::format("column {} of `{}` {}", column, name,
                            zero ? "is zero, so it is the normal of no hyperplane"
                                 : "depends on those before it, so Gram-Schmidt leaves nothing"),
                TensorPlace{name, std::nullopt, source.file_of(tensor_)},
                "columns that still are as training began come in equal pairs");
  }

  std::size_t tensor_;
  std::uint64_t inputs_;
  std::uint64_t rank_;
  bool orthogonal_;
};

void fold_hra(FamilyModule& module) {
  const std::size_t tensor = module.need("hra_u");
  module.check_matrix(tensor);
  module.rank(module.shape(tensor)[1]);
  module.add(UpdateKind::Map, std::make_shared<ReflectionMap>(tensor, module.shape(tensor),
                                                              module.config().flag("apply_GS")));
}

const RegisterFamily registered_hra(
    {.type = "HRA",
     .name = "HRA",
     .reference = "Yuan et al. 2024",
     .update = "W · (I − 2k₁k₁ᵀ) · (I − 2k₂k₂ᵀ) ⋯ with unit vectors k",
     .layers = "linear, convolution in 2 dimensions",
     .tensors = {"hra_u"},
     .fold = fold_hra});

}  // namespace
}  // namespace thorns
