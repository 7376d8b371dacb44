// Every kernel on every SIMD target of this machine, over lengths around the vector width and
// unaligned starts, against its float64 twin.
#include "kernel/kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "kernel/reference.h"

namespace thorns {
namespace {

class Kernels : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_simd_target(GetParam()); }
  void TearDown() override { force_simd_target(""); }
  std::mt19937_64 random{42};

  std::vector<float> normal(std::size_t count, double scale = 0.05) {
    std::normal_distribution<double> distribution(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(distribution(random));
    return values;
  }
  // The same as a kernel sees them: float64 of 24 bits, padded with zeros, one element in front so
  // that runs can start unaligned.
  std::vector<double> run(std::size_t count, double scale = 0.05) {
    std::vector<double> values(1 + padded(count), 0.0);
    const auto from = normal(count, scale);
    std::copy(from.begin(), from.end(), values.begin() + 1);
    return values;
  }
};

const std::vector<std::size_t> kLengths = {0,  1,  2,  7,  8,   9,    15,  16,
                                           17, 31, 33, 63, 100, 1023, 1024};

TEST_P(Kernels, WidenIsExactForEveryPatternOf16Bits) {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  const auto* const bytes = reinterpret_cast<const std::byte*>(patterns.data());
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    std::vector<double> got(patterns.size());
    widen(dtype, bytes, got.size(), got.data());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double expected = reference::load(dtype, bytes, i);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(got[i])) << to_string(dtype) << " pattern " << i;
      } else {
        ASSERT_EQ(std::bit_cast<std::uint64_t>(got[i]), std::bit_cast<std::uint64_t>(expected))
            << to_string(dtype) << " pattern " << i;
      }
      ASSERT_EQ(all_finite(dtype, bytes + 2 * i, 1), std::isfinite(expected)) << i;
    }
  }
}

TEST_P(Kernels, WidenAtEveryLengthAndOffset) {
  std::vector<std::byte> stored;
  for (const float value : normal(1200)) reference::store(Dtype::BF16, value, stored);
  for (const std::size_t count : kLengths) {
    for (const std::size_t offset : {0, 1, 3}) {
      std::vector<double> got(padded(count) + 1, -7.0);
      widen(Dtype::BF16, stored.data() + 2 * offset, count, got.data());
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(got[i], reference::load(Dtype::BF16, stored.data(), i + offset));
      }
      for (std::size_t i = count; i < padded(count); ++i) ASSERT_EQ(got[i], 0.0);
      ASSERT_EQ(got[padded(count)], -7.0) << "wrote past the end at length " << count;
    }
  }
}

TEST_P(Kernels, DoublesAreExactOrRoundedToNearest) {
  const std::vector<double> from = {1.0, 1.0 + 1e-9, -3.25, 1e-50, 1e39};
  std::vector<double> got(padded(from.size()));
  widen(Dtype::F64, reinterpret_cast<const std::byte*>(from.data()), from.size(), got.data());
  for (std::size_t i = 0; i < from.size(); ++i) EXPECT_EQ(got[i], from[i]);
  widen_to_24_bits(Dtype::F64, reinterpret_cast<const std::byte*>(from.data()), from.size(),
                   got.data());
  for (std::size_t i = 0; i < from.size(); ++i)
    EXPECT_EQ(got[i], static_cast<double>(static_cast<float>(from[i])));
  EXPECT_TRUE(all_finite(Dtype::F64, reinterpret_cast<const std::byte*>(from.data()), from.size()));
}

TEST_P(Kernels, FiniteFindsOneBadElementAnywhere) {
  for (const Dtype dtype : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
    for (std::size_t bad = 0; bad < 70; ++bad) {
      std::vector<std::byte> stored;
      for (std::size_t i = 0; i < 70; ++i)
        reference::store(dtype, i == bad ? -INFINITY : 1.5, stored);
      EXPECT_FALSE(all_finite(dtype, stored.data(), 70)) << bad;
      EXPECT_TRUE(all_finite(dtype, stored.data(), bad));
    }
  }
}

