#include "adapter/matrix.h"

#include <algorithm>

#include "adapter/numbers.h"
#include "kernel/kernels.h"

namespace thorns {

Matrix read_matrix(const TensorSource& source, std::size_t tensor) {
  const TensorInfo& info = source.tensors()[tensor];
  Matrix matrix;
  matrix.rows = info.shape.at(0);
  matrix.columns = info.elements / matrix.rows;
  matrix.values = read_numbers(source, tensor);
  return matrix;
}

Matrix transposed(const Matrix& matrix) {
  Matrix turned{matrix.columns, matrix.rows, std::vector<double>(matrix.values.size())};
  for (std::uint64_t i = 0; i < matrix.rows; ++i) {
    for (std::uint64_t j = 0; j < matrix.columns; ++j) {
      turned.values[j * matrix.rows + i] = matrix(i, j);
    }
  }
  return turned;
}

ThinProduct::ThinProduct(const Matrix& a, const Matrix& b)
    : rows_(a.rows),
      rank_(b.rows),
      columns_(b.columns),
      a_(a.values.begin(), a.values.end()),
      packed_b_(packed_size(b.rows, b.columns)) {
  const std::vector<float> rows(b.values.begin(), b.values.end());
  pack_panels(rows.data(), rank_, columns_, packed_b_.data());
}

void ThinProduct::generate(std::uint64_t first, std::span<double> to) const {
  std::vector<float> product(to.size());
  low_rank(a_.data(), packed_b_.data(), rank_, columns_, first, to.size(), product.data());
  std::copy(product.begin(), product.end(), to.begin());
}

Matrix ThinProduct::whole() const {
  Matrix product{rows_, columns_, std::vector<double>(rows_ * columns_)};
  generate(0, product.values);
  return product;
}

}  // namespace thorns
