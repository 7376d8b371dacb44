#include "adapter/rotation.h"

#include <algorithm>
#include <utility>

#include "kernel/kernels.h"

namespace thorns {
namespace {

// Whole rows of `columns` elements; `from` and `to` do not overlap.
void multiply_runs(const Matrices& matrices, std::size_t columns, std::span<const double> from,
                   std::span<double> to) {
  const std::size_t rows = from.size() / columns;
  for (std::size_t at = 0, run = 0; at < columns; at += matrices.size(), ++run) {
    const auto matrix = matrices[matrices.count() == 1 ? 0 : run];
    multiply_rows(from.data() + at, rows, columns, matrix.data(), matrices.size(), to.data() + at);
  }
}

}  // namespace

void make_skew(std::span<double> matrix, std::size_t size, double sign) {
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t j = i; j < size; ++j) {
      const double half = sign * (matrix[i * size + j] - matrix[j * size + i]) / 2;
      matrix[i * size + j] = half;
      matrix[j * size + i] = -half;
    }
  }
}

// (I - Q)(I + Q)^-1 = 2 (I + Q)^-1 - I. The symmetric part of I + Q is I, that of each matrix that
// elimination leaves of it is I and something positive: no pivot is less than 1, none is searched.
void cayley(std::span<double> q, std::size_t size) {
  const auto row = [&](std::size_t i) { return q.data() + i * size; };
  for (std::size_t i = 0; i < size; ++i) row(i)[i] += 1;
  for (std::size_t pivot = 0; pivot < size; ++pivot) {
    double* const above = row(pivot);
    const double inverse = 1 / above[pivot];
    above[pivot] = 1;
    for (std::size_t j = 0; j < size; ++j) above[j] *= inverse;
    for (std::size_t i = 0; i < size; ++i) {
      if (i == pivot) continue;
      double* const other = row(i);
      const double factor = other[pivot];
      other[pivot] = 0;
      for (std::size_t j = 0; j < size; ++j) other[j] -= factor * above[j];
    }
  }
  for (double& number : q) number *= 2;
  for (std::size_t i = 0; i < size; ++i) row(i)[i] -= 1;
}

Rotation::Rotation(std::vector<Step> steps, std::uint64_t columns, std::vector<double> factors)
    : steps_(std::move(steps)),
      columns_(static_cast<std::size_t>(columns)),
      factors_(std::move(factors)) {}

void Rotation::apply(std::uint64_t first, std::span<const double> from,
                     std::span<double> to) const {
  const std::size_t plain = steps_[0].order.empty() ? 1 : 0;
  if (plain == 1) {
    multiply_runs(steps_[0].matrices, columns_, from, to);
  } else {
    std::copy(from.begin(), from.end(), to.begin());
  }
  std::vector<double> ordered(steps_.size() > plain ? columns_ : 0);
  std::vector<double> turned(ordered.size());
  for (std::size_t at = 0; at < to.size(); at += columns_) {
    const auto row = to.subspan(at, columns_);
    for (std::size_t step = plain; step < steps_.size(); ++step) {
      const std::vector<std::size_t>& order = steps_[step].order;
      for (std::size_t k = 0; k < columns_; ++k) ordered[order[k]] = row[k];
      multiply_runs(steps_[step].matrices, columns_, ordered, turned);
      for (std::size_t k = 0; k < columns_; ++k) row[k] = turned[order[k]];
    }
    if (factors_.empty()) continue;
    const double factor = factors_[static_cast<std::size_t>(first / columns_) + at / columns_];
    for (double& element : row) element *= factor;
  }
}

}  // namespace thorns
