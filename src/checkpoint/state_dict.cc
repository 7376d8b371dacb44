#include "checkpoint/state_dict.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "base/text.h"
#include "checkpoint/stored_tensor.h"

namespace thorns {
namespace {

using Kind = PickleValue::Kind;
using Role = TorchRole;

constexpr int kMostWrappers = 4;  // dicts around the state dict; layers around a tensor
// Of a tensor with more elements than its storage has. Real ones are masks and tables.
constexpr std::uint64_t kMostExpanded = std::uint64_t{1} << 31;
constexpr std::size_t kMostEntries = 1'000'000;
constexpr std::array<std::string_view, 3> kWrappers = {"state_dict", "model", "module"};
constexpr const char* kOriginalType = "use the checkpoint in its original 16-bit or 32-bit type";

std::string type_name(const TorchGlobal& type) {
  return fmt::format("{}.{}", type.module, type.name);
}

// A part of a storage that a tensor counts its elements from.
struct StoragePart {
  std::size_t storage = 0;
  std::uint64_t begin = 0;  // in elements of the storage
  std::uint64_t count = 0;
};

class StateDictReader {
 public:
  explicit StateDictReader(const Pickle& pickle) : pickle_(pickle) {}

  StateDict read() {
    read_storages();
    const PickleValue& dict = find_dict();
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& key = pickle_.item(dict, i);
      const PickleValue& value = pickle_.item(dict, i + 1);
      if (key.kind != Kind::Text) {
        refuse(key, fmt::format("{} stands where a tensor's name should", kind_name(key.kind)));
      }
      if (!is_utf8(key.text)) refuse(key, "the name of a tensor is not UTF-8");
      if (!names.insert(key.text).second) {
        refuse(key, fmt::format("the tensor name `{}` stands twice", key.text));
      }
      if (value.kind == Kind::None) continue;  // a part of a module that is not there
      name_ = &key.text;
      if (state_.tensors.size() == kMostEntries) {
        refuse(value, fmt::format("more than {} tensors", kMostEntries), ErrorCode::Unsupported);
      }
      state_.tensors.push_back(tensor(value, 0));
    }
    if (state_.tensors.empty()) refuse(dict, "it holds no tensors");
    return std::move(state_);
  }

 private:
  [[noreturn]] void refuse(const PickleValue& value, const std::string& why,
                           ErrorCode code = ErrorCode::Corrupt,
                           const std::string& hint = {}) const {
    pickle_.refuse(value, why, code, hint);
  }
  // As refuse, naming the tensor at hand.
  [[noreturn]] void refuse_tensor(const PickleValue& value, const std::string& why,
                                  ErrorCode code = ErrorCode::Corrupt,
                                  const std::string& hint = {}) const {
    refuse(value, fmt::format("tensor `{}` {}", *name_, why), code, hint);
  }

  // ---- the dict

  static bool makes_tensor(Role role) {
    switch (role) {
      case Role::Parameter:
      case Role::Tensor1:
      case Role::Tensor2:
      case Role::Tensor3:
      case Role::Parameter1:
      case Role::ParameterState:
      case Role::FromType:
        return true;
      default:
        return false;
    }
  }
  bool is_tensor(const PickleValue& value) const {
    return value.kind == Kind::Call && makes_tensor(pickle_.item(value, 0).global->role);
  }

  const PickleValue& find_dict() const {
    const PickleValue* dict = &pickle_[pickle_.root];
    for (int depth = 0; depth < kMostWrappers; ++depth) {
      if (dict->kind != Kind::Dict) {
        refuse(*dict,
               fmt::format("it holds {}, expected a dict of tensors by name",
                           is_tensor(*dict) ? "a tensor" : kind_name(dict->kind)),
               ErrorCode::Unsupported, "save the model's state_dict()");
      }
      const PickleValue* const inner = wrapped(*dict);
      if (inner == nullptr) return *dict;
      dict = inner;
    }
    refuse(*dict, "its state dict lies too deep in other dicts", ErrorCode::Unsupported);
  }

