#include "adapter/scaled_factors.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernel/kernels.h"

namespace thorns {
namespace {

constexpr std::size_t kRun = 16384;  // elements read at a time

class ScaledRows final : public TensorSource {
 public:
  ScaledRows(std::unique_ptr<TensorSource> source, std::map<std::size_t, std::size_t> scales)
      : source_(std::move(source)), scales_(std::move(scales)) {
    const auto stored = source_->tensors();
    tensors_.assign(stored.begin(), stored.end());
    for (const auto& [matrix, numbers] : scales_) tensors_[matrix].dtype = Dtype::F32;
  }

  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string file_of(std::size_t tensor) const override { return source_->file_of(tensor); }
  void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const override {
    source_->will_need(tensor, first, count);
  }

  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override {
    const auto scale = scales_.find(tensor);
    if (scale == scales_.end()) return source_->read(tensor, first, to);
    const std::uint64_t columns = tensors_[tensor].elements / tensors_[tensor].shape[0];
    for (std::size_t done = 0; done < to.size();) {
      const std::size_t count = std::min(kRun, (to.size() - done) / sizeof(float));
      const std::uint64_t row = first / columns;
      const std::uint64_t rows = (first + count - 1) / columns - row + 1;
      const std::vector<double> numbers = numbers_of(scale->second, row, rows);
      const std::vector<double> values = numbers_of(tensor, first, count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto value = static_cast<float>(values[i] * numbers[(first + i) / columns - row]);
        std::memcpy(to.data() + done + i * sizeof value, &value, sizeof value);
      }
      first += count;
      done += count * sizeof(float);
    }
  }

 private:
  std::vector<double> numbers_of(std::size_t tensor, std::uint64_t first,
                                 std::uint64_t count) const {
    const Dtype dtype = source_->tensors()[tensor].dtype;
    std::vector<std::byte> bytes(count * size_of(dtype));
    source_->read(tensor, first, bytes);
    std::vector<double> numbers(padded(count));
    widen(dtype, bytes.data(), count, numbers.data());
    return numbers;
  }

  std::unique_ptr<TensorSource> source_;
  std::map<std::size_t, std::size_t> scales_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::unique_ptr<TensorSource> scale_rows(std::unique_ptr<TensorSource> source,
                                         const std::map<std::size_t, std::size_t>& scales) {
  return std::make_unique<ScaledRows>(std::move(source), scales);
}

}  // namespace thorns
