// Quantised checkpoints that the libraries of their formats made, against what those libraries
// decode them to.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "checkpoint/checkpoint.h"
#include "support/quantised_model.h"

namespace thorns {
namespace {

const std::string kQuantisedGolden = std::string(THORNS_TEST_DATA) + "/golden/quantised/";

// Checks that `expected` holds the last elements of the decoded tensor of its name.
void compare(const TensorSource& decoded, const TensorSource& expected, std::size_t tensor,
             float tolerance) {
  const TensorInfo& info = expected.tensors()[tensor];
  SCOPED_TRACE(info.name);
  const auto index = decoded.find(info.name);
  ASSERT_TRUE(index);
  const std::uint64_t all = decoded.tensors()[*index].elements;
  ASSERT_GE(all, info.elements);
  ASSERT_EQ(decoded.tensors()[*index].shape.back(), info.shape.back());
  ASSERT_EQ(info.dtype, Dtype::F32);
  const auto want = test::decoded_run(expected, tensor, 0, info.elements);
  const auto got = test::decoded_run(decoded, *index, all - info.elements, info.elements);
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (tolerance == 0) {
      ASSERT_TRUE(test::same_float(got[i], want[i])) << i << ": " << got[i] << ", " << want[i];
    } else {
      ASSERT_LE(std::fabs(got[i] - want[i]), tolerance * std::fabs(want[i])) << i;
    }
  }
}

TEST(QuantisedGolden, DecodesAsTheLibrariesDo) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kQuantisedGolden)) {
    if (!entry.is_directory()) continue;
    const std::string folder = entry.path().string();
    SCOPED_TRACE(folder);
    ++count;
    const auto checkpoint = open_checkpoint(real_disk(), folder);
    const auto expected = open_checkpoint(real_disk(), folder + "/expected.safetensors");
    EXPECT_FALSE(checkpoint->quantisation().empty());
    EXPECT_EQ(checkpoint->tensors().size(), expected->tensors().size());
    const bool divides = folder.ends_with("bitsandbytes-int8");
    for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
      compare(*checkpoint, *expected, i, divides ? std::numeric_limits<float>::epsilon() : 0);
    }
  }
  EXPECT_EQ(count, 16U);
}

}  // namespace
}  // namespace thorns
