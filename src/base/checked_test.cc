// Arithmetic that says so instead of wrapping around.
#include "base/checked.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace thorns {
namespace {

constexpr std::uint64_t kMost = UINT64_MAX;

TEST(Checked, SumsAndProductsUpToTheLast) {
  EXPECT_EQ(checked_add(kMost - 1, 1), kMost);
  EXPECT_EQ(checked_add(kMost, 1), std::nullopt);
  EXPECT_EQ(checked_mul(kMost, 1), kMost);
  EXPECT_EQ(checked_mul(1ULL << 32, 1ULL << 32), std::nullopt);
  EXPECT_EQ(checked_mul(kMost, 0), 0U);
}

TEST(Checked, ProductsOfShapes) {
  using Shape = std::vector<std::uint64_t>;
  EXPECT_EQ(checked_product(Shape{}), 1U);
  EXPECT_EQ(checked_product(Shape{3, 4, 5}), 60U);
  EXPECT_EQ(checked_product(Shape{3, 0, 5}), 0U);
  EXPECT_EQ(checked_product(Shape{1ULL << 33, 1ULL << 33}), std::nullopt);
  // As the reference reader: an overflow on the way counts, though a later zero would hide it.
  EXPECT_EQ(checked_product(Shape{1ULL << 33, 1ULL << 33, 0}), std::nullopt);
}

}  // namespace
}  // namespace thorns
