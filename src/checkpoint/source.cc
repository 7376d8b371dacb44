#include "checkpoint/source.h"

#include <algorithm>

namespace thorns {

std::optional<std::size_t> TensorSource::find(std::string_view name) const {
  const auto all = tensors();
  const auto at = std::lower_bound(
      all.begin(), all.end(), name,
      [](const TensorInfo& info, std::string_view sought) { return info.name < sought; });
  if (at == all.end() || at->name != name) return std::nullopt;
  return static_cast<std::size_t>(at - all.begin());
}

}  // namespace thorns