  // The state dict that a trainer put into a dict beside its own affairs; nullptr where the dict
  // is one itself.
  const PickleValue* wrapped(const PickleValue& dict) const {
    const PickleValue* inner = nullptr;
    std::string_view inner_name;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& key = pickle_.item(dict, i);
      const PickleValue& value = pickle_.item(dict, i + 1);
      if (is_tensor(value)) return nullptr;
      if (key.kind != Kind::Text || value.kind != Kind::Dict) continue;
      if (std::find(kWrappers.begin(), kWrappers.end(), key.text) == kWrappers.end()) continue;
      if (inner != nullptr) {
        refuse(key,
               fmt::format("it holds both a `{}` and a `{}`, and either may be the model",
                           inner_name, key.text),
               ErrorCode::Unsupported, "save the one that is meant in a file of its own");
      }
      inner = &value;
      inner_name = key.text;
    }
    return inner;
  }

  // ---- storages

  // All of the pickle, those outside the state dict, too: the legacy format needs their sizes.
  void read_storages() {
    std::map<std::string_view, std::size_t> by_key;
    for (std::size_t id = 0; id < pickle_.values.size(); ++id) {
      const PickleValue& value = pickle_.values[id];
      if (value.kind != Kind::Persistent) continue;
      TorchStorage storage = read_storage(value);
      const auto [known, added] =
          by_key.try_emplace(pickle_.item(pickle_.item(value, 0), 2).text, state_.storages.size());
      if (added) {
        state_.storages.push_back(std::move(storage));
      } else if (const TorchStorage& before = state_.storages[known->second];
                 before.type != storage.type || before.elements != storage.elements) {
        refuse(value, fmt::format("storage {} is {} elements of {} here and {} of {} before",
                                  storage.key, storage.elements, type_name(*storage.type),
                                  before.elements, type_name(*before.type)));
      }
      storage_of_.emplace(static_cast<PickleId>(id), known->second);
    }
  }

  // ('storage', class, key, location, elements), in the legacy format followed by None or a view.
  TorchStorage read_storage(const PickleValue& value) const {
    const PickleValue& tuple = pickle_.item(value, 0);
    const auto part = [&](std::size_t i) -> const PickleValue& { return pickle_.item(tuple, i); };
    if (!tuple.items.empty() && part(0).kind == Kind::Text && part(0).text == "module") {
      refuse(value, "it holds a whole model as Python objects", ErrorCode::Unsupported,
             "save the model's state_dict()");
    }
    if ((tuple.items.size() != 5 && tuple.items.size() != 6) || part(0).kind != Kind::Text ||
        part(0).text != "storage") {
      refuse(value, "an outside reference is none to a storage");
    }
    TorchStorage storage;
    storage.at = value.at;
    const TorchGlobal* const type = part(1).global;
    if (type == nullptr || (type->role != Role::Storage && type->role != Role::BytesStorage)) {
      refuse(value, "the type of a storage is none");
    }
    storage.type = type;
    constexpr std::size_t kMostDigits = 32;
    const std::string& key = part(2).text;
    if (part(2).kind != Kind::Text || key.empty() || key.size() > kMostDigits ||
        key.find_first_not_of("0123456789") != key.npos) {
      refuse(value, "the key of a storage is not a number in digits");
    }
    storage.key = key;
    if (part(3).kind != Kind::Text) refuse(value, "the device of a storage is no text");
    storage.elements = count(part(4), "the size of a storage");
    if (!checked_mul(storage.elements, type->element_size)) {
      refuse(value, fmt::format("storage {} is too large to count", storage.key));
    }
    return storage;
  }

  StoragePart storage_part(const PickleValue& value, PickleId id) const {
    if (value.kind != Kind::Persistent) {
      refuse_tensor(value, fmt::format("lies in {}, expected a storage", kind_name(value.kind)));
    }
    StoragePart part;
    part.storage = storage_of_.at(id);
    part.count = state_.storages[part.storage].elements;
    const PickleValue& tuple = pickle_.item(value, 0);
    if (tuple.items.size() < 6 || pickle_.item(tuple, 5).kind == Kind::None) return part;
    // (key of the view, its first element, its elements)
    const PickleValue& view = pickle_.item(tuple, 5);
    if (view.kind != Kind::Tuple || view.items.size() != 3) {
      refuse_tensor(value, "lies in a view of a storage that is not described");
    }
    part.begin = count(pickle_.item(view, 1), "the offset of a view");
    const std::uint64_t elements = count(pickle_.item(view, 2), "the size of a view");
    if (part.begin > part.count || elements > part.count - part.begin) {
      refuse_tensor(value, "lies in a view that goes beyond its storage");
    }
    part.count = elements;
    return part;
  }

