// Small matrices of an adapter, and the product of two, in float64. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/source.h"

namespace thorns {

struct Matrix {
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  std::vector<double> values;  // row-major

  double operator()(std::uint64_t row, std::uint64_t column) const {
    return values[row * columns + column];
  }
};

// A stored tensor of any shape: its first dimension counts the rows.
Matrix read_matrix(const TensorSource& source, std::size_t tensor);
Matrix transposed(const Matrix& matrix);

// A B, with A: rows x rank and B: rank x columns, whose elements are computed when they are asked
// for. Immutable: may be called from any thread.
class ThinProduct {
 public:
  ThinProduct(Matrix a, Matrix b) : a_(std::move(a)), b_(std::move(b)) {}

  // Elements [first, first + to.size()), row-major.
  void generate(std::uint64_t first, std::span<double> to) const;
  Matrix whole() const;

 private:
  Matrix a_;
  Matrix b_;
};

}  // namespace thorns
