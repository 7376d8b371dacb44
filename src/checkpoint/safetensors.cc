#include "checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/checked.h"
#include "base/text.h"
#include "checkpoint/hints.h"
#include "checkpoint/json_events.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // the reference reader's limit, too
constexpr std::size_t kMostTensors = 1'000'000;
constexpr std::size_t kMostHeaderDepth = 8;  // the format itself needs 3
constexpr std::uint64_t kLengthBytes = 8;

// Element types of the format that thorns cannot represent, but must know to judge a file.
struct ForeignType {
  const char* name;
  std::uint64_t bits;
};
constexpr std::array<ForeignType, 6> kForeignTypes = {{{"F4", 4},
                                                       {"F6_E2M3", 6},
                                                       {"F6_E3M2", 6},
                                                       {"F8_E4M3FNUZ", 8},
                                                       {"F8_E5M2FNUZ", 8},
                                                       {"C64", 64}}};

struct Pending {
  StoredTensor entry;
  const ForeignType* foreign = nullptr;
  std::uint64_t begin = 0;  // data_offsets
  std::uint64_t end = 0;
  std::uint64_t at = 0;  // where its name stands in the file

  std::uint64_t bits() const {
    return foreign != nullptr ? foreign->bits : 8 * size_of(entry.info.dtype);
  }
};

[[noreturn]] void refuse(const std::string& path, std::uint64_t offset, const std::string& why,
                         const std::string& hint = {}) {
  throw Error(ErrorCode::Corrupt,
              fmt::format("`{}` is not a valid safetensors file: {}", path, why),
              FilePlace{path, offset}, hint);
}

// Collects the entries of a header; checks the form of each, not how they fit together.
class HeaderEvents final : public JsonEvents {
 public:
  explicit HeaderEvents(const std::string& path) : path_(path) {}

  std::vector<Pending> tensors;
  std::map<std::string, std::string> metadata;

  void begin_object() override {
    if (skipping()) return skip_deeper();
    switch (spot_) {
      case Spot::Outside:
        spot_ = Spot::Root;
        return;
      case Spot::Root:
        if (name_ == kMetadata) {
          spot_ = Spot::Metadata;
        } else {
          open_tensor();
        }
        return;
      default:
        return begin_other("an object");
    }
  }

  void end_object() override {
    if (skipping()) {
      --skipped_;
    } else if (spot_ == Spot::Tensor) {
      close_tensor();
      spot_ = Spot::Root;
    } else if (spot_ == Spot::Metadata) {
      spot_ = Spot::Root;
    }
  }

  void begin_array() override {
    if (skipping()) return skip_deeper();
    if (spot_ == Spot::Tensor && (field_ == Field::Shape || field_ == Field::Offsets)) {
      spot_ = field_ == Field::Shape ? Spot::Shape : Spot::Offsets;
      return;
    }
    begin_other("an array");
  }

  void end_array() override {
    if (skipping()) {
      --skipped_;
      return;
    }
    if (spot_ == Spot::Offsets && offsets_ != 2) {
      fail(fmt::format("{} has {} data_offsets, expected 2", tensor_text(), offsets_));
    }
    spot_ = Spot::Tensor;
  }

  void key(std::string& name) override {
    if (skipping()) return;
    name_at_ = quote_position();
    if (spot_ == Spot::Tensor) return begin_field(name);
    if (spot_ == Spot::Root && name == kMetadata && std::exchange(metadata_seen_, true)) {
      fail("the name `__metadata__` stands twice");
    }
    name_ = std::move(name);
  }

  void scalar(const JsonScalar& value) override {
    if (skipping()) return;
    using Kind = JsonScalar::Kind;
    switch (spot_) {
      case Spot::Outside:
        fail("the header is not a JSON object");
      case Spot::Root:
        if (name_ == kMetadata && value.kind == Kind::Null) return;
        fail(name_ == kMetadata ? "`__metadata__` is not an object"
                                : fmt::format("tensor `{}` is not described by an object", name_));
      case Spot::Metadata:
        if (value.kind != Kind::Text) {
          fail(fmt::format("the value of `{}` in `__metadata__` is not text", name_));
        }
        if (!metadata.try_emplace(name_, std::move(*value.text)).second) {
          fail(fmt::format("the name `{}` stands twice in `__metadata__`", name_));
        }
        return;
      case Spot::Tensor:
        return take_field(value);
      case Spot::Shape:
      case Spot::Offsets:
        return take_number(value);
    }
  }

 private:
  static constexpr const char* kMetadata = "__metadata__";
  enum class Spot { Outside, Root, Metadata, Tensor, Shape, Offsets };
  enum class Field { Dtype = 1, Shape = 2, Offsets = 4, Unknown = 8 };

  [[noreturn]] void fail(const std::string& why) const {
    refuse(path_, kLengthBytes + position(), why);
  }
  std::string tensor_text() const {
    return fmt::format("tensor `{}`", tensors.back().entry.info.name);
  }

  bool skipping() const { return skipped_ > 0; }
  void skip_deeper() {
    if (++skipped_ + 2 > kMostHeaderDepth) {
      fail(fmt::format("the header is nested more than {} deep", kMostHeaderDepth));
    }
  }