TEST_P(Kernels, GramMatchesTheTwin) {
  for (std::size_t n = 1; n <= 13; ++n) {
    for (const std::size_t count : {8, 16, 24, 512}) {
      std::vector<std::vector<double>> values;
      std::vector<const double*> pointers;
      for (std::size_t i = 0; i < n; ++i) values.push_back(run(count));
      for (const auto& v : values) pointers.push_back(v.data() + 1);
      std::vector<double> lanes(pairs(n) * kLanes, 0.0);
      gram(pointers.data(), n, count, lanes.data());
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = i; j < n; ++j) {
          const double expected = reference::dot(values[i], values[j]);
          const double scale = std::sqrt(reference::dot(values[i], values[i]) *
                                         reference::dot(values[j], values[j]));
          ASSERT_NEAR(sum_lanes(lanes.data() + pair_index(i, j, n) * kLanes), expected,
                      1e-14 * scale)
              << n << " vectors of " << count << ": " << i << ", " << j;
        }
      }
    }
  }
}

TEST_P(Kernels, GramNeitherOverflowsNorUnderflows) {
  const std::vector<double> large(8, static_cast<double>(3e38F));
  const std::vector<double> small(8, static_cast<double>(1e-40F));
  const double* const pointers[] = {large.data(), small.data()};
  std::vector<double> lanes(pairs(2) * kLanes, 0.0);
  gram(pointers, 2, 8, lanes.data());
  EXPECT_NEAR(sum_lanes(lanes.data()) / (8 * 9e76), 1.0, 1e-6);
  EXPECT_GT(sum_lanes(lanes.data() + 2 * kLanes), 0.0);
}

TEST_P(Kernels, MultiplyRowsSumsInOrder) {
  for (const std::size_t size : {1, 2, 5, 8, 9, 16, 33, 68}) {
    for (const std::size_t rows : {1, 3, 4, 9, 13}) {
      const std::size_t stride = size + 3;
      const auto from = run(rows * stride);
      const auto matrix = run(size * size);
      std::vector<double> got(rows * stride, -7.0);
      multiply_rows(from.data() + 1, rows, stride, matrix.data() + 1, size, got.data());
      for (std::size_t e = 0; e < got.size(); ++e) {
        const std::size_t column = e % stride;
        double expected = column < size ? 0.0 : -7.0;
        for (std::size_t k = 0; column < size && k < size; ++k)
          expected += from[1 + e - column + k] * matrix[1 + k * size + column];
        ASSERT_EQ(got[e], expected) << size << " x " << rows << ": " << e;
      }
    }
  }
}

TEST_P(Kernels, LowRankIsChainsOfFusedMultiplyAdds) {
  for (const std::size_t rank : {1, 2, 5, 16, 17, 32, 75}) {
    for (const std::size_t columns : {1, 5, 31, 32, 33, 64, 100}) {
      const std::size_t rows = 11;
      const auto u = normal(rows * rank, 1.0);
      const auto v = normal(rank * columns, 1.0);
      std::vector<float> packed(packed_size(rank, columns));
      pack_panels(v.data(), rank, columns, packed.data());
      for (const std::size_t first : {std::size_t{0}, std::size_t{3}, columns, 2 * columns + 1}) {
        for (const std::size_t count :
             {std::size_t{1}, columns, 5 * columns + 2, rows * columns - first}) {
          if (first + count > rows * columns) continue;
          std::vector<float> got(count + 1, -7.0F);
          low_rank(u.data(), packed.data(), rank, columns, first, count, got.data());
          for (std::size_t e = 0; e < count; ++e) {
            const std::size_t row = (first + e) / columns;
            const std::size_t column = (first + e) % columns;
            float expected = 0;
            float error = 0;
            for (std::size_t k = 0; k < rank;) {
              float chain = 0;
              for (const std::size_t end = std::min(rank, k + kRankBlock); k < end; ++k)
                chain = std::fma(u[row * rank + k], v[k * columns + column], chain);
              const float before = expected;
              expected += chain;
              const float added = expected - before;
              error += (before - (expected - added)) + (chain - added);
            }
            expected += error;
            ASSERT_EQ(std::bit_cast<std::uint32_t>(got[e]), std::bit_cast<std::uint32_t>(expected))
                << "rank " << rank << " columns " << columns << " first " << first << " element "
                << e;
          }
          ASSERT_EQ(got[count], -7.0F);
        }
      }
    }
  }
}

