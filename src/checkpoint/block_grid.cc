#include "checkpoint/block_grid.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace thorns {
namespace {

std::vector<std::uint64_t> without_ones(std::span<const std::uint64_t> shape) {
  std::vector<std::uint64_t> kept;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(kept),
               [](std::uint64_t dim) { return dim != 1; });
  return kept;
}

}  // namespace

BlockGrid::BlockGrid(std::span<const std::uint64_t> weight, const TensorReader& scale,
                     std::span<const ScaleBlock> candidates)
    : stack_(stack_of(weight)) {
  for (const ScaleBlock& block : candidates) {
    if (fits(weight, scale, block)) return;
  }
  scale.fail(fmt::format("has shape {}, which does not fit its weight of shape {}",
                         shape_text(scale.info().shape), shape_text(weight)));
}

bool BlockGrid::fits(std::span<const std::uint64_t> weight, const TensorReader& scale,
                     ScaleBlock block) {
  // A matrix without elements has one empty block.
  block_.rows =
      std::max<std::uint64_t>(1, block.rows == ScaleBlock::kWhole ? stack_.rows : block.rows);
  block_.columns = std::max<std::uint64_t>(
      1, block.columns == ScaleBlock::kWhole ? stack_.columns : block.columns);
  rows_ = divide_up(stack_.rows, block_.rows);
  columns_ = divide_up(stack_.columns, block_.columns);
  shared_ = scale.info().elements == 1 && rows_ == 1 && columns_ == 1;
  if (shared_) return true;
  std::vector<std::uint64_t> grid(weight.begin(),
                                  weight.end() - std::min<std::ptrdiff_t>(std::ssize(weight), 2));
  grid.push_back(rows_);
  grid.push_back(columns_);
  const std::vector<std::uint64_t>& shape = scale.info().shape;
  return shape.size() == grid.size() ? shape == grid : without_ones(shape) == without_ones(grid);
}

void BlockGrid::reorder(const TensorReader& index) {
  read_group_index(index, stack_.columns, columns_);
  order_ = index;
}

GridWindow BlockGrid::window(const Part& part) const {
  GridWindow window;
  window.row = part.row / block_.rows;
  window.rows = (part.row + part.rows - 1) / block_.rows + 1 - window.row;
  window.stride = columns_;
  window.group.resize(static_cast<std::size_t>(part.columns));
  if (order_) {
    window.columns = columns_;
    const auto order = read_group_index(*order_, stack_.columns, columns_);
    std::copy_n(order.begin() + static_cast<std::ptrdiff_t>(part.column), part.columns,
                window.group.begin());
  } else {
    window.column = part.column / block_.columns;
    window.columns = (part.column + part.columns - 1) / block_.columns + 1 - window.column;
    for (std::size_t i = 0; i < window.group.size(); ++i) {
      window.group[i] =
          static_cast<std::uint32_t>((part.column + i) / block_.columns - window.column);
    }
  }
  const std::uint64_t matrix = shared_ ? 0 : part.matrix;
  window.first = (matrix * rows_ + window.row) * columns_ + window.column;
  return window;
}

std::vector<float> read_window(const TensorReader& numbers, const GridWindow& window) {
  return numbers.float_rectangle(window.first, window.rows, window.columns, window.stride);
}

std::vector<std::uint32_t> read_group_index(const TensorReader& index, std::uint64_t columns,
                                            std::uint64_t groups) {
  const std::uint64_t shape[] = {columns};
  index.require_shape(shape);
  const std::vector<std::int64_t> stored = index.integers();
  std::vector<std::uint32_t> group(stored.size());
  for (std::size_t i = 0; i < stored.size(); ++i) {
    if (stored[i] < 0 || static_cast<std::uint64_t>(stored[i]) >= groups) {
      index.fail(fmt::format("puts column {} into group {} of {}", i, stored[i], groups));
    }
    group[i] = static_cast<std::uint32_t>(stored[i]);
  }
  return group;
}

}  // namespace thorns
