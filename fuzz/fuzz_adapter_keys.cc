// Any line as the name of an adapter's tensor: what it is read as holds together. Never an error:
// what is not understood is Foreign, with a reason.
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

#include "adapter/family.h"
#include "adapter/keys.h"
#include "support/fuzz_parts.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  using Role = thorns::AdapterKey::Role;
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  for (std::string name; std::getline(lines, name);) {
    const thorns::AdapterKey key = thorns::parse_adapter_key(name);
    require((key.role == Role::Foreign) == !key.foreign.empty());
    require((key.role == Role::Family) == !key.tensor.empty());
    std::string_view tensor = key.tensor;
    while (tensor.starts_with(thorns::kNested)) tensor.remove_prefix(thorns::kNested.size());
    require(key.role != Role::Family || thorns::family_of_tensor(tensor) != nullptr);
    require(key.role != Role::Tensor || !key.parameter.empty());
    require(key.module.size() <= name.size() && key.infix.find('.') == std::string::npos);
  }
  return 0;
}
