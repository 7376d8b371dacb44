#include "insight/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "kernel/kernels.h"

namespace thorns {
namespace {

constexpr std::uint64_t kRun = std::uint64_t{1} << 16;  // elements

struct Sums {
  double aa = 0;
  double ab = 0;
  double bb = 0;
  double dd = 0;
  double largest = 0;
  std::uint64_t differing = 0;

  void add(double a, double b) {
    if (!(a == b || (std::isnan(a) && std::isnan(b)))) ++differing;
    if (!std::isfinite(a)) a = 0;
    if (!std::isfinite(b)) b = 0;
    const double d = b - a;
    aa += a * a;
    ab += a * b;
    bb += b * b;
    dd += d * d;
    largest = std::max(largest, std::abs(d));
  }
};

}  // namespace

TensorDiff compare_tensors(const TensorSource& a, std::size_t in_a, const TensorSource& b,
                           std::size_t in_b) {
  const TensorInfo& left = a.tensors()[in_a];
  const TensorInfo& right = b.tensors()[in_b];
  TensorDiff diff;
  diff.tensor = left.name;
  diff.dtype_a = to_string(left.dtype);
  diff.dtype_b = to_string(right.dtype);
  diff.elements = left.elements;
  diff.same_bytes = left.dtype == right.dtype;
  const bool numbers = is_blendable(left.dtype) && is_blendable(right.dtype);
  const std::size_t width_a = size_of(left.dtype);
  const std::size_t width_b = size_of(right.dtype);
  std::vector<std::byte> bytes_a(kRun * width_a);
  std::vector<std::byte> bytes_b(kRun * width_b);
  std::vector<double> values_a(numbers ? kRun : 0);
  std::vector<double> values_b(values_a.size());
  Sums sums;
  for (std::uint64_t first = 0; first < left.elements; first += kRun) {
    const auto count = static_cast<std::size_t>(std::min(kRun, left.elements - first));
    a.read(in_a, first, std::span(bytes_a).first(count * width_a));
    b.read(in_b, first, std::span(bytes_b).first(count * width_b));
    const bool same = left.dtype == right.dtype &&
                      std::memcmp(bytes_a.data(), bytes_b.data(), count * width_a) == 0;
    diff.same_bytes = diff.same_bytes && same;
    if (!numbers) {
      if (same) continue;
      for (std::size_t i = 0; i < count; ++i) {
        const bool equal =
            width_a == width_b &&
            std::memcmp(bytes_a.data() + i * width_a, bytes_b.data() + i * width_b, width_a) == 0;
        sums.differing += equal && left.dtype == right.dtype ? 0 : 1;
      }
      continue;
    }
    widen(left.dtype, bytes_a.data(), count, values_a.data());
    widen(right.dtype, bytes_b.data(), count, values_b.data());
    for (std::size_t i = 0; i < count; ++i) sums.add(values_a[i], values_b[i]);
  }
  diff.differing = sums.differing;
  if (!numbers) return diff;
  diff.distance = std::sqrt(sums.dd);
  diff.largest = sums.largest;
  if (sums.aa > 0) diff.relative = std::sqrt(sums.dd / sums.aa);
  if (sums.aa > 0 && sums.bb > 0) {
    const double cosine = sums.ab / std::sqrt(sums.aa) / std::sqrt(sums.bb);
    diff.angle = sums.dd == 0 ? 0 : std::acos(std::clamp(cosine, -1.0, 1.0));
  }
  return diff;
}

}  // namespace thorns
