#include "adapter/lycoris.h"

#include <fmt/format.h>

#include "base/text.h"

namespace thorns {

StoredProduct::StoredProduct(FamilyModule& module, const std::string& a, const std::string& b,
                             const std::string& core)
    : a_(module.need(a)), b_(module.need(b)) {
  if (module.has(core)) core_ = module.need(core);
  module.check_matrix(a_);
  module.check_matrix(b_);
  const std::vector<std::uint64_t>& left = module.shape(a_);
  const std::vector<std::uint64_t>& right = module.shape(b_);
  rank_ = right[0];
  bool fits = left[core_ ? 0 : 1] == rank_;
  rows_ = left[core_ ? 1 : 0];
  columns_ = right[1];
  std::uint64_t core_elements = 0;
  if (core_) {
    const std::vector<std::uint64_t>& shape = module.shape(*core_);
    core_elements = module.info(*core_).elements;
    fits = fits && shape.size() > 2 && shape[0] == rank_ && shape[1] == rank_ && core_elements > 0;
    if (fits) columns_ *= core_elements / (rank_ * rank_);
  }
  if (!fits) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has a {} of shape {} and a {} of shape {}{}, which have no product: "
                              "`{}`",
                              a, shape_text(left), b, shape_text(right),
                              core_ ? fmt::format(" for a {} of shape {}", core,
                                                  shape_text(module.shape(*core_)))
                                    : "",
                              module.info(a_).name),
                  a_);
  }
  numbers_ = 2 * rows_ * rank_ + rank_ * columns_ + core_elements + module.info(b_).elements;
}

std::vector<std::size_t> StoredProduct::tensors() const {
  std::vector<std::size_t> all = {a_, b_};
  if (core_) all.push_back(*core_);
  return all;
}

ThinProduct StoredProduct::load(const TensorSource& source) const {
  const Matrix a = read_matrix(source, a_);
  const Matrix b = read_matrix(source, b_);
  if (!core_) return {a, b};
  // The sum over j first: a matrix of rank x (channels * kernel), by which w_a^T is multiplied.
  const Matrix core = read_matrix(source, *core_);
  const std::uint64_t kernel = core.columns / rank_;
  Matrix inner{rank_, columns_, std::vector<double>(rank_ * columns_)};
  for (std::uint64_t i = 0; i < rank_; ++i) {
    for (std::uint64_t j = 0; j < rank_; ++j) {
      for (std::uint64_t q = 0; q < b.columns; ++q) {
        for (std::uint64_t k = 0; k < kernel; ++k) {
          inner.values[i * columns_ + q * kernel + k] += core(i, j * kernel + k) * b(j, q);
        }
      }
    }
  }
  return {transposed(a), inner};
}

}  // namespace thorns
