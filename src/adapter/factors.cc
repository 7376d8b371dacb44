// load_factors: the two factors of a low-rank update, in float32 and in the base's orientation.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "adapter/adapter.h"
#include "base/checked.h"
#include "base/convert.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kChunk = 16384;  // elements read at a time

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);  // files align tensors as they please
  return value;
}

float decode(Dtype dtype, const std::byte* from) {
  switch (dtype) {
    case Dtype::F32:
      return load<float>(from);
    case Dtype::F16:
      return float_from_half(load<std::uint16_t>(from));
    case Dtype::BF16:
      return float_from_bfloat(load<std::uint16_t>(from));
    case Dtype::F64:
      return static_cast<float>(load<double>(from));
    default:
      throw Error(ErrorCode::Internal,
                  fmt::format("a factor of type {} was not refused", to_string(dtype)));
  }
}

// The factor `tensor`, a matrix whose rows its first dimension counts, into `to`: row-major or, if
// `transposed`, column-major.
void read_matrix(const TensorSource& source, std::size_t tensor, bool transposed,
                 std::span<float> to) {
  const TensorInfo& info = source.tensors()[tensor];
  if (info.shape.size() < 2 || info.shape[0] == 0 || info.elements != to.size()) {
    throw Error(
        ErrorCode::Internal,
        fmt::format("{} numbers were asked for of a factor that has {}", to.size(), info.elements),
        TensorPlace{info.name, std::nullopt, source.file_of(tensor)});
  }
  const std::uint64_t rows = info.shape[0];
  const std::uint64_t columns = info.elements / rows;
  const std::size_t size = size_of(info.dtype);
  std::vector<std::byte> chunk(std::min<std::uint64_t>(kChunk, info.elements) * size);
  std::uint64_t row = 0;
  std::uint64_t column = 0;
  for (std::uint64_t first = 0; first < info.elements; first += kChunk) {
    const std::size_t count = std::min<std::uint64_t>(kChunk, info.elements - first);
    source.read(tensor, first, std::span(chunk).first(count * size));
    for (std::size_t i = 0; i < count; ++i) {
      const float value = decode(info.dtype, chunk.data() + i * size);
      to[transposed ? column * rows + row : first + i] = value;
      if (++column == columns) {
        column = 0;
        ++row;
      }
    }
  }
}

// Whether a matrix is the other one transposed.
bool same_transposed(const TensorSource& source, std::size_t matrix, std::size_t other) {
  const std::vector<std::uint64_t>& shape = source.tensors()[matrix].shape;
  if (shape.size() != 2 || source.tensors()[other].shape != std::vector{shape[1], shape[0]}) {
    return false;
  }
  std::vector<float> left(static_cast<std::size_t>(source.tensors()[matrix].elements));
  std::vector<float> right(left.size());
  read_matrix(source, matrix, true, left);
  read_matrix(source, other, false, right);
  return left == right;
}

}  // namespace

std::uint64_t BaseTensor::elements() const {
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : shape) product *= dimension;  // checked by its source
  return product;
}

std::uint64_t Change::bytes(const TensorSource& source, const BaseTensor& /*base*/) const {
  std::uint64_t bytes = 0;
  for (const std::size_t tensor : tensors()) bytes += source.tensors()[tensor].bytes();
  return bytes;
}

std::vector<std::size_t> Update::tensors() const {
  if (change != nullptr) return change->tensors();
  if (kind == UpdateKind::LowRank) return {first, second};
  return {first};
}

bool same_update(const TensorSource& source, const Update& one, const Update& other) {
  if (one.kind != other.kind || one.scale != other.scale) return false;
  if (one.kind == UpdateKind::LowRank && one.change == nullptr && other.change == nullptr &&
      one.embedding != other.embedding) {
    return same_transposed(source, one.first, other.second) &&
           same_transposed(source, one.second, other.first);
  }
  const std::vector<std::size_t> left = one.tensors();
  const std::vector<std::size_t> right = other.tensors();
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](std::size_t a, std::size_t b) { return source.same_elements(a, b); });
}

void load_factors(const Adapter& adapter, const Update& update, const BaseTensor& base,
                  std::span<float> u, std::span<float> v) {
  if (update.kind != UpdateKind::LowRank) {
    throw Error(ErrorCode::Internal, "only low-rank updates have factors",
                TensorPlace{update.module + "." + update.parameter, std::nullopt, adapter.path()});
  }
  if (const auto* computed = dynamic_cast<const FactorChange*>(update.change.get())) {
    return computed->load(adapter.source(), base, u, v);
  }
  // W is (out, in): B A. W is (in, out): (B A)^T = A^T B^T.
  const std::size_t left = base.transposed ? update.first : update.second;
  const std::size_t right = base.transposed ? update.second : update.first;
  read_matrix(adapter.source(), left, base.transposed, u);
  read_matrix(adapter.source(), right, base.transposed, v);
}

}  // namespace thorns
