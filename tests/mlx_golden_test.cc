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
    const test::Numbers written = test::folded(folder + "/base.safetensors", folder + "/adapter");
    ASSERT_EQ(written.size(), expected.size());
    for (const auto& [name, right] : expected) {
      const std::vector<double>& got = written.at(name);
      EXPECT_NE(right, base.at(name)) << name;
      ASSERT_EQ(got.size(), right.size()) << name;
      for (std::size_t k = 0; k < right.size(); ++k) {
        ASSERT_NEAR(got[k], right[k], 2e-6) << name << " " << k;
      }
    }
  }
  EXPECT_EQ(cases, 2U);
}

}  // namespace
}  // namespace thorns
