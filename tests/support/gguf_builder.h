// GGUF files made byte by byte, for tests. Nothing is checked, so that broken ones can be made,
// too.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "support/safetensors_builder.h"

namespace thorns::test {

class GgufBuilder {
 public:
  static constexpr std::uint32_t kF32 = 0;
  static constexpr std::uint32_t kF16 = 1;
  static constexpr std::uint32_t kQ8_0 = 8;

  GgufBuilder& text(const std::string& name, const std::string& value) {
    return field(name, 8, counted(value));
  }
  GgufBuilder& number(const std::string& name, std::uint32_t value) {
    return field(name, 4, raw(value));
  }
  GgufBuilder& real(const std::string& name, float value) { return field(name, 6, raw(value)); }
  GgufBuilder& flag(const std::string& name, bool value) {
    return field(name, 7, raw(static_cast<std::uint8_t>(value)));
  }
  GgufBuilder& texts(const std::string& name, const std::vector<std::string>& values) {
    std::string bytes = raw(std::uint32_t{8}) + raw(std::uint64_t{values.size()});
    for (const std::string& value : values) bytes += counted(value);
    return field(name, 9, bytes);
  }
  GgufBuilder& integers(const std::string& name, const std::vector<std::int32_t>& values) {
    std::string bytes = raw(std::uint32_t{5}) + raw(std::uint64_t{values.size()});
    for (const std::int32_t value : values) bytes += raw(value);
    return field(name, 9, bytes);
  }
  GgufBuilder& reals(const std::string& name, const std::vector<float>& values) {
    std::string bytes = raw(std::uint32_t{6}) + raw(std::uint64_t{values.size()});
    for (const float value : values) bytes += raw(value);
    return field(name, 9, bytes);
  }
  // `shape` as PyTorch has it.
  GgufBuilder& tensor(const std::string& name, const std::vector<std::uint64_t>& shape,
                      std::uint32_t type, const std::string& bytes) {
    infos_ += counted(name) + raw(static_cast<std::uint32_t>(shape.size()));
    for (std::size_t i = shape.size(); i-- > 0;) infos_ += raw(shape[i]);
    infos_ += raw(type) + raw(std::uint64_t{data_.size()});
    data_ += bytes;
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensors_;
    return *this;
  }
  GgufBuilder& floats(const std::string& name, const std::vector<std::uint64_t>& shape,
                      const std::vector<double>& values) {
    return tensor(name, shape, kF32, encode(Dtype::F32, values));
  }

  std::string bytes() const {
    std::string file = "GGUF" + raw(std::uint32_t{3}) + raw(tensors_) + raw(fields_);
    file += metadata_ + infos_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

 private:
  template <class T>
  static std::string raw(T value) {
    std::string bytes;
    append_little_endian(bytes, value);
    return bytes;
  }
  static std::string counted(const std::string& text) {
    return raw(std::uint64_t{text.size()}) + text;
  }
  GgufBuilder& field(const std::string& name, std::uint32_t kind, const std::string& value) {
    metadata_ += counted(name) + raw(kind) + value;
    ++fields_;
    return *this;
  }

  std::string metadata_;
  std::string infos_;
  std::string data_;
  std::uint64_t fields_ = 0;
  std::uint64_t tensors_ = 0;
};

}  // namespace thorns::test
