#include "adapter/ia3.h"

#include <gtest/gtest.h>

#include "adapter/adapter.h"
#include "support/byte_disk.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

// The inputs of a convolution are those of all its groups, its weight's those of one.
TEST(Ia3, EveryGroupOfAConvolutionHasFactorsOfItsOwn) {
  test::SafetensorsBuilder builder;
  builder.add("base_model.model.m.ia3_l", Dtype::F32, {1, 4, 1, 1}, {2, 3, 5, 7});
  test::ByteDisk disk;
  disk.files["a/adapter_config.json"] = R"({"peft_type":"IA3","feedforward_modules":["m"]})";
  disk.files["a/adapter_model.safetensors"] = builder.bytes();
  const auto adapter = open_adapter(disk, "a");
  const auto& change = dynamic_cast<const MapChange&>(*adapter->updates().at(0).change);
  EXPECT_TRUE(change.fits({{6, 4, 1, 2}}));
  EXPECT_FALSE(change.fits({{6, 3, 1, 2}}));
  EXPECT_FALSE(change.fits({{7, 2, 1, 2}}));
  const BaseTensor grouped{{4, 2, 1, 2}};  // two groups of two outputs
  ASSERT_TRUE(change.fits(grouped));
  const std::vector<double> ones(13, 1.0);
  std::vector<double> scaled(13);
  change.load(adapter->source(), grouped)->apply(3, ones, scaled);
  EXPECT_EQ(scaled, (std::vector<double>{3, 2, 2, 3, 3, 5, 5, 7, 7, 5, 5, 7, 7}));
}

}  // namespace
}  // namespace thorns