  // ---- tensors

  std::uint64_t count(const PickleValue& value, const char* what) const {
    if (value.kind != Kind::Int || value.number < 0) {
      refuse(value, fmt::format("{} is not a whole number from 0 to 2^63 - 1", what));
    }
    return static_cast<std::uint64_t>(value.number);
  }

  std::vector<std::uint64_t> counts(const PickleValue& given, const char* what) const {
    const PickleValue* list = &given;
    if (list->kind == Kind::Call && pickle_.item(*list, 0).global->role == Role::Size) {
      list = &pickle_.item(*list, 1);
    }
    if (list->kind != Kind::Tuple && list->kind != Kind::List) {
      refuse_tensor(given, fmt::format("has {} that is no tuple", what));
    }
    if (list->items.size() > kMostDimensions) {
      refuse_tensor(given, fmt::format("has more than {} dimensions", kMostDimensions));
    }
    std::vector<std::uint64_t> numbers;
    for (const PickleId id : list->items) {
      numbers.push_back(count(pickle_[id], "a size or stride"));
    }
    return numbers;
  }

  TorchTensor tensor(const PickleValue& value, int depth) const {
    if (value.kind != Kind::Call) {
      refuse(
          value,
          fmt::format("`{}` of its state dict is {}, not a tensor", *name_, kind_name(value.kind)),
          ErrorCode::Unsupported);
    }
    return tensor(value, *pickle_.item(value, 0).global, std::span(value.items).subspan(1), depth);
  }

  // `made` is called with `arguments` by `value`.
  TorchTensor tensor(const PickleValue& value, const TorchGlobal& made,
                     std::span<const PickleId> arguments, int depth) const {
    if (depth == kMostWrappers) refuse_tensor(value, "is wrapped too often");
    const auto argument = [&](std::size_t i) -> const PickleValue& {
      return pickle_[arguments[i]];
    };
    switch (made.role) {
      case Role::Tensor1:
      case Role::Tensor2:
      case Role::Tensor3:
        return rebuilt(value, made, arguments);
      case Role::Parameter:
        if (arguments.empty()) refuse_tensor(value, "is a parameter without numbers");
        [[fallthrough]];
      case Role::Parameter1:
      case Role::ParameterState:
        return tensor(argument(0), depth + 1);
      case Role::FromType: {  // function, type, its arguments, attributes
        const PickleValue& function = argument(0);
        const PickleValue& type = argument(1);
        const PickleValue& inner = argument(2);
        if (function.kind != Kind::Global || inner.kind != Kind::Tuple ||
            !makes_tensor(function.global->role)) {
          refuse_tensor(value, "is made by something that makes no tensors");
        }
        if (type.kind != Kind::Global ||
            (type.global->role != Role::Tensor && type.global->role != Role::Parameter)) {
          refuse_tensor(value, "is of a type that is no tensor's");
        }
        if (std::cmp_less(inner.items.size(), function.global->fewest) ||
            std::cmp_greater(inner.items.size(), function.global->most)) {
          refuse_tensor(value, fmt::format("is made by `{}` of {} arguments",
                                           type_name(*function.global), inner.items.size()));
        }
        return tensor(value, *function.global, inner.items, depth + 1);
      }
      default:
        refuse(value,
               fmt::format("`{}` of its state dict is made by `{}`, not a tensor", *name_,
                           type_name(made)),
               ErrorCode::Unsupported);
    }
  }