// The emulation of fused multiply-add must also hold where sums cancel and signs differ.
TEST_P(Kernels, FusedMultiplyAddIsExactWhereSumsCancel) {
  const std::size_t columns = 4096;
  std::vector<float> v(2 * columns);
  std::uniform_int_distribution<int> bits(1, 1 << 24);
  for (std::size_t c = 0; c < columns; ++c) {
    v[c] = static_cast<float>(bits(random));
    v[columns + c] = -std::nextafter(v[c] * 0.333333343F, static_cast<float>(c % 3));
  }
  const std::vector<float> u = {0.333333343F, 1.0F + 0x1p-23F};
  std::vector<float> packed(packed_size(2, columns));
  pack_panels(v.data(), 2, columns, packed.data());
  std::vector<float> got(columns);
  low_rank(u.data(), packed.data(), 2, columns, 0, columns, got.data());
  for (std::size_t c = 0; c < columns; ++c) {
    const float expected = std::fma(u[1], v[columns + c], std::fma(u[0], v[c], 0.0F));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[c]), std::bit_cast<std::uint32_t>(expected)) << c;
  }
}

TEST_P(Kernels, BlendRoundsTheFloat64SumOnce) {
  const std::vector<double> raw = {0.3, -1.7, 0.81, 2.5e-3};
  for (const Dtype dtype : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
    for (const std::size_t n : {1, 2, 4}) {
      for (const std::size_t count : kLengths) {
        std::vector<std::vector<double>> values;
        std::vector<const double*> pointers;
        std::vector<double> coefficients;
        for (std::size_t i = 0; i < n; ++i) {
          values.push_back(run(count, i == 0 ? 1e-6 : 1.0));
          coefficients.push_back(raw[i]);
        }
        for (const auto& v : values) pointers.push_back(v.data() + 1);
        std::vector<std::byte> got((count + 1) * size_of(dtype), std::byte{0xAB});
        RoundingCounts counts;
        blend(pointers.data(), coefficients.data(), n, count, dtype, got.data(), counts);
        std::uint64_t rounded = 0;
        for (std::size_t e = 0; e < count; ++e) {
          double sum = 0;
          for (std::size_t i = 0; i < n; ++i) sum += coefficients[i] * values[i][e + 1];
          const double stored = reference::load(dtype, got.data(), e);
          ASSERT_EQ(stored, reference::round_to(dtype, sum)) << to_string(dtype) << " " << e;
          rounded += stored != sum ? 1U : 0U;
        }
        EXPECT_EQ(counts.rounded, rounded);
        EXPECT_EQ(counts.nonfinite, 0U);
        ASSERT_EQ(got[count * size_of(dtype)], std::byte{0xAB}) << "wrote past the end";
      }
    }
  }
}

