// DoRA (Liu et al. 2024): W' = m / |V| * V with V = W + scale * B A, line by line: the lines are
// what feeds one output, rows of a Linear or a convolution, columns of a Conv1D; of an embedding
// the columns, over the whole vocabulary (as PEFT has it).
#include "adapter/dora.h"

#include <fmt/format.h>

#include "adapter/numbers.h"

namespace thorns {
namespace {

class Magnitudes final : public NormChange {
 public:
  Magnitudes(std::size_t tensor, std::uint64_t count, bool embedding)
      : tensor_(tensor), count_(count), embedding_(embedding) {}

  bool by_column(const BaseTensor& base) const override { return embedding_ || base.transposed; }
  bool fits(const BaseTensor& base) const override {
    if (base.shape.size() < 2) return false;
    return count_ == (by_column(base) ? base.columns() : base.rows());
  }
  std::string expected() const override { return fmt::format("{} outputs", count_); }
  std::vector<std::size_t> tensors() const override { return {tensor_}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return count_ * 4 * sizeof(double);
  }
  std::vector<std::optional<double>> load(const TensorSource& source,
                                          const BaseTensor& /*base*/) const override {
    const std::vector<double> numbers = read_numbers(source, tensor_);
    return {numbers.begin(), numbers.end()};
  }

 private:
  std::size_t tensor_;
  std::uint64_t count_;
  bool embedding_;
};

}  // namespace

std::shared_ptr<const Change> dora_magnitudes(std::size_t tensor, std::uint64_t count,
                                              bool embedding) {
  return std::make_shared<Magnitudes>(tensor, count, embedding);
}

}  // namespace thorns