  // An object or array where none of the format's own may stand.
  void begin_other(const char* what) {
    if (spot_ == Spot::Tensor && field_ == Field::Unknown) return skip_deeper();
    switch (spot_) {
      case Spot::Outside:
        fail("the header is not a JSON object");
      case Spot::Root:
        fail(fmt::format("`{}` is {}, expected an object", name_, what));
      case Spot::Metadata:
        fail(fmt::format("the value of `{}` in `__metadata__` is not text", name_));
      default:
        fail(fmt::format("{}: {} stands where it cannot", tensor_text(), what));
    }
  }

  void open_tensor() {
    if (tensors.size() >= kMostTensors) fail(fmt::format("more than {} tensors", kMostTensors));
    Pending pending;
    pending.entry.info.name = std::move(name_);
    pending.at = kLengthBytes + name_at_;
    tensors.push_back(std::move(pending));
    seen_ = 0;
    spot_ = Spot::Tensor;
  }

  void begin_field(const std::string& name) {
    field_ = name == "dtype"          ? Field::Dtype
             : name == "shape"        ? Field::Shape
             : name == "data_offsets" ? Field::Offsets
                                      : Field::Unknown;
    if (field_ == Field::Unknown) return;  // ignored, as the reference reader does
    if ((seen_ & static_cast<unsigned>(field_)) != 0) {
      fail(fmt::format("{} has `{}` twice", tensor_text(), name));
    }
    seen_ |= static_cast<unsigned>(field_);
    if (field_ == Field::Offsets) offsets_ = 0;
  }

  void take_field(const JsonScalar& value) {
    if (field_ == Field::Unknown) return;
    if (field_ != Field::Dtype) {
      fail(fmt::format("{}: `{}` is not an array", tensor_text(),
                       field_ == Field::Shape ? "shape" : "data_offsets"));
    }
    if (value.kind != JsonScalar::Kind::Text) {
      fail(fmt::format("{}: `dtype` is not text", tensor_text()));
    }
    if (const auto dtype = dtype_from_safetensors(*value.text)) {
      tensors.back().entry.info.dtype = *dtype;
      return;
    }
    const auto foreign =
        std::find_if(kForeignTypes.begin(), kForeignTypes.end(),
                     [&](const ForeignType& type) { return *value.text == type.name; });
    if (foreign == kForeignTypes.end()) {
      fail(fmt::format("{} has the unknown dtype `{}`", tensor_text(), *value.text));
    }
    tensors.back().foreign = &*foreign;
  }

  void take_number(const JsonScalar& value) {
    if (value.kind != JsonScalar::Kind::Unsigned) {
      fail(fmt::format("{}: `{}` holds something else than whole numbers from 0 to 2^64 - 1",
                       tensor_text(), spot_ == Spot::Shape ? "shape" : "data_offsets"));
    }
    Pending& tensor = tensors.back();
    if (spot_ == Spot::Offsets) {
      if (offsets_ == 0) tensor.begin = value.number;
      if (offsets_ == 1) tensor.end = value.number;
      if (++offsets_ > 2) fail(fmt::format("{} has more than 2 data_offsets", tensor_text()));
      return;
    }
    auto& shape = tensor.entry.info.shape;
    if (shape.size() == kMostDimensions) {
      fail(fmt::format("{} has more than {} dimensions", tensor_text(), kMostDimensions));
    }
    shape.push_back(value.number);
  }

  void close_tensor() {
    tensors.back().entry.info.shape.shrink_to_fit();
    for (const auto& [field, name] : {std::pair{Field::Dtype, "dtype"},
                                      {Field::Shape, "shape"},
                                      {Field::Offsets, "data_offsets"}}) {
      if ((seen_ & static_cast<unsigned>(field)) == 0) {
        fail(fmt::format("{} has no `{}`", tensor_text(), name));
      }
    }
  }

  const std::string& path_;
  Spot spot_ = Spot::Outside;
  Field field_ = Field::Unknown;
  unsigned seen_ = 0;        // fields of the tensor at hand, a bit each
  std::size_t offsets_ = 0;  // numbers of its data_offsets so far
  std::size_t skipped_ = 0;  // open brackets within an unknown field
  std::size_t name_at_ = 0;  // position of name_
  bool metadata_seen_ = false;
  std::string name_;  // last key of the root or of __metadata__
};

// The header's text; checks its length against the file before allocating.
std::string read_header_text(const ReadFile& file) {
  const std::string& path = file.path();
  const std::uint64_t size = file.size();
  std::array<char, 64> start{};
  const std::size_t looked = std::min<std::uint64_t>(size, start.size());
  file.read(0, std::as_writable_bytes(std::span(start).first(looked)));
  refuse_lfs_pointer(std::string_view(start.data(), looked), path);
  if (size < kLengthBytes) {
    refuse(path, 0,
           fmt::format("it has {} bytes, too few even for the {} bytes of the header's length",
                       size, kLengthBytes),
           kFetchAgain);
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(start[i]);
  }
  if (length > kMostHeaderBytes) {
    refuse(path, 0,
           fmt::format("its header would have {} bytes, more than the {} that are allowed", length,
                       kMostHeaderBytes),
           "it may be a file of another format");
  }
  if (length > size - kLengthBytes) {
    refuse(path, 0,
           fmt::format("its header of {} bytes needs a file of at least {} bytes, this one has {}",
                       length, length + kLengthBytes, size),
           kFetchAgain);
  }
  std::string text(length, '\0');
  file.read(kLengthBytes, std::as_writable_bytes(std::span(text)));
  return text;
}

