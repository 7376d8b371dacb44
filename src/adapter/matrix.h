// Small matrices of an adapter in float64, and the product of two. Private to this room.
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

// A B, with A: rows x rank and B: rank x columns, whose elements are computed in float32 when they
// are asked for (kernel/low_rank.cc). Immutable: may be called from any thread.
class ThinProduct {
 public:
  ThinProduct(const Matrix& a, const Matrix& b);

  // Elements [first, first + to.size()), row-major.
  void generate(std::uint64_t first, std::span<double> to) const;
  Matrix whole() const;

 private:
  std::uint64_t rows_;
  std::uint64_t rank_;
  std::uint64_t columns_;
  std::vector<float> a_;
  std::vector<float> packed_b_;
};

}  // namespace thorns
