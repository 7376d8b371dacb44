// 8-bit floats times a scale, on every SIMD target of this machine, over all patterns, lengths
// around the vector width and unaligned ends, against the conversion of single numbers.
#include "checkpoint/byte_floats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/convert.h"
#include "kernel/kernels.h"

namespace thorns {
namespace {

class ByteFloats : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_simd_target(GetParam()); }
  void TearDown() override { force_simd_target(""); }
};

TEST_P(ByteFloats, EveryPatternAtEveryLengthIsTheProductRoundedOnce) {
  std::vector<std::uint8_t> codes(300);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
  for (const Dtype dtype : {Dtype::F8E4M3, Dtype::F8E5M2}) {
    for (const float scale : {1.0F, 0.1F, -3.0F, 0x1.fffffep-120F, 0x1.8p120F}) {
      for (const std::size_t count : {0, 1, 7, 8, 15, 16, 17, 31, 33, 256, 299}) {
        constexpr std::size_t kOffset = 3;  // no address of a float
        std::vector<std::byte> got(kOffset + count * sizeof(float) + 1, std::byte{0x5A});
        scale_byte_floats(dtype, codes.data() + 1, count, scale, got.data() + kOffset);
        for (std::size_t i = 0; i < count; ++i) {
          const std::uint8_t code = codes[i + 1];
          const double number =
              dtype == Dtype::F8E4M3 ? float_from_e4m3(code) : float_from_e5m2(code);
          const auto wanted = static_cast<float>(number * static_cast<double>(scale));
          float value = 0;
          std::memcpy(&value, got.data() + kOffset + i * sizeof(float), sizeof value);
          ASSERT_TRUE(std::isnan(wanted) ? std::isnan(value)
                                         : std::memcmp(&value, &wanted, sizeof value) == 0)
              << to_string(dtype) << " pattern " << int{code} << " times " << scale << ": " << value
              << ", should be " << wanted;
        }
        ASSERT_EQ(got.back(), std::byte{0x5A}) << "wrote past the end at length " << count;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ByteFloats, testing::ValuesIn(simd_targets()),
                         [](const auto& target) { return target.param; });

}  // namespace
}  // namespace thorns
