#include "checkpoint/scaled_bytes.h"

#include "base/convert.h"

namespace thorns {
namespace {

// The number that each byte stands for.
std::array<double, 256> values_of(Dtype dtype) {
  std::array<double, 256> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(i);
    values[i] = dtype == Dtype::F8E4M3   ? float_from_e4m3(byte)
                : dtype == Dtype::F8E5M2 ? float_from_e5m2(byte)
                                         : static_cast<std::int8_t>(byte);
  }
  return values;
}

class Bytes final : public Decoder {
 public:
  explicit Bytes(ScaledBytes what)
      : what_(std::move(what)),
        stack_(stack_of(what_.weight.info().shape)),
        values_(values_of(what_.weight.info().dtype)) {}

  void decode(const Part& part, Floats to) const override {
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
  ScaledBytes what_;
  Stack stack_;
  std::array<double, 256> values_;
};

}  // namespace

std::unique_ptr<Decoder> decode_scaled_bytes(ScaledBytes what) {
  what.weight.require_type({Dtype::F8E4M3, Dtype::F8E5M2, Dtype::I8});
  return std::make_unique<Bytes>(std::move(what));
}

}  // namespace thorns
