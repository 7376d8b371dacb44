// Quantised checkpoints made by hand, opened from memory and decoded, for the tests of their
// formats.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace thorns::test {

// The same bytes for the same seed; `most` is the largest of them.
inline std::string random_bytes(std::size_t count, unsigned seed, unsigned most = 255) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() % (most + 1));
  return bytes;
}
// Between 0.5 and 1.5, with all the bits of a float32.
inline std::vector<double> random_scales(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<double> values(count);
  for (double& value : values) {
    value = static_cast<float>(0.5 + static_cast<double>(random()) / 4294967296.0);
  }
  return values;
}

class QuantisedModel {
 public:
  SafetensorsBuilder weights;
  // config.json's quantization_config; null: there is none, the file stands alone.
  nlohmann::ordered_json settings;

  // The checkpoint reads from this object.
  std::unique_ptr<Checkpoint> open() {
    disk_.files["m/model.safetensors"] = weights.bytes();
    if (settings.is_null()) return open_checkpoint(disk_, "m/model.safetensors");
    const nlohmann::ordered_json config = {{"model_type", "llama"},
                                           {"quantization_config", settings}};
    disk_.files["m/config.json"] = config.dump();
    return open_checkpoint(disk_, "m");
  }
  ByteDisk& disk() { return disk_; }

 private:
  ByteDisk disk_;
};

// Elements [first, first + count) of a decoded tensor.
inline std::vector<float> decoded_run(const TensorSource& source, std::size_t tensor,
                                      std::uint64_t first, std::uint64_t count) {
  std::vector<float> values(count);
  source.read(tensor, first, std::as_writable_bytes(std::span(values)));
  return values;
}

// Whether two numbers have the same bits; all NaN are one.
inline bool same_float(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0;
}

// The same from their codes in place; nullopt where they have to be read.
inline std::optional<std::vector<float>> decoded_in_place(const TensorSource& source,
                                                          std::size_t tensor, std::uint64_t first,
                                                          std::uint64_t count) {
  // More than is used, as a tile is more than a grain.
  const std::uint64_t before = first / 2;
  const std::uint64_t after = (source.tensors()[tensor].elements - first - count) / 2;
  const auto codes = source.map_codes(tensor, first - before, before + count + after);
  if (codes == nullptr) return std::nullopt;
  std::vector<float> values(count);
  codes->decode(first, values.size(), values.data());
  codes->require_intact();
  return values;
}

// Checks that the decoded tensor has this shape and at every element what `formula` says, rounded
// once to float32, whether it is read whole or in runs, or decoded in place.
inline void expect_decoded(const TensorSource& source, const std::string& name,
                           const std::vector<std::uint64_t>& shape,
                           const std::function<double(std::uint64_t)>& formula) {
  SCOPED_TRACE(name);
  const auto index = source.find(name);
  ASSERT_TRUE(index);
  const TensorInfo& info = source.tensors()[*index];
  EXPECT_EQ(info.dtype, Dtype::F32);
  EXPECT_TRUE(info.nominal);
  ASSERT_EQ(info.shape, shape);
  const std::vector<float> whole = decoded_run(source, *index, 0, info.elements);
  for (std::uint64_t i = 0; i < info.elements; ++i) {
    ASSERT_TRUE(same_float(whole[i], static_cast<float>(formula(i))))
        << "element " << i << ": " << whole[i] << ", should be " << formula(i);
  }
  std::mt19937_64 random(1);
  for (int run = 0; run < 200; ++run) {
    const std::uint64_t first = random() % (info.elements + 1);
    const std::uint64_t most = run % 2 == 0 ? 9 : info.elements;
    const std::uint64_t count = random() % (std::min(most, info.elements - first) + 1);
    source.will_need(*index, first, count);
    const std::vector<float> part = decoded_run(source, *index, first, count);
    for (std::uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(same_float(part[i], whole[first + i])) << "run of " << count << " from " << first;
    }
    const auto in_place = decoded_in_place(source, *index, first, count);
    for (std::uint64_t i = 0; in_place && i < count; ++i) {
      ASSERT_TRUE(same_float((*in_place)[i], whole[first + i]))
          << "in place, run of " << count << " from " << first;
    }
  }
}

// Checks that opening `model` fails with `message`, and names tensor and file.
inline void expect_refused(QuantisedModel& model, const std::string& tensor,
                           const std::string& message, ErrorCode code = ErrorCode::Corrupt) {
  const Error error = error_of([&] { model.open(); });
  EXPECT_EQ(error.code(), code) << error.message();
  EXPECT_NE(error.message().find(message), std::string::npos) << error.message();
  EXPECT_NE(error.message().find("`" + tensor + "`"), std::string::npos) << error.message();
  const auto* place = std::get_if<TensorPlace>(&error.where());
  ASSERT_NE(place, nullptr) << error.message();
  EXPECT_EQ(place->tensor, tensor);
  EXPECT_EQ(place->source, "m/model.safetensors");
}

}  // namespace thorns::test
