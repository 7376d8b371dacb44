#include "adapter/numbers.h"

#include "kernel/kernels.h"

namespace thorns {

std::vector<double> read_numbers(const TensorSource& source, std::size_t tensor) {
  const TensorInfo& info = source.tensors()[tensor];
  const auto count = static_cast<std::size_t>(info.elements);
  std::vector<std::byte> bytes(count * size_of(info.dtype));
  source.read(tensor, 0, bytes);
  std::vector<double> numbers(padded(count));
  widen(info.dtype, bytes.data(), count, numbers.data());
  numbers.resize(count);
  return numbers;
}

void read_floats(const TensorSource& source, std::size_t tensor, std::span<float> to) {
  const std::vector<double> numbers = read_numbers(source, tensor);
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(numbers.at(i));
}

}  // namespace thorns
