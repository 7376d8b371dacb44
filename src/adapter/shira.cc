// SHiRA (Bhardwaj et al. 2024): W + a sparse matrix, given by the indices and values of its
// elements.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

class Sparse final : public Delta {
 public:
  using Elements = std::vector<std::pair<std::uint64_t, double>>;  // by index in W
  explicit Sparse(Elements elements) : elements_(std::move(elements)) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    std::fill(to.begin(), to.end(), 0.0);
    auto next = std::lower_bound(elements_.begin(), elements_.end(), std::pair(first, -HUGE_VAL));
    for (; next != elements_.end() && next->first < first + to.size(); ++next) {
      to[next->first - first] += next->second;  // an index that comes twice counts twice
    }
  }

 private:
  Elements elements_;
};

class SparseChange final : public DeltaChange {
 public:
  // `indices`: 2 x count, rows and columns.
  SparseChange(std::size_t indices, std::size_t values, std::uint64_t count)
      : indices_(indices), values_(values), count_(count) {}

  bool fits(const BaseTensor& base) const override {
    return !base.transposed && base.shape.size() == 2;
  }
  std::string expected() const override { return "a matrix"; }
  std::vector<std::size_t> tensors() const override { return {indices_, values_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return count_ * (3 * sizeof(double) + sizeof(Sparse::Elements::value_type));
  }
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    const std::vector<std::uint64_t> at = read_indices(source, indices_);
    const std::vector<double> values = read_numbers(source, values_);
    Sparse::Elements elements;
    elements.reserve(count_);
    for (std::uint64_t i = 0; i < count_; ++i) {
      const std::uint64_t row = at[i];
      const std::uint64_t column = at[count_ + i];
      if (row >= base.rows() || column >= base.columns()) {
        const TensorInfo& info = source.tensors()[indices_];
        throw Error(ErrorCode::Corrupt,
                    fmt::format("`{}` names the element ({}, {}) of a weight of shape {}",
                                info.name, row, column, shape_text(base.shape)),
                    TensorPlace{info.name, i, source.file_of(indices_)},
                    "is this the model that the adapter was trained on?");
      }
      elements.emplace_back(row * base.columns() + column, values[i]);
    }
    std::sort(elements.begin(), elements.end());
    return std::make_unique<Sparse>(std::move(elements));
  }

 private:
  std::size_t indices_;
  std::size_t values_;
  std::uint64_t count_;
};

void fold_shira(FamilyModule& module) {
  const std::size_t values = module.need("shira_weight");
  const std::size_t indices = module.need_indices("shira_indices");
  const std::uint64_t count = module.info(values).elements;
  if (module.shape(values).size() != 1 ||
      module.shape(indices) != std::vector<std::uint64_t>{2, count}) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a shira_weight of shape {} for shira_indices of shape {}: `{}`",
                              shape_text(module.shape(values)), shape_text(module.shape(indices)),
                              module.info(values).name),
                  values);
  }
  module.add(UpdateKind::Generate, std::make_shared<SparseChange>(indices, values, count));
}

const RegisterFamily registered_shira({.type = "SHIRA",
                                       .name = "SHiRA",
                                       .reference = "Bhardwaj et al. 2024",
                                       .update = "W + a sparse matrix",
                                       .layers = "linear",
                                       .tensors = {"shira_weight", "shira_indices"},
                                       .fold = fold_shira});

}  // namespace
}  // namespace thorns
