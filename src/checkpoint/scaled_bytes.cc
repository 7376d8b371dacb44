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
    std::vector<float> scales = {1.0F};
    GridWindow window;
    std::vector<Run> runs = {{0, static_cast<std::size_t>(part.columns), 0}};
    if (what_.scale) {
      window = what_.grid->window(part);
      scales = read_window(*what_.scale, window);
      runs = runs_of(window.group);
    }
    const std::uint64_t rows_at_once =
        std::clamp<std::uint64_t>(kMostBytes / part.columns, 1, part.rows);
    const auto bytes = std::make_unique_for_overwrite<std::uint8_t[]>(
        static_cast<std::size_t>(rows_at_once * part.columns));
    Part some = part;
    std::byte* at = to.data();
    for (std::uint64_t row = 0; row < part.rows; ++row) {
      const std::uint64_t ready = row % rows_at_once;
      if (ready == 0) {
        some.row = part.row + row;
        some.rows = std::min(rows_at_once, part.rows - row);
        what_.weight.read_rectangle(some.first(stack_), some.rows, part.columns, stack_.columns,
                                    std::as_writable_bytes(std::span(
                                        bytes.get(), static_cast<std::size_t>(some.elements()))));
      }
      const std::uint8_t* const from = bytes.get() + ready * part.columns;
      const std::size_t above =
          what_.scale ? what_.grid->row_in(window, part, row) * window.columns : 0;
      for (const Run& run : runs) {
        scale_byte_floats(what_.weight.info().dtype, from + run.begin, run.end - run.begin,
                          scales[above + run.group], at + run.begin * sizeof(float));
      }
      at += part.columns * sizeof(float);
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
