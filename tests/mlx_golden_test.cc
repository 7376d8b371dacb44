// Adapters in the layout of mlx-lm, against what its own layers fuse.
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "adapter/numbers.h"
#include "checkpoint/weights_file.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

TEST(MlxGolden, FoldsAsMlxDoes) {
  std::size_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(THORNS_TEST_DATA "/golden/mlx")) {
    const std::string folder = entry.path();
    SCOPED_TRACE(folder);
    ++cases;
    const test::TempFolder out;
    MergeOptions options;
    options.recipe = "Base[L]";
    options.inputs.models = {{"Base", folder + "/base.safetensors"}};
    options.inputs.adapters = {{"L", folder + "/adapter"}};
    options.output = out / "merged";
    Observer silent;
    merge(options, silent);

    const auto base = open_weights(real_disk(), folder + "/base.safetensors");
    const auto expected = open_weights(real_disk(), folder + "/expected.safetensors");
    const auto written = open_weights(real_disk(), out / "merged/model.safetensors");
    ASSERT_EQ(written->tensors().size(), expected->tensors().size());
    for (std::size_t i = 0; i < expected->tensors().size(); ++i) {
      const std::string& name = expected->tensors()[i].name;
      const std::vector<double> right = read_numbers(*expected, i);
      const std::vector<double> got = read_numbers(*written, written->find(name).value());
      EXPECT_NE(right, read_numbers(*base, base->find(name).value())) << name;
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
