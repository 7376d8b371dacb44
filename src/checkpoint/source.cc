#include "checkpoint/source.h"

#include <algorithm>
#include <vector>

namespace thorns {

std::optional<std::size_t> TensorSource::find(std::string_view name) const {
  const auto all = tensors();
  const auto at = std::lower_bound(
      all.begin(), all.end(), name,
      [](const TensorInfo& info, std::string_view sought) { return info.name < sought; });
  if (at == all.end() || at->name != name) return std::nullopt;
  return static_cast<std::size_t>(at - all.begin());
}

bool TensorSource::same_elements(std::size_t one, std::size_t other) const {
  constexpr std::uint64_t kRun = 1 << 18;
  const TensorInfo& info = tensors()[one];
  if (info.dtype != tensors()[other].dtype || info.shape != tensors()[other].shape) return false;
  const std::size_t size = size_of(info.dtype);
  std::vector<std::byte> a(static_cast<std::size_t>(std::min(kRun, info.elements)) * size);
  std::vector<std::byte> b(a.size());
  for (std::uint64_t first = 0; first < info.elements; first += kRun) {
    const std::size_t bytes =
        static_cast<std::size_t>(std::min(kRun, info.elements - first)) * size;
    read(one, first, std::span(a).first(bytes));
    read(other, first, std::span(b).first(bytes));
    if (!std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(bytes), b.begin())) {
      return false;
    }
  }
  return true;
}

}  // namespace thorns
