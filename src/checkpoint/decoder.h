// How one quantised tensor becomes numbers again: the interface between the source that decodes
// (dequantise.h) and the formats (fp8.cc, gptq.cc, ...). Private to this room.
//
// A decoder writes float32. Every format here defines a value as a small code times one or two
// scales; float32 holds that product exactly or, where the scale itself needs all of its 24 bits,
// rounded once to nearest. Nothing is rounded to 16 bits before the merge has been computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace thorns {

// A shape seen as a stack of matrices: all dimensions before the last two, the one before the last,
// the last. A vector is one row, a scalar one element.
struct Stack {
  std::uint64_t matrices = 1;
  std::uint64_t rows = 1;
  std::uint64_t columns = 1;
};
inline Stack stack_of(std::span<const std::uint64_t> shape) {
  Stack stack;
  if (!shape.empty()) stack.columns = shape.back();
  if (shape.size() > 1) stack.rows = shape[shape.size() - 2];
  for (std::size_t i = 0; i + 2 < shape.size(); ++i) stack.matrices *= shape[i];
  return stack;
}

// A piece of one matrix: whole rows, or a run within one row.
struct Part {
  std::uint64_t matrix = 0;
  std::uint64_t row = 0;  // rows [row, row + rows)
  std::uint64_t rows = 0;
  std::uint64_t column = 0;  // columns [column, column + columns)
  std::uint64_t columns = 0;

  std::uint64_t elements() const { return rows * columns; }
  // Of its first element, in the row-major order of the whole stack.
  std::uint64_t first(const Stack& stack) const {
    return (matrix * stack.rows + row) * stack.columns + column;
  }
};

// Where decoded numbers go: float32, little endian, at any address.
class Floats {
 public:
  explicit Floats(std::span<std::byte> bytes) : bytes_(bytes) {}
  void set(std::size_t index, float value) const {
    std::memcpy(bytes_.data() + index * sizeof(float), &value, sizeof value);
  }

  std::byte* data() const { return bytes_.data(); }

 private:
  std::span<std::byte> bytes_;
};

// A part's codes in memory, with all that is needed to decode them. Thread-safe.
class Codes {
 public:
  virtual ~Codes() = default;
  // A piece of the part: some of its rows, or a run within one.
  virtual void decode(const Part& piece, Floats to) const = 0;
  virtual void require_intact() const = 0;  // as FilePart's
};

// Immutable; any thread may call any member.
class Decoder {
 public:
  // Parts have at most so many elements: few enough for little working memory (about 2 MB at most,
  // whatever the format), enough that reading across the grain of a transposed format pays.
  static constexpr std::uint64_t kMostElements = 1 << 20;

  virtual ~Decoder() = default;
  // Writes the part's elements, row-major. Throws Io, or Corrupt where the stored bytes make no
  // sense.
  virtual void decode(const Part& part, Floats to) const = 0;
  // The codes of whole rows, or of a run within one, in place; they may be more than kMostElements.
  // Null where the format or the file does not allow it. Throws what `decode` throws.
  virtual std::unique_ptr<Codes> map(const Part& /*part*/) const { return nullptr; }
  // The part will be decoded soon. Never fails.
  virtual void will_need(const Part& part) const = 0;
};

}  // namespace thorns
