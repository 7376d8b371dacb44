// Safetensors files and model folders made from plain numbers, for tests. The files are laid out
// as the reference writer does it; `raw_safetensors` makes broken ones from a header as text.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "thorns/dtype.h"

namespace thorns::test {

// `value` rounded once, to nearest even, to a binary float of `precision` significant bits
// (the leading one counted) whose least normal exponent is `min_exponent`; infinite beyond
// 2^(max_exponent + 1).
inline double round_to_float(double value, int precision, int min_exponent, int max_exponent) {
  if (value == 0.0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), min_exponent);
  const int unit = exponent - (precision - 1);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  if (std::fabs(rounded) < std::ldexp(1.0, max_exponent + 1)) return rounded;
  return std::copysign(std::numeric_limits<double>::infinity(), value);
}

inline std::uint16_t bfloat_bits(double value) {
  if (std::isnan(value)) return 0x7FC0;
  const auto rounded = static_cast<float>(round_to_float(value, 8, -126, 127));
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rounded) >> 16);
}

inline std::uint16_t half_bits(double value) {
  if (std::isnan(value)) return 0x7E00;
  const double rounded = round_to_float(value, 11, -14, 15);
  const unsigned sign = std::signbit(rounded) ? 0x8000U : 0U;
  const double magnitude = std::fabs(rounded);
  if (std::isinf(magnitude)) return static_cast<std::uint16_t>(sign | 0x7C00U);
  if (magnitude < std::ldexp(1.0, -14)) {
    return static_cast<std::uint16_t>(sign | static_cast<unsigned>(std::ldexp(magnitude, 24)));
  }
  const int exponent = std::ilogb(magnitude);
  const auto fraction = static_cast<unsigned>(std::ldexp(magnitude, 10 - exponent)) - 1024U;
  return static_cast<std::uint16_t>(sign | static_cast<unsigned>(exponent + 15) << 10 | fraction);
}

template <typename T>
void append_little_endian(std::string& bytes, T value) {
  static_assert(std::endian::native == std::endian::little);
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof(T));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

// The bytes of `values` in `dtype`: floats rounded once to nearest even, integers truncated. The
// 8-bit floats have no numbers here: give their bytes with SafetensorsBuilder::add_bytes.
inline std::string encode(Dtype dtype, const std::vector<double>& values) {
  std::string bytes;
  for (const double value : values) {
    switch (dtype) {
      case Dtype::F64:
        append_little_endian(bytes, value);
        break;
      case Dtype::F32:
        append_little_endian(bytes, static_cast<float>(value));
        break;
      case Dtype::F16:
        append_little_endian(bytes, half_bits(value));
        break;
      case Dtype::BF16:
        append_little_endian(bytes, bfloat_bits(value));
        break;
      case Dtype::I64:
        append_little_endian(bytes, static_cast<std::int64_t>(value));
        break;
      case Dtype::U64:
        append_little_endian(bytes, static_cast<std::uint64_t>(value));
        break;
      case Dtype::I32:
        append_little_endian(bytes, static_cast<std::int32_t>(value));
        break;
      case Dtype::U32:
        append_little_endian(bytes, static_cast<std::uint32_t>(value));
        break;
      case Dtype::I16:
        append_little_endian(bytes, static_cast<std::int16_t>(value));
        break;
      case Dtype::U16:
        append_little_endian(bytes, static_cast<std::uint16_t>(value));
        break;
      case Dtype::I8:
        append_little_endian(bytes, static_cast<std::int8_t>(value));
        break;
      case Dtype::U8:
      case Dtype::Bool:
        append_little_endian(bytes, static_cast<std::uint8_t>(value));
        break;
      default:
        throw std::logic_error("this dtype has no numbers; use add_bytes");
    }
  }
  return bytes;
}

