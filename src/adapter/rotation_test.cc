#include "adapter/rotation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace thorns {
namespace {

using Dense = std::vector<double>;  // square, row-major

Dense random_numbers(std::size_t count, double scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> distribution;
  Dense numbers(count);
  for (double& number : numbers) number = scale * distribution(random);
  return numbers;
}

Dense product(const Dense& a, const Dense& b, std::size_t size) {
  Dense result(size * size, 0.0);
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t k = 0; k < size; ++k) {
      for (std::size_t j = 0; j < size; ++j)
        result[i * size + j] += a[i * size + k] * b[k * size + j];
    }
  }
  return result;
}

Dense transpose(const Dense& a, std::size_t size) {
  Dense result(a.size());
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t j = 0; j < size; ++j) result[j * size + i] = a[i * size + j];
  }
  return result;
}

Dense plus_identity(Dense a, std::size_t size, double factor) {
  for (double& number : a) number *= factor;
  for (std::size_t i = 0; i < size; ++i) a[i * size + i] += 1;
  return a;
}

void expect_near(const Dense& got, const Dense& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t e = 0; e < got.size(); ++e) ASSERT_NEAR(got[e], expected[e], tolerance) << e;
}

TEST(Rotation, CayleyIsARotationAndSolvesItsEquation) {
  for (const std::size_t size : {1, 2, 5, 16, 33}) {
    for (const double scale : {0.0, 0.01, 1.0, 100.0}) {
      Dense q = random_numbers(size * size, scale, 1);
      make_skew(q, size, 1);
      Dense r = q;
      cayley(r, size);
      const double tolerance = 1e-13 * (1 + scale * scale);
      expect_near(product(r, plus_identity(q, size, 1), size), plus_identity(q, size, -1),
                  tolerance);
      expect_near(product(r, transpose(r, size), size), plus_identity(q, size, 0), tolerance);
      Dense turned = transpose(q, size);  // -Q
      cayley(turned, size);
      expect_near(turned, transpose(r, size), tolerance);
    }
  }
}

TEST(Rotation, SkewIsHalfTheDifference) {
  Dense q = {5, 1, 2, 7, 5, 3, -4, 8, 5};
  make_skew(q, 3, -2);
  EXPECT_EQ(q, (Dense{0, 6, -6, -6, 0, 5, 6, -5, 0}));
}

// All matrices along a diagonal; where there is one, again and again.
Dense diagonal(const Matrices& matrices, std::size_t columns) {
  Dense result(columns * columns, 0.0);
  const std::size_t size = matrices.size();
  for (std::size_t i = 0; i < columns; ++i) {
    const auto matrix = matrices[matrices.count() == 1 ? 0 : i / size];
    for (std::size_t j = 0; j < size; ++j)
      result[i * columns + i / size * size + j] = matrix[i % size * size + j];
  }
  return result;
}

Matrices random_matrices(std::size_t size, std::size_t count, unsigned seed) {
  Matrices matrices(size, count);
  const Dense numbers = random_numbers(count * size * size, 0.5, seed);
  for (std::size_t i = 0; i < count; ++i)
    std::copy_n(numbers.data() + i * size * size, size * size, matrices[i].data());
  return matrices;
}

TEST(Rotation, IsItsStepsOneAfterTheOther) {
  constexpr std::size_t kColumns = 24;
  constexpr std::size_t kRows = 5;
  std::vector<Rotation::Step> steps;
  Dense dense = plus_identity(Dense(kColumns * kColumns, 0.0), kColumns, 0);
  const std::pair<std::size_t, std::size_t> sizes[] = {{4, 6}, {8, 1}, {12, 2}};
  for (const auto& [size, count] : sizes) {
    Rotation::Step step{random_matrices(size, count, static_cast<unsigned>(size))};
    Dense order(kColumns * kColumns, 0.0);  // as a matrix: x = P y
    std::vector<std::size_t> places(kColumns);
    std::iota(places.begin(), places.end(), 0U);
    if (!steps.empty()) std::shuffle(places.begin(), places.end(), std::mt19937(7));
    for (std::size_t k = 0; k < kColumns; ++k) order[k * kColumns + places[k]] = 1;
    if (!steps.empty()) step.order = places;
    // x^T becomes x^T P D P^T.
    dense = product(dense, order, kColumns);
    dense = product(dense, diagonal(step.matrices, kColumns), kColumns);
    dense = product(dense, transpose(order, kColumns), kColumns);
    steps.push_back(std::move(step));
  }
  const Dense from = random_numbers(kRows * kColumns, 1.0, 3);
  const Dense factors = {9, 9, 1, 2, 3, 4, 5, 9};  // the rows at hand are 2 to 6
  Dense to(from.size());
  const Rotation rotation(std::move(steps), kColumns, factors);
  rotation.apply(2 * kColumns, from, to);
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t column = 0; column < kColumns; ++column) {
      double sum = 0;
      for (std::size_t k = 0; k < kColumns; ++k)
        sum += from[row * kColumns + k] * dense[k * kColumns + column];
      ASSERT_NEAR(to[row * kColumns + column], factors[2 + row] * sum, 1e-11);
    }
  }
}

}  // namespace
}  // namespace thorns