// From the stored elements of mixed types and unaligned starts, against widen() and blend().
TEST_P(Kernels, BlendStoredGivesTheBitsOfBlend) {
  const std::vector<Dtype> types = {Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64, Dtype::F16};
  std::normal_distribution<double> distribution(0, 0.05);
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16, Dtype::F32}) {
    for (std::size_t n = 1; n <= types.size(); ++n) {
      for (const std::size_t count : {std::size_t{0}, kBlendStep, 3 * kBlendStep, kChunk}) {
        std::vector<std::vector<std::byte>> stored(n);
        std::vector<StoredRun> runs;
        std::vector<std::vector<double>> values;
        std::vector<const double*> pointers;
        std::vector<double> coefficients;
        for (std::size_t i = 0; i < n; ++i) {
          for (std::size_t e = 0; e <= count; ++e) {
            const double value = distribution(random);
            if (types[i] == Dtype::F64) {
              const auto* const bytes = reinterpret_cast<const std::byte*>(&value);
              stored[i].insert(stored[i].end(), bytes, bytes + sizeof(value));
            } else {
              reference::store(types[i], value, stored[i]);
            }
          }
          runs.push_back({stored[i].data() + size_of(types[i]), types[i]});
          widen(types[i], runs[i].from, count, values.emplace_back(count + kLanes).data());
          coefficients.push_back(distribution(random));
        }
        for (const auto& v : values) pointers.push_back(v.data());
        const std::size_t bytes = count * size_of(dtype);
        std::vector<std::byte> expected(bytes + 1, std::byte{0xAB});
        std::vector<std::byte> got(bytes + 1, std::byte{0xAB});
        RoundingCounts expected_counts;
        RoundingCounts counts;
        blend(pointers.data(), coefficients.data(), n, count, dtype, expected.data(),
              expected_counts);
        EXPECT_TRUE(
            blend_stored(runs.data(), coefficients.data(), n, count, dtype, got.data(), counts));
        ASSERT_EQ(got, expected) << to_string(dtype) << ", " << n << " runs of " << count;
        EXPECT_EQ(counts.rounded, expected_counts.rounded);
        EXPECT_EQ(counts.nonfinite, 0U);
      }
    }
  }
}

TEST_P(Kernels, BlendStoredLeavesNanAndOverflowToBlend) {
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    for (std::size_t bad = 0; bad < 2 * kBlendStep; ++bad) {
      for (const double value : {double{NAN}, double{INFINITY}, 3.4e38}) {
        std::vector<float> values(2 * kBlendStep, 0.1F);
        values[bad] = static_cast<float>(value);
        const StoredRun run{reinterpret_cast<const std::byte*>(values.data()), Dtype::F32};
        const double scale = 2.0;
        std::vector<std::byte> got(values.size() * 2);
        RoundingCounts counts;
        EXPECT_FALSE(blend_stored(&run, &scale, 1, values.size(), dtype, got.data(), counts))
            << to_string(dtype) << " " << bad << ": " << value;
        EXPECT_EQ(counts.rounded, 0U);
      }
    }
  }
}

// Around every midpoint between two neighbours of a 16-bit type: at it, a little below, a little
// above.
TEST_P(Kernels, BlendRoundsTiesNearTiesAndSubnormals) {
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    std::vector<double> values;
    std::vector<double> halves;
    const std::uint32_t stride = dtype == Dtype::F16 ? 1 : 7;
    for (std::uint32_t pattern = 0; pattern < 0x7C00; pattern += stride) {
      const auto bits = static_cast<std::uint16_t>(pattern);
      const double value = reference::load(dtype, reinterpret_cast<const std::byte*>(&bits), 0);
      const double half = reference::ulp(dtype, value) / 2;
      for (const double sign : {1.0, -1.0}) {
        values.push_back(sign * value);
        halves.push_back(sign * half);
      }
    }
    values.resize(padded(values.size()));
    halves.resize(values.size());
    const double* const pointers[] = {values.data(), halves.data()};
    for (const double nudge : {1.0, 1.0 + 1e-8, 1.0 - 1e-8, 0.0, 1e-9}) {
      const double coefficients[] = {1.0, nudge};
      std::vector<std::byte> got(values.size() * 2);
      RoundingCounts counts;
      blend(pointers, coefficients, 2, values.size(), dtype, got.data(), counts);
      for (std::size_t e = 0; e < values.size(); ++e) {
        const double sum = values[e] + coefficients[1] * halves[e];
        if (std::abs(sum) < 0x1p-120) continue;  // documented: rounded twice below 2^-126
        ASSERT_EQ(reference::load(dtype, got.data(), e), reference::round_to(dtype, sum))
            << to_string(dtype) << " " << values[e] << " + " << halves[e] << " * "
            << coefficients[1];
      }
    }
  }
}

