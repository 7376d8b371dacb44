#include "checkpoint/scaled_bytes.h"

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "base/convert.h"
#include "checkpoint/byte_floats.h"

namespace thorns {
namespace {

// The number that each byte stands for.
std::array<double, 256> values_of(Dtype dtype) {
  std::array<double, 256> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(i);
    values[i] = dtype == Dtype::F8E4M3   ? float_from_e4m3(byte)
                : dtype == Dtype::F8E5M2 ? float_from_e5m2(byte)
                                         : static_cast<float>(static_cast<std::int8_t>(byte));
  }
  return values;
}

// Consecutive columns with one scale.
struct Run {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::uint32_t group = 0;
};
std::vector<Run> runs_of(const std::vector<std::uint32_t>& group) {
  std::vector<Run> runs;
  for (std::size_t i = 0; i < group.size(); ++i) {
    if (runs.empty() || runs.back().group != group[i]) runs.push_back({i, i, group[i]});
    runs.back().end = i + 1;
  }
  return runs;
}

// The scales of a part: of consecutive rows and columns.
class PartScales {
 public:
  PartScales(const ScaledBytes& what, const Part& part)
      : dtype_(what.weight.info().dtype),
        part_(part),
        runs_{{0, static_cast<std::size_t>(part.columns), 0}},
        scales_{1.0F} {
    if (!what.scale) return;
    grid_ = &*what.grid;
    window_ = grid_->window(part);
    runs_ = runs_of(window_.group);
    scales_ = read_window(*what.scale, window_);
  }

  // Columns [column, column + columns) of a row of the part, both counted from its first.
  void multiply(std::uint64_t row, std::size_t column, std::size_t columns,
                const std::uint8_t* from, std::byte* to) const {
    const std::size_t above =
        grid_ == nullptr ? 0 : grid_->row_in(window_, part_, row) * window_.columns;
    const std::size_t end = column + columns;
    const auto first = std::partition_point(runs_.begin(), runs_.end(),
                                            [&](const Run& run) { return run.end <= column; });
    for (auto run = first; run != runs_.end() && run->begin < end; ++run) {
      const std::size_t begin = std::max(run->begin, column);
      const std::size_t count = std::min(run->end, end) - begin;
      scale_byte_floats(dtype_, from + (begin - column), count, scales_[above + run->group],
                        to + (begin - column) * sizeof(float));
    }
  }

 private:
  Dtype dtype_;
  Part part_;
  const BlockGrid* grid_ = nullptr;  // null: one scale, 1
  GridWindow window_;
  std::vector<Run> runs_;
  std::vector<float> scales_;
};

class MappedBytes final : public Codes {
 public:
  MappedBytes(const ScaledBytes& what, const Part& part, std::unique_ptr<FilePart> bytes)
      : part_(part), scales_(what, part), bytes_(std::move(bytes)) {}

  void decode(const Part& piece, Floats to) const override {
    const std::uint64_t row = piece.row - part_.row;
    const auto column = static_cast<std::size_t>(piece.column - part_.column);
    const auto columns = static_cast<std::size_t>(piece.columns);
    const auto* const codes = reinterpret_cast<const std::uint8_t*>(bytes_->bytes().data());
    for (std::uint64_t i = 0; i < piece.rows; ++i) {
      scales_.multiply(row + i, column, columns, codes + (row + i) * part_.columns + column,
                       to.data() + i * columns * sizeof(float));
    }
  }
  void require_intact() const override { bytes_->require_intact(); }

 private:
  Part part_;
  PartScales scales_;
  std::unique_ptr<FilePart> bytes_;
};

class Bytes final : public Decoder {
 public:
  explicit Bytes(const ScaledBytes& what)
      : what_(what),
        stack_(stack_of(what_.weight.info().shape)),
        values_(values_of(what_.weight.info().dtype)) {}

  void decode(const Part& part, Floats to) const override {
    if (is_product_of_floats()) return multiply(part, to);
    const auto bytes = what_.weight.rectangle<std::uint8_t>(part.first(stack_), part.rows,
                                                            part.columns, stack_.columns);
    if (!what_.scale) {
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        to.set(i, static_cast<float>(values_[bytes[i]]));
      }
      return;
    }
    const GridWindow window = what_.grid->window(part);
    const std::vector<float> scales = read_window(*what_.scale, window);
    std::vector<double> factors(scales.begin(), scales.end());
    for (double& factor : factors) factor /= what_.divisor;
    std::vector<float> zeros(scales.size());
    if (what_.zero) zeros = read_window(*what_.zero, window);
    std::size_t i = 0;
    for (std::uint64_t row = 0; row < part.rows; ++row) {
      const std::size_t above = what_.grid->row_in(window, part, row) * window.columns;
      for (std::size_t column = 0; column < part.columns; ++column, ++i) {
        const std::size_t at = above + window.group[column];
        // In double 8 bits times 24 are exact; with a divisor, the error is far below float32's.
        to.set(i, static_cast<float>((values_[bytes[i]] - zeros[at]) * factors[at]));
      }
    }
  }

  std::unique_ptr<Codes> map(const Part& part) const override {
    if (!is_product_of_floats()) return nullptr;
    auto bytes = what_.weight.map(part.first(stack_), part.elements());
    if (bytes == nullptr) return nullptr;
    return std::make_unique<MappedBytes>(what_, part, std::move(bytes));
  }

  void will_need(const Part& part) const override {
    what_.weight.will_need(part.first(stack_), part.elements());
  }

 private:
  // One multiplication, which float32 rounds once by itself.
  bool is_product_of_floats() const {
    return what_.weight.info().dtype != Dtype::I8 && !what_.zero && what_.divisor == 1.0;
  }

  void multiply(const Part& part, Floats to) const {
    constexpr std::uint64_t kMostBytes = 1 << 16;  // read at once: they stay in the cache
    const PartScales scales(what_, part);
    const std::uint64_t rows_at_once =
        std::clamp<std::uint64_t>(kMostBytes / part.columns, 1, part.rows);
    const auto bytes = std::make_unique_for_overwrite<std::uint8_t[]>(
        static_cast<std::size_t>(rows_at_once * part.columns));
    const auto columns = static_cast<std::size_t>(part.columns);
    Part some = part;
    for (std::uint64_t row = 0; row < part.rows; ++row) {
      const std::uint64_t ready = row % rows_at_once;
      if (ready == 0) {
        some.row = part.row + row;
        some.rows = std::min(rows_at_once, part.rows - row);
        what_.weight.read_rectangle(some.first(stack_), some.rows, part.columns, stack_.columns,
                                    std::as_writable_bytes(std::span(
                                        bytes.get(), static_cast<std::size_t>(some.elements()))));
      }
      scales.multiply(row, 0, columns, bytes.get() + ready * columns,
                      to.data() + row * columns * sizeof(float));
    }
  }

  ScaledBytes what_;
  Stack stack_;
  std::array<double, 256> values_;
};

}  // namespace

std::unique_ptr<Decoder> decode_scaled_bytes(const ScaledBytes& what) {
  what.weight.require_type({Dtype::F8E4M3, Dtype::F8E5M2, Dtype::I8});
  return std::make_unique<Bytes>(what);
}

}  // namespace thorns
