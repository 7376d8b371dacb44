// The Python names that may stand in the pickle of a PyTorch checkpoint, and what they mean to
// thorns. The list is short and closed; nothing is ever looked up in a Python. Private to this
// room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "thorns/dtype.h"

namespace thorns {

enum class TorchRole : std::uint8_t {
  OrderedDict,
  Storage,         // a class of storages of one element type
  BytesStorage,    // one of storages without a type
  ElementType,     // torch.float16
  Tensor,          // the class, not a tensor
  Parameter,       // the class; called as well, in old files
  Size,            // torch.Size
  Tensor1,         // _rebuild_tensor
  Tensor2,         // _rebuild_tensor_v2
  Tensor3,         // _rebuild_tensor_v3
  Parameter1,      // _rebuild_parameter
  ParameterState,  // _rebuild_parameter_with_state
  FromType,        // _rebuild_from_type_v2
  Other,           // makes something harmless that is no tensor: torch.device, set, bytearray, ...
};

struct TorchGlobal {
  std::string_view module;  // as Python 3 spells it
  std::string_view name;
  TorchRole role = TorchRole::Other;
  // How many arguments it may be called with; none at all where `most` is negative.
  int fewest = 0;
  int most = -1;
  // Storage and ElementType: the type, or nullopt for one that thorns does not know.
  std::optional<Dtype> dtype = std::nullopt;
  std::size_t element_size = 0;  // Storage, BytesStorage
};

// nullptr for every name that is not on the list. Lives for ever.
const TorchGlobal* find_torch_global(std::string_view module, std::string_view name);

// Why a name that is not on the list is refused, where more can be said than that; else empty.
const char* known_refusal(std::string_view module, std::string_view name);

}  // namespace thorns
