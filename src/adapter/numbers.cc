#include "adapter/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kernel/kernels.h"
#include "thorns/error.h"

namespace thorns {
namespace {

template <typename Integer>
std::vector<double> read_integers(const TensorSource& source, std::size_t tensor) {
  const auto count = static_cast<std::size_t>(source.tensors()[tensor].elements);
  std::vector<std::byte> bytes(count * sizeof(Integer));
  source.read(tensor, 0, bytes);
  std::vector<double> numbers(count);
  for (std::size_t i = 0; i < count; ++i) {
    Integer integer;
    std::memcpy(&integer, bytes.data() + i * sizeof integer, sizeof integer);
    numbers[i] = static_cast<double>(integer);
  }
  return numbers;
}

std::vector<double> read_any(const TensorSource& source, std::size_t tensor) {
  switch (source.tensors()[tensor].dtype) {
    case Dtype::U8:
      return read_integers<std::uint8_t>(source, tensor);
    case Dtype::I8:
      return read_integers<std::int8_t>(source, tensor);
    case Dtype::I16:
      return read_integers<std::int16_t>(source, tensor);
    case Dtype::I32:
      return read_integers<std::int32_t>(source, tensor);
    case Dtype::I64:
      return read_integers<std::int64_t>(source, tensor);
    default:
      return read_numbers(source, tensor);
  }
}

}  // namespace

std::vector<double> read_numbers(const TensorSource& source, std::size_t tensor,
                                 std::uint64_t first, std::size_t count) {
  const Dtype dtype = source.tensors()[tensor].dtype;
  std::vector<std::byte> bytes(count * size_of(dtype));
  source.read(tensor, first, bytes);
  std::vector<double> numbers(padded(count));
  widen(dtype, bytes.data(), count, numbers.data());
  numbers.resize(count);
  return numbers;
}

std::vector<double> read_numbers(const TensorSource& source, std::size_t tensor) {
  return read_numbers(source, tensor, 0,
                      static_cast<std::size_t>(source.tensors()[tensor].elements));
}

void read_floats(const TensorSource& source, std::size_t tensor, std::span<float> to,
                 std::uint64_t first) {
  constexpr std::size_t kRun = std::size_t{1} << 14;  // elements held at a time
  while (!to.empty()) {
    const std::size_t count = std::min(kRun, to.size());
    const std::vector<double> numbers = read_numbers(source, tensor, first, count);
    for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<float>(numbers[i]);
    to = to.subspan(count);
    first += count;
  }
}

bool holds_indices(Dtype dtype) {
  return is_blendable(dtype) || dtype == Dtype::U8 || dtype == Dtype::I8 || dtype == Dtype::I16 ||
         dtype == Dtype::I32 || dtype == Dtype::I64;
}

std::vector<std::uint64_t> read_indices(const TensorSource& source, std::size_t tensor) {
  constexpr double kMost = 9007199254740992.0;  // 2^53: whole numbers are exact below it
  const std::vector<double> numbers = read_any(source, tensor);
  std::vector<std::uint64_t> indices(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    // The order of the comparisons keeps NaN out of the conversion.
    if (numbers[i] >= 0 && numbers[i] < kMost) indices[i] = static_cast<std::uint64_t>(numbers[i]);
    if (numbers[i] == static_cast<double>(indices[i]) && numbers[i] < kMost) continue;
    const TensorInfo& info = source.tensors()[tensor];
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` holds {}, which is no index", info.name, numbers[i]),
                TensorPlace{info.name, i, source.file_of(tensor)});
  }
  return indices;
}

}  // namespace thorns
