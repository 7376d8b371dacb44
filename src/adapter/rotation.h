// Matrices that turn runs of a row: what OFT, BOFT and MiSS's "bat" do to a weight. Private to this
// room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "adapter/change.h"

namespace thorns {

// Square matrices of one size, each row-major, one after the other.
class Matrices {
 public:
  Matrices(std::size_t size, std::size_t count) : size_(size), numbers_(count * size * size) {}

  std::size_t size() const { return size_; }
  std::size_t count() const { return numbers_.size() / (size_ * size_); }
  std::span<double> operator[](std::size_t i) { return {numbers_.data() + i * area(), area()}; }
  std::span<const double> operator[](std::size_t i) const {
    return {numbers_.data() + i * area(), area()};
  }
  static std::uint64_t memory(std::uint64_t size, std::uint64_t count) {
    return count * size * size * sizeof(double);
  }

 private:
  std::size_t area() const { return size_ * size_; }

  std::size_t size_;
  std::vector<double> numbers_;
};

// A matrix D becomes the skew-symmetric sign * (D - D^T) / 2.
void make_skew(std::span<double> matrix, std::size_t size, double sign);
// Q, skew-symmetric, becomes the rotation (I - Q)(I + Q)^-1 (Cayley 1846). That of -Q is its
// transpose.
void cayley(std::span<double> q, std::size_t size);

// Rows, each as one row vector x, through one step after the other; then row r times factors[r].
// A step multiplies run i of y, size() elements, by matrix i from the right, where x[k] =
// y[order[k]] before and after; one matrix is that of every run. Without an order, which the first
// step may lack, y is x.
class Rotation final : public RowMap {
 public:
  struct Step {
    Matrices matrices;
    std::vector<std::size_t> order = {};
  };
  // `columns` is a multiple of every size(); no `factors` are ones.
  Rotation(std::vector<Step> steps, std::uint64_t columns, std::vector<double> factors);

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override;

 private:
  std::vector<Step> steps_;
  std::size_t columns_;
  std::vector<double> factors_;
};

}  // namespace thorns
