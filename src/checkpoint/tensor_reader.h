// One stored tensor as the decoders read it: runs and rectangles of its elements, as numbers or
// raw. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/source.h"
#include "thorns/error.h"

namespace thorns {

// A cheap handle; the source must outlive it. Thread-safe as the source is. What reads throws Io.
class TensorReader {
 public:
  TensorReader(const TensorSource& source, std::size_t index) : source_(&source), index_(index) {}

  const TensorInfo& info() const { return source_->tensors()[index_]; }
  const std::string& name() const { return info().name; }
  std::size_t index() const { return index_; }

  // Throws `code` with "tensor `name` of `file` <what>", placed at the tensor.
  [[noreturn]] void fail(const std::string& what, ErrorCode code = ErrorCode::Corrupt) const;
  // Corrupt unless the tensor has one of these types, or exactly this shape.
  void require_type(std::initializer_list<Dtype> types) const;
  void require_shape(std::span<const std::uint64_t> shape) const;

  // Elements [first, first + count) as numbers. Only types of 32 bits and less; integers of 32 bits
  // are not exact.
  std::vector<float> floats(std::uint64_t first, std::uint64_t count) const;
  // All elements of an I32 or I64 tensor.
  std::vector<std::int64_t> integers() const;

  // `rows` runs of `width` elements each, `stride` elements from the start of one to the start of
  // the next, the first at element `first`. T has the size of an element.
  template <class T>
  std::vector<T> rectangle(std::uint64_t first, std::uint64_t rows, std::uint64_t width,
                           std::uint64_t stride) const {
    std::vector<T> elements(static_cast<std::size_t>(rows * width));
    read_rectangle(first, rows, width, stride, std::as_writable_bytes(std::span(elements)));
    return elements;
  }
  // The same as numbers.
  std::vector<float> float_rectangle(std::uint64_t first, std::uint64_t rows, std::uint64_t width,
                                     std::uint64_t stride) const;

  // The same into memory that is there, of that size.
  void read_rectangle(std::uint64_t first, std::uint64_t rows, std::uint64_t width,
                      std::uint64_t stride, std::span<std::byte> to) const;

  std::unique_ptr<FilePart> map(std::uint64_t first, std::uint64_t count) const {
    return source_->map(index_, first, count);
  }
  void will_need(std::uint64_t first, std::uint64_t count) const {
    source_->will_need(index_, first, count);
  }

 private:
  std::vector<float> numbers(std::span<const std::byte> bytes) const;

  const TensorSource* source_;
  std::size_t index_;
};

}  // namespace thorns
