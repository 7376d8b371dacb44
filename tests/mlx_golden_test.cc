// Adapters in the layout of mlx-lm, against what its own layers fuse.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/golden_fold.h"

namespace thorns {
namespace {

TEST(MlxGolden, FoldsAsMlxDoes) {
  std::size_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(THORNS_TEST_DATA "/golden/mlx")) {
    const std::string folder = entry.path();
    SCOPED_TRACE(folder);
    ++cases;
    const test::Numbers base = test::numbers_of(folder + "/base.safetensors");
    const test::Numbers expected = test::numbers_of(folder + "/expected.safetensors");
    test::expect_near(test::folded(folder + "/base.safetensors", folder + "/adapter"), expected,
                      2e-6);
    for (const auto& [name, right] : expected) EXPECT_NE(right, base.at(name)) << name;
  }
  EXPECT_EQ(cases, 2U);
}

}  // namespace
}  // namespace thorns