inline void write_file(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

// 8 bytes of length, `header` as it is, then `data`.
inline std::string raw_safetensors(std::string_view header, std::string_view data = {}) {
  std::string bytes;
  append_little_endian(bytes, static_cast<std::uint64_t>(header.size()));
  bytes.append(header);
  bytes.append(data);
  return bytes;
}

struct BuiltTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

class SafetensorsBuilder {
 public:
  SafetensorsBuilder& add(std::string name, Dtype dtype, std::vector<std::uint64_t> shape,
                          const std::vector<double>& values) {
    return add_bytes(std::move(name), dtype, std::move(shape), encode(dtype, values));
  }
  SafetensorsBuilder& add_bytes(std::string name, Dtype dtype, std::vector<std::uint64_t> shape,
                                std::string bytes) {
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : shape) elements *= dim;
    if (bytes.size() != elements * size_of(dtype)) {
      throw std::logic_error(name + ": the number of values does not fit the shape");
    }
    tensors_.push_back({std::move(name), dtype, std::move(shape), std::move(bytes)});
    return *this;
  }
  SafetensorsBuilder& metadata(const std::string& key, const std::string& value) {
    metadata_[key] = value;
    return *this;
  }

  const std::vector<BuiltTensor>& tensors() const { return tensors_; }

  // The whole file.
  std::string bytes() const {
    std::vector<const BuiltTensor*> order;
    for (const BuiltTensor& tensor : tensors_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const BuiltTensor* a, const BuiltTensor* b) {
      const int rank_a = layout_rank(a->dtype);
      const int rank_b = layout_rank(b->dtype);
      return rank_a != rank_b ? rank_a > rank_b : a->name < b->name;
    });
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata_.empty()) header["__metadata__"] = metadata_;
    std::string data;
    for (const BuiltTensor* tensor : order) {
      header[tensor->name] = {{"dtype", to_string(tensor->dtype)},
                              {"shape", tensor->shape},
                              {"data_offsets", {data.size(), data.size() + tensor->bytes.size()}}};
      data += tensor->bytes;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    return raw_safetensors(text, data);
  }
  void write(const std::string& path) const { write_file(path, bytes()); }

 private:
  std::vector<BuiltTensor> tensors_;
  std::map<std::string, std::string> metadata_ = {{"format", "pt"}};
};

// A model folder: config.json and weights, whole or in shards.
class ModelFolder {
 public:
  SafetensorsBuilder weights;
  nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                   {"model_type", "llama"},
                                   {"tie_word_embeddings", false}};
  std::map<std::string, std::string> other_files;  // name -> content

  // model.safetensors in `folder`, which is made where needed. A null config is left out.
  void write(const std::string& folder) const {
    write_rest(folder);
    weights.write(folder + "/model.safetensors");
  }

  // `shards` files of about as many tensors each, in the order in which they were added, and the
  // index.
  void write_sharded(const std::string& folder, std::size_t shards) const {
    write_rest(folder);
    std::vector<SafetensorsBuilder> parts(shards);
    nlohmann::ordered_json index = {{"metadata", nlohmann::ordered_json::object()},
                                    {"weight_map", nlohmann::ordered_json::object()}};
    std::uint64_t total = 0;
    const auto& all = weights.tensors();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t part = i * shards / all.size();
      parts[part].add_bytes(all[i].name, all[i].dtype, all[i].shape, all[i].bytes);
      index["weight_map"][all[i].name] = shard_name(part, shards);
      total += all[i].bytes.size();
    }
    index["metadata"]["total_size"] = total;
    for (std::size_t part = 0; part < shards; ++part) {
      parts[part].write(folder + "/" + shard_name(part, shards));
    }
    write_file(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
  }

  // "model-00001-of-00003.safetensors" for part 0 of 3.
  static std::string shard_name(std::size_t part, std::size_t shards) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", part + 1, shards);
    return name;
  }

 private:
  void write_rest(const std::string& folder) const {
    std::filesystem::create_directories(folder);
    if (!config.is_null()) write_file(folder + "/config.json", config.dump(2) + "\n");
    for (const auto& [name, content] : other_files) write_file(folder + "/" + name, content);
  }
};

}  // namespace thorns::test