// Which NaN comes of an operation, its sign and payload, is up to the CPU and to the compiler.
TEST_P(Kernels, BlendStoresOneNan) {
  const double with_payload = std::bit_cast<double>(std::uint64_t{0xFFF0123456789ABC});
  std::vector<double> a = {NAN, -NAN, INFINITY, -INFINITY, with_payload, 1.0, 1.0, 1.0};
  std::vector<double> b = {1.0, 1.0, -INFINITY, INFINITY, 1.0, -with_payload, NAN, -NAN};
  const double* const vectors[] = {a.data(), b.data()};
  const double coefficients[] = {1.0, 1.0};
  for (const auto& [dtype, nan] : {std::pair{Dtype::F32, std::uint32_t{0x7FC00000}},
                                   {Dtype::F16, std::uint32_t{0x7E00}},
                                   {Dtype::BF16, std::uint32_t{0x7FC0}}}) {
    std::vector<std::byte> got(a.size() * size_of(dtype));
    RoundingCounts counts;
    blend(vectors, coefficients, 2, a.size(), dtype, got.data(), counts);
    EXPECT_EQ(counts.nonfinite, a.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, got.data() + i * size_of(dtype), size_of(dtype));
      EXPECT_EQ(bits, nan) << to_string(dtype) << " element " << i;
    }
  }
}

TEST_P(Kernels, BlendCountsOverflowAndNan) {
  std::vector<double> values = {1.0, 70000.0, -65519.0, NAN, 65520.0, INFINITY};
  const std::size_t count = values.size();
  values.resize(padded(count));
  const double* const pointers[] = {values.data()};
  const double one[] = {1.0};
  std::vector<std::byte> got(count * 2);
  RoundingCounts counts;
  blend(pointers, one, 1, count, Dtype::F16, got.data(), counts);
  EXPECT_EQ(counts.clipped, 2U);
  EXPECT_EQ(counts.nonfinite, 4U);
  EXPECT_EQ(reference::load(Dtype::F16, got.data(), 2), -65504.0);
  EXPECT_TRUE(std::isnan(reference::load(Dtype::F16, got.data(), 3)));
}

// One line of fingerprints per target would hide which kernel differs; so compare bytes target by
// target.
TEST(KernelTargets, AllGiveTheSameBits) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> distribution(0, 0.02);
  std::vector<std::vector<double>> vectors(5, std::vector<double>(kChunk));
  std::vector<const double*> pointers;
  for (auto& v : vectors) {
    for (double& value : v) value = static_cast<double>(static_cast<float>(distribution(random)));
    pointers.push_back(v.data());
  }
  const std::vector<double> coefficients(5, 0.21);
  std::vector<double> first_lanes;
  std::vector<std::byte> first_bytes;
  for (const std::string& target : simd_targets()) {
    force_simd_target(target);
    std::vector<double> lanes(pairs(5) * kLanes, 0.0);
    gram(pointers.data(), 5, kChunk, lanes.data());
    std::vector<std::byte> bytes(kChunk * 2);
    RoundingCounts counts;
    blend(pointers.data(), coefficients.data(), 5, kChunk, Dtype::F16, bytes.data(), counts);
    if (first_lanes.empty()) {
      first_lanes = lanes;
      first_bytes = bytes;
    }
    EXPECT_EQ(std::memcmp(lanes.data(), first_lanes.data(), lanes.size() * sizeof(double)), 0)
        << target;
    EXPECT_EQ(bytes, first_bytes) << target;
  }
  force_simd_target("");
}

INSTANTIATE_TEST_SUITE_P(Targets, Kernels, testing::ValuesIn(simd_targets()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace thorns
