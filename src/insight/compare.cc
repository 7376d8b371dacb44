#include "insight/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "kernel/kernels.h"
#include "method/method.h"

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

std::optional<double> relative_of(const Sums& sums) {
  if (sums.aa == 0) return std::nullopt;
  return std::sqrt(sums.dd / sums.aa);
}

std::optional<double> angle_of(const Sums& sums) {
  if (sums.aa == 0 || sums.bb == 0) return std::nullopt;
  const double cosine = sums.ab / std::sqrt(sums.aa) / std::sqrt(sums.bb);
  return sums.dd == 0 ? 0 : std::acos(std::clamp(cosine, -1.0, 1.0));
}

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
  diff.norm_a = std::sqrt(sums.aa);
  diff.norm_b = std::sqrt(sums.bb);
  diff.distance = std::sqrt(sums.dd);
  diff.largest = sums.largest;
  diff.relative = relative_of(sums);
  diff.angle = angle_of(sums);
  return diff;
}

namespace {

// Adds up tensors of one name, in the order in which the names first come.
class Groups {
 public:
  void add(const std::string& name, const TensorDiff& tensor) {
    const auto [at, is_new] = index_.try_emplace(name, groups_.size());
    if (is_new) {
      groups_.push_back({name, 0, 0, 0, 0, std::nullopt, std::nullopt, 0});
      sums_.emplace_back();
    }
    DiffGroup& group = groups_[at->second];
    ++group.tensors;
    group.elements += tensor.elements;
    group.differing += tensor.differing;
    if (!tensor.distance) return;
    Sums& sums = sums_[at->second];
    const double a = *tensor.norm_a;
    const double b = *tensor.norm_b;
    sums.aa += a * a;
    sums.bb += b * b;
    sums.ab += tensor.angle ? a * b * std::cos(*tensor.angle) : 0;
    sums.dd += *tensor.distance * *tensor.distance;
    group.largest = std::max(group.largest, *tensor.largest);
  }

  std::vector<DiffGroup> take() {
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      groups_[i].distance = std::sqrt(sums_[i].dd);
      groups_[i].relative = relative_of(sums_[i]);
      groups_[i].angle = angle_of(sums_[i]);
    }
    return std::move(groups_);
  }

 private:
  std::map<std::string, std::size_t> index_;
  std::vector<DiffGroup> groups_;
  std::vector<Sums> sums_;
};

// "model.layers.*.mlp.up_proj.weight"
std::string module_of(const std::string& tensor) {
  std::string module;
  for (std::size_t at = 0; at <= tensor.size();) {
    const std::size_t end = std::min(tensor.find('.', at), tensor.size());
    const std::string part = tensor.substr(at, end - at);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
    module += (at == 0 ? "" : ".") + (number ? "*" : part);
    at = end + 1;
  }
  return module;
}

}  // namespace

std::vector<DiffGroup> by_layer(std::span<const TensorDiff> tensors) {
  std::vector<std::string> names;
  for (const TensorDiff& tensor : tensors) names.push_back(tensor.tensor);
  const LayerStack stack(names);
  std::vector<std::pair<std::size_t, const TensorDiff*>> placed;  // 0 before, 1.. layers, after
  for (const TensorDiff& tensor : tensors) {
    const LayerPosition position = stack.position(tensor.tensor);
    const std::size_t place = position.part == LayerPosition::Before   ? 0
                              : position.part == LayerPosition::Inside ? position.layer + 1
                                                                       : stack.layers() + 1;
    placed.emplace_back(place, &tensor);
  }
  std::stable_sort(placed.begin(), placed.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Groups groups;
  for (const auto& [place, tensor] : placed) {
    groups.add(place == 0               ? "before the layers"
               : place > stack.layers() ? "after the layers"
                                        : fmt::format("layer {}", place - 1),
               *tensor);
  }
  return groups.take();
}

std::vector<DiffGroup> by_module(std::span<const TensorDiff> tensors) {
  Groups groups;
  for (const TensorDiff& tensor : tensors) groups.add(module_of(tensor.tensor), tensor);
  std::vector<DiffGroup> list = groups.take();
  std::sort(list.begin(), list.end(),
            [](const DiffGroup& a, const DiffGroup& b) { return a.name < b.name; });
  return list;
}

}  // namespace thorns
