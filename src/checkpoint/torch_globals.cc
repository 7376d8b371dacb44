#include "checkpoint/torch_globals.h"

#include <algorithm>
#include <array>

namespace thorns {
namespace {

using Role = TorchRole;

constexpr TorchGlobal storage(std::string_view name, std::size_t size,
                              std::optional<Dtype> dtype = std::nullopt) {
  return {"torch", name, Role::Storage, 0, -1, dtype, size};
}
constexpr TorchGlobal type(std::string_view name, std::optional<Dtype> dtype = std::nullopt) {
  return {"torch", name, Role::ElementType, 0, -1, dtype, 0};
}

constexpr std::array kGlobals = {
    TorchGlobal{"collections", "OrderedDict", Role::OrderedDict, 0, 1},
    TorchGlobal{"torch._utils", "_rebuild_tensor", Role::Tensor1, 4, 4},
    TorchGlobal{"torch._utils", "_rebuild_tensor_v2", Role::Tensor2, 6, 7},
    TorchGlobal{"torch._utils", "_rebuild_tensor_v3", Role::Tensor3, 7, 8},
    TorchGlobal{"torch._utils", "_rebuild_parameter", Role::Parameter1, 3, 3},
    TorchGlobal{"torch._utils", "_rebuild_parameter_with_state", Role::ParameterState, 4, 4},
    TorchGlobal{"torch._tensor", "_rebuild_from_type_v2", Role::FromType, 4, 4},
    TorchGlobal{"torch.nn.parameter", "Parameter", Role::Parameter, 0, 2},
    TorchGlobal{"torch", "Tensor", Role::Tensor},
    TorchGlobal{"torch", "Size", Role::Size, 1, 1},
    TorchGlobal{"torch", "device", Role::Other, 1, 2},
    TorchGlobal{"_codecs", "encode", Role::Other, 1, 2},
    TorchGlobal{"builtins", "set", Role::Other, 0, 1},
    TorchGlobal{"builtins", "bytearray", Role::Other, 0, 2},
    TorchGlobal{"builtins", "complex", Role::Other, 2, 2},

    TorchGlobal{"torch.storage", "UntypedStorage", Role::BytesStorage, 0, -1, std::nullopt, 1},
    TorchGlobal{"torch.storage", "TypedStorage", Role::Other},
    storage("DoubleStorage", 8, Dtype::F64),
    storage("FloatStorage", 4, Dtype::F32),
    storage("HalfStorage", 2, Dtype::F16),
    storage("BFloat16Storage", 2, Dtype::BF16),
    storage("LongStorage", 8, Dtype::I64),
    storage("IntStorage", 4, Dtype::I32),
    storage("ShortStorage", 2, Dtype::I16),
    storage("CharStorage", 1, Dtype::I8),
    storage("ByteStorage", 1, Dtype::U8),
    storage("BoolStorage", 1, Dtype::Bool),
    storage("ComplexDoubleStorage", 16),
    storage("ComplexFloatStorage", 8),
    storage("QInt8Storage", 1),
    storage("QUInt8Storage", 1),
    storage("QInt32Storage", 4),
    storage("QUInt4x2Storage", 1),
    storage("QUInt2x4Storage", 1),

    type("float64", Dtype::F64),
    type("float32", Dtype::F32),
    type("float16", Dtype::F16),
    type("bfloat16", Dtype::BF16),
    type("int64", Dtype::I64),
    type("int32", Dtype::I32),
    type("int16", Dtype::I16),
    type("int8", Dtype::I8),
    type("uint64", Dtype::U64),
    type("uint32", Dtype::U32),
    type("uint16", Dtype::U16),
    type("uint8", Dtype::U8),
    type("bool", Dtype::Bool),
    type("float8_e4m3fn", Dtype::F8E4M3),
    type("float8_e5m2", Dtype::F8E5M2),
    type("float8_e4m3fnuz"),
    type("float8_e5m2fnuz"),
    type("float8_e8m0fnu"),
    type("float4_e2m1fn_x2"),
    type("complex32"),
    type("complex64"),
    type("complex128"),
    type("qint8"),
    type("quint8"),
    type("qint32"),
    type("quint4x2"),
    type("quint2x4"),
    type("bits8"),
    type("bits16"),
    type("bits1x8"),
    type("bits2x4"),
    type("bits4x2"),
};

}  // namespace

const TorchGlobal* find_torch_global(std::string_view module, std::string_view name) {
  // The names of the same things in Python 2, and of storages on a graphics card.
  if (module == "__builtin__") module = "builtins";
  if (module == "torch.cuda" && name.ends_with("Storage")) module = "torch";
  const auto found = std::find_if(kGlobals.begin(), kGlobals.end(), [&](const TorchGlobal& global) {
    return global.name == name && global.module == module;
  });
  return found == kGlobals.end() ? nullptr : &*found;
}

const char* known_refusal(std::string_view module, std::string_view name) {
  if (module == "torch._utils") {
    if (name == "_rebuild_qtensor") return "a quantised tensor, which cannot be merged";
    if (name == "_rebuild_sparse_tensor") return "a sparse tensor, which cannot be merged";
    if (name.starts_with("_rebuild_meta_tensor")) return "a tensor without numbers (meta device)";
    if (name.starts_with("_rebuild_")) return "a kind of tensor that thorns does not know";
  }
  if (module.starts_with("torch.nn.modules") || module.starts_with("transformers.models")) {
    return "a whole model as Python objects; save its state_dict() instead";
  }
  return "";
}

}  // namespace thorns
