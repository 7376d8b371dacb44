#include "adapter/matrix.h"

#include <algorithm>

#include "adapter/numbers.h"

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

void ThinProduct::generate(std::uint64_t first, std::span<double> to) const {
  std::fill(to.begin(), to.end(), 0.0);
  while (!to.empty()) {
    const std::uint64_t row = first / b_.columns;
    const std::uint64_t column = first % b_.columns;
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(to.size(), b_.columns - column));
    for (std::uint64_t k = 0; k < b_.rows; ++k) {
      const double factor = a_(row, k);
      const double* const from = b_.values.data() + k * b_.columns + column;
      for (std::size_t i = 0; i < count; ++i) to[i] += factor * from[i];
    }
    first += count;
    to = to.subspan(count);
  }
}

Matrix ThinProduct::whole() const {
  Matrix product{a_.rows, b_.columns, std::vector<double>(a_.rows * b_.columns)};
  generate(0, product.values);
  return product;
}

}  // namespace thorns
