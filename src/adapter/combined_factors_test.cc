#include "adapter/combined_factors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace thorns {
namespace {

Combination with(const char* rule, double density = 1) {
  Combination how;
  how.rule = *find_combination_rule(rule);
  how.density = density;
  how.svd_rank = 1000;
  return how;
}

FactorPair random_pair(std::uint64_t rows, std::uint64_t columns, std::uint64_t rank,
                       unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  FactorPair pair{1.0, 1.0, rank, {}, {}};
  for (std::uint64_t i = 0; i < rank * columns; ++i) pair.a.push_back(normal(random));
  for (std::uint64_t i = 0; i < rows * rank; ++i) pair.b.push_back(normal(random));
  return pair;
}

std::vector<double> product(const FactorPair& pair, std::uint64_t rows, std::uint64_t columns) {
  std::vector<double> sum(rows * columns);
  for (std::uint64_t i = 0; i < rows; ++i) {
    for (std::uint64_t k = 0; k < pair.rank; ++k) {
      for (std::uint64_t j = 0; j < columns; ++j) {
        sum[i * columns + j] +=
            pair.weight * pair.scale * pair.b[i * pair.rank + k] * pair.a[k * columns + j];
      }
    }
  }
  return sum;
}

// Ranks above, between and below the sides of the matrix.
TEST(CombinedFactors, AnSvdThatMayKeepAllIsTheSum) {
  for (const auto& [rows, columns, rank] :
       {std::tuple{3U, 20U, 5U}, {20U, 3U, 5U}, {9U, 9U, 2U}, {4U, 6U, 6U}, {1U, 7U, 1U}}) {
    SCOPED_TRACE(rank);
    const std::vector<FactorPair> pairs = {random_pair(rows, columns, rank, 1),
                                           random_pair(rows, columns, rank + 1, 2)};
    std::vector<double> expected = product(pairs[0], rows, columns);
    const std::vector<double> second = product(pairs[1], rows, columns);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += second[i];
    for (const char* rule : {"svd", "magnitude_prune_svd"}) {
      const FactorPair made = combine_factors(with(rule), pairs, rows, columns, 0);
      ASSERT_EQ(made.a.size(), made.rank * columns);
      ASSERT_EQ(made.b.size(), made.rank * rows);
      const std::vector<double> got = product(made, rows, columns);
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-10);
    }
  }
}

TEST(CombinedFactors, DareKeepsAPartAndDividesIt) {
  const FactorPair pair = random_pair(1, 10000, 1, 3);
  FactorPair nothing = pair;
  nothing.weight = 0;
  const auto made = combine_factors(with("dare_linear", 0.25), {pair, nothing}, 1, 10000, 7);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < pair.a.size(); ++i) {
    if (made.a[i] == 0) continue;
    ++kept;
    ASSERT_EQ(made.a[i], pair.a[i] / 0.25);
  }
  EXPECT_NEAR(static_cast<double>(kept), 2500, 5 * std::sqrt(10000 * 0.25 * 0.75));
  EXPECT_EQ(made.a, combine_factors(with("dare_linear", 0.25), {pair, nothing}, 1, 10000, 7).a);
  EXPECT_NE(made.a, combine_factors(with("dare_linear", 0.25), {pair, nothing}, 1, 10000, 8).a);
}

// Of three, two agree: by number they win, by sum the third does.
TEST(CombinedFactors, SignsAreElectedBySumOrByNumber) {
  std::vector<FactorPair> pairs;
  for (const double value : {1.0, 2.0, -9.0}) pairs.push_back({1.0, 1.0, 1, {value}, {1}});
  Combination how = with("ties");
  EXPECT_EQ(combine_factors(how, pairs, 1, 1, 0).a.at(0), -9);
  how.by_frequency = true;
  EXPECT_EQ(combine_factors(how, pairs, 1, 1, 0).a.at(0), 1.5);
}

TEST(CombinedFactors, OfEqualMagnitudesTheFirstAreKept) {
  const FactorPair pair{1.0, 1.0, 1, {1, -1, 1, 1}, {1}};
  const FactorPair none{0.0, 1.0, 1, {0, 0, 0, 0}, {1}};
  EXPECT_EQ(combine_factors(with("magnitude_prune", 0.5), {pair, none}, 1, 4, 0).a,
            (std::vector<double>{1, -1, 0, 0}));
}

TEST(CombinedFactors, WhatIsNotFiniteStaysSo) {
  FactorPair bad = random_pair(4, 5, 2, 1);
  bad.b[3] = std::numeric_limits<double>::infinity();
  for (const CombinationRule& rule : combination_rules()) {
    SCOPED_TRACE(rule.name);
    Combination how = with("cat", 0.5);
    how.rule = rule;
    const auto made = combine_factors(how, {random_pair(4, 5, 2, 2), bad}, 4, 5, 0);
    EXPECT_EQ(made.b.size(), 4 * made.rank);
    EXPECT_TRUE(std::isnan(made.a.at(0)));
  }
}

}  // namespace
}  // namespace thorns
