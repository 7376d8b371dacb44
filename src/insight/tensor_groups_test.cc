#include "insight/tensor_groups.h"

#include <gtest/gtest.h>

namespace thorns {
namespace {

std::vector<std::string> names_of(const std::vector<std::string>& tensors, bool fold = true) {
  std::vector<GroupedTensor> all;
  for (const std::string& name : tensors) all.push_back({name, {2, 3}, "F32", 6, 24});
  std::vector<std::string> names;
  for (const TensorGroup& group : group_tensors(all, fold)) names.push_back(group.name);
  return names;
}

using Names = std::vector<std::string>;

TEST(TensorGroups, NumbersAreFoldedIntoRanges) {
  EXPECT_EQ(names_of({"h.2.w", "h.0.w", "h.1.w", "h.10.w"}), Names{"h.{0..2,10}.w"});
  EXPECT_EQ(names_of({"h.3.w", "h.4.w"}), Names{"h.{3,4}.w"});
  EXPECT_EQ(names_of({"h.0.e.0.w", "h.0.e.1.w", "h.1.e.0.w"}), Names{"h.{0,1}.e.{0,1}.w"});
  EXPECT_EQ(names_of({"h.7.w"}), Names{"h.7.w"});
  EXPECT_EQ(names_of({"h.0.w", "h.2.w", "h.4.w", "h.6.w", "h.8.w", "h.10.w"}),
            Names{"h.{0,2,4,6,...}.w"});
}

TEST(TensorGroups, OnlyWholeNumbersCountAndNothingElse) {
  EXPECT_EQ(names_of({"conv1.w", "conv2.w"}), (Names{"conv1.w", "conv2.w"}));
  EXPECT_EQ(names_of({"h.01.w", "h.1.w"}), (Names{"h.01.w", "h.1.w"}));
  EXPECT_EQ(names_of({"h.9999999999.w", "h.1.w"}), (Names{"h.1.w", "h.9999999999.w"}));
  EXPECT_EQ(names_of({"", ".", "a..1", "a..2"}), (Names{"", ".", "a..{1,2}"}));
}

TEST(TensorGroups, NothingIsFoldedUnlessAsked) {
  EXPECT_EQ(names_of({"h.10.w", "h.2.w"}, false), (Names{"h.2.w", "h.10.w"}));
}

TEST(TensorGroups, ShapesAndTypesAreApart) {
  const auto groups = group_tensors({{"h.0.w", {2, 3}, "F32", 6, 24},
                                     {"h.1.w", {2, 3}, "F32", 6, 24},
                                     {"h.2.w", {2, 4}, "F32", 8, 32},
                                     {"h.3.w", {2, 3}, "Q4_K", 6, 4}},
                                    true);
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].name, "h.{0,1}.w");
  EXPECT_EQ(groups[0].elements, 12U);
  EXPECT_EQ(groups[0].bytes, 48U);
  EXPECT_EQ(groups[1].shape, (std::vector<std::uint64_t>{2, 4}));
  EXPECT_EQ(groups[2].type, "Q4_K");
}

}  // namespace
}  // namespace thorns
