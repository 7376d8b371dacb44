#include "checkpoint/tensor_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/convert.h"
#include "base/text.h"

namespace thorns {
namespace {

template <class T>
T element(std::span<const std::byte> bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

template <class T, class Convert>
std::vector<float> converted(std::span<const std::byte> bytes, Convert convert) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = convert(element<T>(bytes, i));
  return values;
}

template <class T>
std::vector<std::int64_t> widened(std::span<const std::byte> bytes) {
  std::vector<std::int64_t> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = element<T>(bytes, i);
  return values;
}

}  // namespace

void TensorReader::fail(const std::string& what, ErrorCode code) const {
  const std::string file = source_->file_of(index_);
  throw Error(code, fmt::format("tensor `{}` of `{}` {}", name(), file, what),
              TensorPlace{name(), std::nullopt, file});
}

void TensorReader::require_type(std::initializer_list<Dtype> types) const {
  if (std::find(types.begin(), types.end(), info().dtype) != types.end()) return;
  std::vector<std::string> names;
  for (const Dtype type : types) names.emplace_back(to_string(type));
  fail(fmt::format("has type {}, its format asks for {}", to_string(info().dtype),
                   list_text(names)));
}

void TensorReader::require_shape(std::span<const std::uint64_t> shape) const {
  if (std::equal(shape.begin(), shape.end(), info().shape.begin(), info().shape.end())) return;
  fail(fmt::format("has shape {}, its format asks for {}", shape_text(info().shape),
                   shape_text(shape)));
}

std::vector<float> TensorReader::floats(std::uint64_t first, std::uint64_t count) const {
  return float_rectangle(first, 1, count, count);
}

std::vector<float> TensorReader::float_rectangle(std::uint64_t first, std::uint64_t rows,
                                                 std::uint64_t width, std::uint64_t stride) const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * width) * size_of(info().dtype));
  read_rectangle(first, rows, width, stride, bytes);
  return numbers(bytes);
}

std::vector<std::int64_t> TensorReader::integers() const {
  require_type({Dtype::I32, Dtype::I64});
  std::vector<std::byte> bytes(static_cast<std::size_t>(info().bytes()));
  source_->read(index_, 0, bytes);
  return info().dtype == Dtype::I32 ? widened<std::int32_t>(bytes) : widened<std::int64_t>(bytes);
}

void TensorReader::read_rectangle(std::uint64_t first, std::uint64_t rows, std::uint64_t width,
                                  std::uint64_t stride, std::span<std::byte> to) const {
  if (width == stride) return source_->read(index_, first, to);
  const std::size_t bytes = static_cast<std::size_t>(width) * size_of(info().dtype);
  for (std::uint64_t row = 0; row < rows; ++row) {
    source_->read(index_, first + row * stride,
                  to.subspan(static_cast<std::size_t>(row) * bytes, bytes));
  }
}

std::vector<float> TensorReader::numbers(std::span<const std::byte> bytes) const {
  switch (info().dtype) {
    case Dtype::F32:
      return converted<float>(bytes, [](float value) { return value; });
    case Dtype::F16:
      return converted<std::uint16_t>(bytes, float_from_half);
    case Dtype::BF16:
      return converted<std::uint16_t>(bytes, float_from_bfloat);
    case Dtype::F8E4M3:
      return converted<std::uint8_t>(bytes, float_from_e4m3);
    case Dtype::F8E5M2:
      return converted<std::uint8_t>(bytes, float_from_e5m2);
    case Dtype::F8E8M0:
      return converted<std::uint8_t>(bytes, float_from_e8m0);
    case Dtype::U8:
      return converted<std::uint8_t>(bytes,
                                     [](std::uint8_t value) { return static_cast<float>(value); });
    case Dtype::I8:
      return converted<std::int8_t>(bytes,
                                    [](std::int8_t value) { return static_cast<float>(value); });
    default:
      fail(fmt::format("has type {}, which no quantised format uses for numbers",
                       to_string(info().dtype)));
  }
}

}  // namespace thorns
