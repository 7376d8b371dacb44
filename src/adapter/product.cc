#include "adapter/product.h"

#include <vector>

namespace thorns {

void transpose(std::span<const float> from, std::uint64_t columns, std::span<float> to) {
  const std::uint64_t rows = from.size() / columns;
  for (std::uint64_t i = 0; i < rows; ++i) {
    for (std::uint64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
  }
}

bool ProductChange::fits(const BaseTensor& base) const {
  if (base.shape.size() < 2) return false;
  if (base.shape.size() > 2) {
    return fits_convolutions() && !base.transposed && fits(base.rows(), base.columns());
  }
  return fits(base.shape[base.transposed ? 1 : 0], base.shape[base.transposed ? 0 : 1]);
}

// The factors themselves belong to the engine.
std::uint64_t ProductChange::memory(const BaseTensor& base) const {
  return base.transposed ? rank_ * (base.rows() + base.columns()) * sizeof(float) : 0;
}

void ProductChange::load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
                         std::span<float> v) const {
  if (!base.transposed) return make(source, base, u, v);
  std::vector<float> b(v.size());
  std::vector<float> a(u.size());
  make(source, base, b, a);
  transpose(a, a.size() / rank_, u);
  transpose(b, rank_, v);
}

}  // namespace thorns