void refuse_duplicates(const std::string& path, const std::vector<Pending>& tensors) {
  std::vector<const Pending*> by_name;
  by_name.reserve(tensors.size());
  for (const Pending& tensor : tensors) by_name.push_back(&tensor);
  std::sort(by_name.begin(), by_name.end(), [](const Pending* a, const Pending* b) {
    return std::tie(a->entry.info.name, a->at) < std::tie(b->entry.info.name, b->at);
  });
  const auto twice = std::adjacent_find(
      by_name.begin(), by_name.end(),
      [](const Pending* a, const Pending* b) { return a->entry.info.name == b->entry.info.name; });
  if (twice != by_name.end()) {
    refuse(path, (*std::next(twice))->at,
           fmt::format("the tensor name `{}` stands twice", (*twice)->entry.info.name));
  }
}

// Checks one tensor's size against its offsets; fills in `elements`.
void check_size(const std::string& path, Pending& tensor) {
  TensorInfo& info = tensor.entry.info;
  const auto elements = checked_product(info.shape);
  const auto bits = elements ? checked_mul(*elements, tensor.bits()) : std::nullopt;
  if (!bits) {
    refuse(path, tensor.at,
           fmt::format("tensor `{}` of shape {} is too large to count", info.name,
                       shape_text(info.shape)));
  }
  if (*bits % 8 != 0) {
    refuse(path, tensor.at,
           fmt::format("tensor `{}` has {} bits, not a whole number of bytes", info.name, *bits));
  }
  if (tensor.end - tensor.begin != *bits / 8) {
    refuse(path, tensor.at,
           fmt::format("tensor `{}` of shape {} and {} bits an element needs {} bytes, its "
                       "data_offsets span {}",
                       info.name, shape_text(info.shape), tensor.bits(), *bits / 8,
                       tensor.end - tensor.begin));
  }
  info.elements = *elements;
}

// Checks that the tensors, sorted by offset, fill the data from its first byte to its last.
void check_layout(const ReadFile& file, std::uint64_t data_begin, std::vector<Pending>& tensors) {
  const std::string& path = file.path();
  std::uint64_t expected = 0;
  for (Pending& tensor : tensors) {
    if (tensor.begin != expected || tensor.end < tensor.begin) {
      refuse(path, tensor.at,
             fmt::format("tensor `{}` spans bytes {} to {} of the data, expected to begin at {} "
                         "(tensors may neither overlap nor leave gaps)",
                         tensor.entry.info.name, tensor.begin, tensor.end, expected));
    }
    check_size(path, tensor);
    tensor.entry.offset = data_begin + tensor.begin;
    expected = tensor.end;
  }
  const auto end = checked_add(data_begin, expected);
  if (end != file.size()) {
    const std::string announced = end ? fmt::format("{}", *end) : "more than 2^64";
    const bool cut = !end || *end > file.size();
    refuse(path, cut ? file.size() : *end,
           fmt::format("its header announces {} bytes in all, the file has {}", announced,
                       file.size()),
           cut ? kFetchAgain : "");
  }
}

}  // namespace

SafetensorsHeader read_safetensors_header(const ReadFile& file) {
  HeaderEvents events(file.path());
  std::uint64_t data_begin = kLengthBytes;
  {
    const std::string text = read_header_text(file);
    read_json_events(text, file.path(), kLengthBytes, events);
    data_begin += text.size();
  }
  std::vector<Pending>& tensors = events.tensors;
  refuse_duplicates(file.path(), tensors);
  std::sort(tensors.begin(), tensors.end(), [](const Pending& a, const Pending& b) {
    return std::tie(a.begin, a.end, a.entry.info.name) <
           std::tie(b.begin, b.end, b.entry.info.name);
  });
  check_layout(file, data_begin, tensors);
  for (const Pending& tensor : tensors) {
    if (tensor.foreign == nullptr) continue;
    throw Error(ErrorCode::Unsupported,
                fmt::format("tensor `{}` of `{}` has dtype {}, which thorns cannot merge",
                            tensor.entry.info.name, file.path(), tensor.foreign->name),
                FilePlace{file.path(), tensor.at},
                "use the checkpoint in its original 16-bit or 32-bit type");
  }
  SafetensorsHeader header;
  header.metadata = std::move(events.metadata);
  header.data_begin = data_begin;
  header.entries.reserve(tensors.size());
  for (Pending& tensor : tensors) header.entries.push_back(std::move(tensor.entry));
  return header;
}

}  // namespace thorns
