#include "kernel/reference.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace thorns::reference {
namespace {

struct Format {
  int precision;  // significant bits
  int least;      // exponent of the smallest normal number: 2^least
  int most;       // largest finite numbers are below 2^(most + 1)
  int fraction;   // stored bits of the significand
};

Format format(Dtype dtype) {
  switch (dtype) {
    case Dtype::F16:
      return {11, -14, 15, 10};
    case Dtype::BF16:
      return {8, -126, 127, 7};
    default:
      return {24, -126, 127, 23};
  }
}

template <class T>
T bits_at(const std::byte* from, std::size_t index) {
  T bits{};
  std::memcpy(&bits, from + index * sizeof(T), sizeof(T));
  return bits;
}

double load_half(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

// The exponent that decides the spacing of the format's numbers around |value|.
int spacing_exponent(const Format& f, double value) {
  const int exponent = value == 0 ? f.least : std::ilogb(value);
  return std::max(exponent, f.least) - (f.precision - 1);
}

}  // namespace

double load(Dtype dtype, const std::byte* from, std::size_t index) {
  switch (dtype) {
    case Dtype::F64:
      return bits_at<double>(from, index);
    case Dtype::F16:
      return load_half(bits_at<std::uint16_t>(from, index));
    case Dtype::BF16:
      return std::bit_cast<float>(static_cast<std::uint32_t>(bits_at<std::uint16_t>(from, index))
                                  << 16);
    default:
      return bits_at<float>(from, index);
  }
}

std::vector<double> load_all(Dtype dtype, const std::byte* from, std::size_t count) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = load(dtype, from, i);
  return values;
}

double round_to(Dtype dtype, double value) {
  if (!std::isfinite(value)) return value;
  const Format f = format(dtype);
  const double unit = std::ldexp(1.0, spacing_exponent(f, value));
  const double rounded = std::nearbyint(value / unit) * unit;  // both steps exact
  if (std::abs(rounded) >= std::ldexp(1.0, f.most + 1)) {
    return std::copysign(std::numeric_limits<double>::infinity(), value);
  }
  return std::copysign(rounded, value);
}

void store(Dtype dtype, double value, std::vector<std::byte>& to) {
  const double rounded = round_to(dtype, value);
  auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(rounded));  // exact
  std::size_t size = 4;
  if (dtype == Dtype::BF16) {
    bits >>= 16;
    size = 2;
  } else if (dtype == Dtype::F16) {
    const std::uint32_t sign = bits >> 31 << 15;
    const double magnitude = std::abs(rounded);
    if (std::isnan(rounded)) {
      bits = sign | 0x7E00;
    } else if (std::isinf(rounded)) {
      bits = sign | 0x7C00;
    } else if (magnitude < std::ldexp(1.0, -14)) {
      bits = sign | static_cast<std::uint32_t>(std::ldexp(magnitude, 24));
    } else {
      const int exponent = std::ilogb(magnitude);
      const auto fraction = static_cast<std::uint32_t>(std::ldexp(magnitude, 10 - exponent)) - 1024;
      bits = sign | static_cast<std::uint32_t>(exponent + 15) << 10 | fraction;
    }
    size = 2;
  }
  const auto* const bytes = reinterpret_cast<const std::byte*>(&bits);
  to.insert(to.end(), bytes, bytes + size);
}

double ulp(Dtype dtype, double value) {
  return std::ldexp(1.0, spacing_exponent(format(dtype), value));
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += static_cast<long double>(a[i]) * static_cast<long double>(b[i]);
  }
  return static_cast<double>(sum);
}

std::vector<double> low_rank(const std::vector<double>& u, const std::vector<double>& v,
                             std::size_t rows, std::size_t rank, std::size_t columns) {
  std::vector<double> product(rows * columns);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      long double sum = 0;
      for (std::size_t k = 0; k < rank; ++k) {
        sum += static_cast<long double>(u[r * rank + k]) *
               static_cast<long double>(v[k * columns + c]);
      }
      product[r * columns + c] = static_cast<double>(sum);
    }
  }
  return product;
}

}  // namespace thorns::reference
