// A source yields tensors by name as runs of elements; what container or encoding lies behind is
// its own affair. Checkpoints and adapter files are sources.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "thorns/dtype.h"

namespace thorns {

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;  // row-major; empty for a scalar
  std::uint64_t elements = 0;        // product of shape, checked when the source was opened
  // Of a tensor that is decoded from a quantised one: the 16-bit type that its model computes in,
  // and a merge writes unless told otherwise. `dtype` is the type in which it is read.
  std::optional<Dtype> nominal = std::nullopt;

  std::uint64_t bytes() const { return elements * size_of(dtype); }
};

// Elements of a tensor that is decoded, as their codes in memory: they become numbers piece by
// piece, where they are used. Thread-safe.
class CodedElements {
 public:
  virtual ~CodedElements() = default;
  // Elements [first, first + count) of the tensor, all of them held, as float32.
  virtual void decode(std::uint64_t first, std::size_t count, float* to) const = 0;
  // As FilePart's.
  virtual void require_intact() const = 0;
};

// Immutable once made; every member may be called from any thread.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  virtual std::span<const TensorInfo> tensors() const = 0;  // sorted by name, names unique

  // Elements [first, first + to.size() / size_of(dtype)) of tensors()[tensor], in its dtype, little
  // endian, row-major. Throws Io or Corrupt.
  virtual void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const = 0;
  // The same elements in place, where they lie in a file just so and the file can be mapped; else
  // null: they are to be read. Throws Io or Corrupt.
  virtual std::unique_ptr<FilePart> map(std::size_t /*tensor*/, std::uint64_t /*first*/,
                                        std::uint64_t /*count*/) const {
    return nullptr;
  }
  // The same of a tensor that is decoded (`nominal` is set): its codes in place. Null where `read`
  // has to do it.
  virtual std::unique_ptr<CodedElements> map_codes(std::size_t /*tensor*/, std::uint64_t /*first*/,
                                                   std::uint64_t /*count*/) const {
    return nullptr;
  }
  // The same elements will be read soon. Never fails.
  virtual void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const = 0;

  virtual std::string file_of(std::size_t tensor) const = 0;  // for messages

  // Index into tensors(), or nullopt.
  std::optional<std::size_t> find(std::string_view name) const;
  // Whether two of its tensors are of one type and shape, and hold the same bytes.
  bool same_elements(std::size_t one, std::size_t other) const;
};

}  // namespace thorns
