#include "adapter/fourier.h"

#include <gtest/gtest.h>

#include <numbers>

namespace thorns {
namespace {

TEST(Fourier, IsTheSumOverAllFrequencies) {
  for (const std::size_t length : {1, 2, 3, 4, 6, 8, 12, 16, 35, 64, 97, 120, 256, 11 * 13 * 4}) {
    SCOPED_TRACE(length);
    std::vector<std::complex<double>> values(length);
    for (std::size_t c = 0; c < length; ++c)
      values[c] = {std::cos(static_cast<double>(3 * c)), std::sin(static_cast<double>(c * c))};
    const auto spectrum = values;
    std::vector<std::complex<double>> scratch;
    InverseTransform(length).apply(values, scratch);
    for (std::size_t j = 0; j < length; ++j) {
      std::complex<double> sum = 0;
      for (std::size_t c = 0; c < length; ++c) {
        const double part = static_cast<double>(c * j % length) / static_cast<double>(length);
        sum += spectrum[c] * std::polar(1.0, 2 * std::numbers::pi * part);
      }
      ASSERT_NEAR(std::abs(values[j] - sum), 0, 1e-12 * static_cast<double>(length)) << j;
    }
  }
}

}  // namespace
}  // namespace thorns
