// A matrix that the families of LyCORIS (LoHa, LoKr) store as a product of smaller tensors. Private
// to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adapter/family.h"
#include "adapter/matrix.h"

namespace thorns {

// Without a core: R = w_a w_b, w_a: rows x rank, w_b: rank x columns. With a core t (Tucker's form,
// for convolutions): t: rank x rank x kernel, w_a: rank x rows, w_b: rank x channels, and
//   R[p, q, k] = sum over i, j of t[i, j, k] w_a[i, p] w_b[j, q]
// which has channels * kernel columns.
class StoredProduct {
 public:
  // `a` and `b` name tensors of the module; `core` does, where the module has it. Corrupt where
  // their shapes have no product.
  StoredProduct(FamilyModule& module, const std::string& a, const std::string& b,
                const std::string& core);

  std::uint64_t rows() const { return rows_; }
  std::uint64_t columns() const { return columns_; }
  std::uint64_t rank() const { return rank_; }
  std::vector<std::uint64_t> shape() const { return {rows_, columns_}; }
  std::vector<std::size_t> tensors() const;
  // Numbers that load() holds, while it works and afterwards, at most.
  std::uint64_t numbers() const { return numbers_; }
  ThinProduct load(const TensorSource& source) const;

 private:
  std::size_t a_;
  std::size_t b_;
  std::optional<std::size_t> core_;
  std::uint64_t rows_ = 0;
  std::uint64_t columns_ = 0;
  std::uint64_t rank_ = 0;
  std::uint64_t numbers_ = 0;
};

}  // namespace thorns
