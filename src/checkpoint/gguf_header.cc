#include "checkpoint/gguf_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>

#include "base/checked.h"
#include "base/text.h"
#include "checkpoint/gguf_blocks.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kLongestName = 65'535;      // of a field
constexpr std::uint64_t kLongestTensorName = 1024;  // ggml itself allows 63
constexpr std::uint64_t kLongestText = 4096;        // that is kept with the header
constexpr std::uint64_t kLongestElement = 1 << 22;  // of an array of texts
constexpr std::uint32_t kMostGgmlDimensions = 4;
constexpr std::uint64_t kSmallestField = 8 + 4 + 1;
constexpr std::uint64_t kSmallestTensor = 8 + 4 + 4 + 8;

// The numbers of the types of fields.
enum ValueType : std::uint32_t {
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  F32,
  Bool,
  Text,
  Array,
  U64,
  I64,
  F64
};
constexpr std::array<std::uint64_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Reads a header from its start to its end through a small window.
class HeaderCursor {
 public:
  explicit HeaderCursor(const ReadFile& file, std::uint64_t at = 0) : file_(file), at_(at) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return file_.size() - at_; }

  [[noreturn]] void fail(const std::string& what) const { fail_at(at_, what); }
  [[noreturn]] void fail_at(std::uint64_t offset, const std::string& what) const {
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` is no sound GGUF file: {}", file_.path(), what),
                FilePlace{file_.path(), std::min(offset, file_.size())},
                "the file may be damaged; fetch it again");
  }

  void skip(std::uint64_t bytes) {
    if (bytes > left()) {
      fail(fmt::format("{} bytes should follow, {} are left", bytes, left()));
    }
    at_ += bytes;
  }
  template <class T>
  T number() {
    std::array<std::byte, sizeof(T)> bytes{};
    copy(bytes);
    return std::bit_cast<T>(bytes);
  }
  std::string text(std::uint64_t most, const char* what) {
    const auto length = number<std::uint64_t>();
    if (length > most || length > left()) {
      fail(fmt::format("{} has {} bytes, at most {} can be", what, length, std::min(most, left())));
    }
    std::string text(static_cast<std::size_t>(length), '\0');
    copy(std::as_writable_bytes(std::span(text)));
    return text;
  }

 private:
  void copy(std::span<std::byte> to) {
    const std::uint64_t begin = at_;
    skip(to.size());
    if (to.size() > window_.size()) return file_.read(begin, to);
    if (begin < window_begin_ || begin + to.size() > window_begin_ + held_) {
      window_begin_ = begin;
      held_ = std::min<std::uint64_t>(window_.size(), file_.size() - begin);
      file_.read(begin, std::span(window_).first(static_cast<std::size_t>(held_)));
    }
    if (!to.empty()) std::memcpy(to.data(), window_.data() + (begin - window_begin_), to.size());
  }

  const ReadFile& file_;
  std::uint64_t at_;
  std::vector<std::byte> window_ = std::vector<std::byte>(1 << 16);
  std::uint64_t window_begin_ = 0;
  std::uint64_t held_ = 0;
};

Json read_scalar(HeaderCursor& cursor, std::uint32_t kind) {
  switch (kind) {
    case U8:
      return cursor.number<std::uint8_t>();
    case I8:
      return cursor.number<std::int8_t>();
    case U16:
      return cursor.number<std::uint16_t>();
    case I16:
      return cursor.number<std::int16_t>();
    case U32:
      return cursor.number<std::uint32_t>();
    case I32:
      return cursor.number<std::int32_t>();
    case F32:
      return cursor.number<float>();
    case Bool:
      return cursor.number<std::uint8_t>() != 0;
    case U64:
      return cursor.number<std::uint64_t>();
    case I64:
      return cursor.number<std::int64_t>();
    default:
      return cursor.number<double>();
  }
}

GgufArray skip_array(HeaderCursor& cursor, const std::string& name) {
  const auto kind = cursor.number<std::uint32_t>();
  const auto count = cursor.number<std::uint64_t>();
  if (kind > F64 || kind == Array) {
    cursor.fail(fmt::format("field `{}` is an array of elements of type {}", name, kind));
  }
  const GgufArray array{kind, count, cursor.at()};
  if (kind == Text) {
    for (std::uint64_t i = 0; i < count; ++i) cursor.skip(cursor.number<std::uint64_t>());
    return array;
  }
  const auto bytes = checked_mul(count, kValueBytes[kind]);
  if (!bytes) cursor.fail(fmt::format("field `{}` has {} elements", name, count));
  cursor.skip(*bytes);
  return array;
}

void read_field(HeaderCursor& cursor, GgufHeader& header) {
  const std::uint64_t begin = cursor.at();
  const std::string name = cursor.text(kLongestName, "the name of a field");
  if (header.fields.count(name) + header.arrays.count(name) != 0) {
    cursor.fail_at(begin, fmt::format("field `{}` is there twice", name));
  }
  const auto kind = cursor.number<std::uint32_t>();
  if (kind > F64) cursor.fail(fmt::format("field `{}` has the unknown type {}", name, kind));
  if (kind == Array) {
    header.arrays[name] = skip_array(cursor, name);
  } else if (kind == Text) {
    HeaderCursor look = cursor;
    const auto length = look.number<std::uint64_t>();
    if (length <= kLongestText) {
      header.fields[name] = cursor.text(kLongestText, "a text");
    } else {  // a chat template, mostly
      header.arrays[name] = {Text, 1, cursor.at()};
      cursor.skip(sizeof(std::uint64_t));
      cursor.skip(length);
    }
  } else {
    header.fields[name] = read_scalar(cursor, kind);
  }
}

GgufTensor read_tensor_info(HeaderCursor& cursor) {
  GgufTensor tensor;
  tensor.name = cursor.text(kLongestTensorName, "the name of a tensor");
  const auto dimensions = cursor.number<std::uint32_t>();
  if (dimensions > kMostGgmlDimensions) {
    cursor.fail(fmt::format("tensor `{}` has {} dimensions", tensor.name, dimensions));
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    tensor.shape.insert(tensor.shape.begin(), cursor.number<std::uint64_t>());
  }
  tensor.type = cursor.number<std::uint32_t>();
  tensor.offset = cursor.number<std::uint64_t>();
  const auto elements = checked_product(tensor.shape);
  if (!elements || *elements == 0 || *elements > std::numeric_limits<std::uint64_t>::max() / 8) {
    cursor.fail(fmt::format("tensor `{}` has the shape {}", tensor.name, shape_text(tensor.shape)));
  }
  tensor.elements = *elements;
  return tensor;
}

// Fills in offset and bytes of a tensor whose offset in the data should be `expected`.
void place(HeaderCursor& cursor, const ReadFile& file, GgufTensor& tensor, std::uint64_t expected,
           std::uint64_t data_begin) {
  const GgufType* type = find_gguf_type(tensor.type);
  if (type == nullptr) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("tensor `{}` of `{}` has ggml's type {}, which is not known",
                            tensor.name, file.path(), tensor.type),
                FilePlace{file.path()}, "convert the model to safetensors");
  }
  const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % type->elements != 0) {
    cursor.fail(fmt::format("tensor `{}` has rows of {} elements and blocks of {}", tensor.name,
                            row, type->elements));
  }
  const auto bytes = checked_mul(tensor.elements / type->elements, type->bytes);
  if (!bytes || data_begin > file.size() || expected > file.size() - data_begin ||
      *bytes > file.size() - data_begin - expected) {
    cursor.fail(fmt::format("tensor `{}` reaches beyond the end of the file", tensor.name));
  }
  if (tensor.offset != expected) {
    cursor.fail(fmt::format("tensor `{}` begins at byte {} of the data instead of {}", tensor.name,
                            tensor.offset, expected));
  }
  tensor.offset += data_begin;
  tensor.bytes = *bytes;
}

}  // namespace

bool is_gguf(std::string_view start) { return start.starts_with(kMagic); }

GgufHeader read_gguf_header(const ReadFile& file) {
  HeaderCursor cursor(file);
  if (file.size() < kMagic.size()) cursor.fail("it is too short");
  const auto magic = cursor.number<std::array<char, 4>>();
  if (!is_gguf(std::string_view(magic.data(), magic.size()))) {
    cursor.fail_at(0, "it does not begin with `GGUF`");
  }
  const auto version = cursor.number<std::uint32_t>();
  if (version != 2 && version != 3) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("`{}` has {}", file.path(),
                            (version & 0xFFFF) == 0
                                ? std::string("the byte order of another machine")
                                : fmt::format("version {} of the GGUF format", version)),
                FilePlace{file.path(), kMagic.size()}, "versions 2 and 3, little endian, are read");
  }
  const auto tensors = cursor.number<std::uint64_t>();
  const auto fields = cursor.number<std::uint64_t>();
  if (fields > cursor.left() / kSmallestField) cursor.fail(fmt::format("it has {} fields", fields));
  GgufHeader header;
  for (std::uint64_t i = 0; i < fields; ++i) read_field(cursor, header);

  if (tensors > cursor.left() / kSmallestTensor) {
    cursor.fail(fmt::format("it has {} tensors", tensors));
  }
  std::set<std::string> names;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::uint64_t begin = cursor.at();
    header.tensors.push_back(read_tensor_info(cursor));
    if (!names.insert(header.tensors.back().name).second) {
      cursor.fail_at(begin, fmt::format("tensor `{}` is there twice", header.tensors.back().name));
    }
  }
  std::uint64_t alignment = 32;
  if (const auto found = header.fields.find("general.alignment"); found != header.fields.end()) {
    if (!found->second.is_number_unsigned()) cursor.fail("its alignment is no number");
    alignment = found->second.get<std::uint64_t>();
    if (!std::has_single_bit(alignment) || alignment > (1U << 30)) {
      cursor.fail(fmt::format("its alignment is {}", alignment));
    }
  }
  const auto aligned = [&](std::uint64_t at) { return (at + alignment - 1) & ~(alignment - 1); };
  const std::uint64_t data_begin = aligned(cursor.at());
  std::uint64_t expected = 0;
  for (GgufTensor& tensor : header.tensors) {
    place(cursor, file, tensor, expected, data_begin);
    expected = aligned(expected + tensor.bytes);  // at most the file's size, and some padding
  }
  return header;
}

std::vector<std::string> read_texts(const ReadFile& file, const GgufArray& array) {
  if (array.kind != Text) return {};
  HeaderCursor cursor(file, array.offset);
  std::vector<std::string> texts;
  texts.reserve(static_cast<std::size_t>(array.count));  // each has 8 bytes in the file
  for (std::uint64_t i = 0; i < array.count; ++i)
    texts.push_back(cursor.text(kLongestElement, "a text"));
  return texts;
}

std::vector<double> read_numbers(const ReadFile& file, const GgufArray& array) {
  if (array.kind == Text) return {};
  HeaderCursor cursor(file, array.offset);
  std::vector<double> numbers;
  numbers.reserve(static_cast<std::size_t>(array.count));
  for (std::uint64_t i = 0; i < array.count; ++i) {
    const Json value = read_scalar(cursor, array.kind);
    if (value.is_boolean()) {
      numbers.push_back(value.get<bool>() ? 1.0 : 0.0);
    } else {
      numbers.push_back(value.get<double>());
    }
  }
  return numbers;
}

}  // namespace thorns
