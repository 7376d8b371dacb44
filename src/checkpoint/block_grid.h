// One number for each block of a matrix: the geometry of scales and zero points. Private to this
// room.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/decoder.h"
#include "checkpoint/tensor_reader.h"

namespace thorns {

// The elements that share a number.
struct ScaleBlock {
  static constexpr std::uint64_t kWhole = 0;  // all rows, or all columns, of a matrix
  std::uint64_t rows = kWhole;
  std::uint64_t columns = kWhole;
};

// The part of a grid that belongs to a part of the matrix.
struct GridWindow {
  std::uint64_t first = 0;  // of its first number, row-major in the whole stack of grids
  std::uint64_t row = 0;    // rows [row, row + rows) of the grid
  std::uint64_t rows = 0;
  std::uint64_t column = 0;  // columns [column, column + columns)
  std::uint64_t columns = 0;
  std::uint64_t stride = 0;          // columns of the whole grid
  std::vector<std::uint32_t> group;  // for each column of the part, its column in the window
};

// Blocks at the lower and right edges may be cut short. Immutable; thread-safe.
class BlockGrid {
 public:
  // The first of `candidates` whose grid over `weight` (a shape) has as many numbers, in the same
  // order, as `scale`. Dimensions of one may be left out of the scale's shape, and a single number
  // serves a whole stack. Corrupt, naming both shapes, where none fits.
  BlockGrid(std::span<const std::uint64_t> weight, const TensorReader& scale,
            std::span<const ScaleBlock> candidates);

  // Column c belongs to column index[c] of the grid, instead of c / block columns. Corrupt where an
  // index is outside of the grid.
  void reorder(const TensorReader& index);

  std::uint64_t rows() const { return rows_; }
  std::uint64_t columns() const { return columns_; }
  GridWindow window(const Part& part) const;
  // Which row of `window` belongs to row part.row + `row`.
  std::uint64_t row_in(const GridWindow& window, const Part& part, std::uint64_t row) const {
    return (part.row + row) / block_.rows - window.row;
  }

 private:
  bool fits(std::span<const std::uint64_t> weight, const TensorReader& scale, ScaleBlock block);

  Stack stack_;       // of the weight
  ScaleBlock block_;  // nothing kWhole in it
  std::uint64_t rows_ = 0;
  std::uint64_t columns_ = 0;
  bool shared_ = false;  // one number for all matrices
  std::optional<TensorReader> order_;
};

// The numbers of a window, row-major.
std::vector<float> read_window(const TensorReader& numbers, const GridWindow& window);

// The group of each of `columns` columns, from a tensor of as many integers: each below `groups`,
// else Corrupt.
std::vector<std::uint32_t> read_group_index(const TensorReader& index, std::uint64_t columns,
                                            std::uint64_t groups);

// a / b, rounded up.
constexpr std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

}  // namespace thorns