  // (storage, offset, size, stride), version 2 with requires_grad, hooks and perhaps metadata,
  // version 3 with the element type before the metadata.
  TorchTensor rebuilt(const PickleValue& value, const TorchGlobal& made,
                      std::span<const PickleId> arguments) const {
    const auto argument = [&](std::size_t i) -> const PickleValue& {
      return pickle_[arguments[i]];
    };
    const StoragePart part = storage_part(argument(0), arguments[0]);
    const TorchGlobal& stored = *state_.storages[part.storage].type;
    const std::size_t metadata = made.role == Role::Tensor3 ? 7 : 6;
    const TorchGlobal* type = &stored;
    if (made.role != Role::Tensor1) {
      if (argument(4).kind != Kind::Bool) refuse_tensor(value, "has an odd requires_grad");
      if (argument(5).kind != Kind::Dict && argument(5).kind != Kind::None) {
        refuse_tensor(value, "has odd hooks");
      }
    }
    if (made.role == Role::Tensor3) {
      type = argument(6).global;
      if (type == nullptr || type->role != Role::ElementType) {
        refuse_tensor(argument(6), "has no type of elements");
      }
    }
    if (arguments.size() > metadata) check_metadata(argument(metadata));
    if (!type->dtype) {
      refuse_tensor(value,
                    fmt::format("is of type `{}`, which thorns cannot merge", type_name(*type)),
                    ErrorCode::Unsupported, kOriginalType);
    }

    TorchTensor tensor;
    tensor.info.name = *name_;
    tensor.info.dtype = *type->dtype;
    tensor.info.shape = counts(argument(2), "a shape");
    tensor.strides = counts(argument(3), "a list of strides");
    tensor.storage = part.storage;
    const std::uint64_t offset = count(argument(1), "the offset of a tensor");
    if (tensor.strides.size() != tensor.info.shape.size()) {
      refuse_tensor(value, fmt::format("has {} dimensions and {} strides", tensor.info.shape.size(),
                                       tensor.strides.size()));
    }
    const auto elements = checked_product(tensor.info.shape);
    const std::size_t size = size_of(tensor.info.dtype);
    if (!elements || !checked_mul(*elements, size)) {
      refuse_tensor(
          value, fmt::format("of shape {} is too large to count", shape_text(tensor.info.shape)));
    }
    tensor.info.elements = *elements;
    // The part in elements of the tensor; a storage of bytes holds any type.
    const std::uint64_t capacity = part.count * stored.element_size / size;
    check_extent(value, tensor, offset, capacity);
    tensor.first_byte = part.begin * stored.element_size + offset * size;
    return tensor;
  }

  // Complex and negated views say so here; their storage holds other numbers than the tensor.
  void check_metadata(const PickleValue& metadata) const {
    if (metadata.kind == Kind::None) return;
    if (metadata.kind != Kind::Dict) refuse_tensor(metadata, "has odd metadata");
    for (std::size_t i = 1; i < metadata.items.size(); i += 2) {
      const PickleValue& flag = pickle_.item(metadata, i);
      if (flag.kind == Kind::Bool && flag.number == 0) continue;
      refuse_tensor(metadata, "is a view that negates or conjugates its storage",
                    ErrorCode::Unsupported, "save a clone() of it");
    }
  }

  void check_extent(const PickleValue& value, const TorchTensor& tensor, std::uint64_t offset,
                    std::uint64_t capacity) const {
    const TensorInfo& info = tensor.info;
    std::optional<std::uint64_t> last = offset;  // element of the storage
    if (info.elements == 0) {
      if (offset > capacity) last = std::nullopt;
    } else {
      for (std::size_t d = 0; last && d < info.shape.size(); ++d) {
        const auto extent = checked_mul(info.shape[d] - 1, tensor.strides[d]);
        last = extent ? checked_add(*last, *extent) : std::nullopt;
      }
      if (last && *last >= capacity) last = std::nullopt;
    }
    if (!last) {
      refuse_tensor(value, fmt::format("of shape {} goes beyond its storage of {} elements",
                                       shape_text(info.shape), capacity));
    }
    if (info.elements > capacity && info.elements > kMostExpanded) {
      refuse_tensor(value,
                    fmt::format("of shape {} is expanded from a storage of only {} elements",
                                shape_text(info.shape), capacity),
                    ErrorCode::Unsupported);
    }
  }

  const Pickle& pickle_;
  StateDict state_;
  std::map<PickleId, std::size_t> storage_of_;  // references -> state_.storages
  const std::string* name_ = nullptr;           // of the tensor at hand
};

}  // namespace

StateDict read_state_dict(const Pickle& pickle) { return StateDictReader(pickle).read(); }

}  // namespace thorns
