// Stockham's variant (Cochran et al. 1967) of the fast Fourier transform: a pass for each factor of
// the length, from one array into the other, and no reordering at the end.
#include "adapter/fourier.h"

#include <algorithm>
#include <array>
#include <numbers>

namespace thorns {
namespace {

using Complex = std::complex<double>;

constexpr std::size_t kSideBySide = 4;  // butterflies of an odd radix

std::vector<std::size_t> factors_of(std::size_t number) {
  std::vector<std::size_t> factors;
  for (; number % 4 == 0; number /= 4) factors.push_back(4);
  for (std::size_t factor = 2; number > 1; ++factor) {
    if (factor * factor > number) factor = number;  // it is prime
    for (; number % factor == 0; number /= factor) factors.push_back(factor);
  }
  return factors;
}

// One butterfly of a pass: `radix` inputs `distance` apart to as many outputs `stride` apart;
// output u is the transform of the inputs times turn(u). The radix is 2 or 4.
template <class Turn>
void even_butterfly(const Complex* in, std::size_t distance, Complex* out, std::size_t stride,
                    std::size_t radix, Turn turn) {
  if (radix == 4) {
    const Complex sum02 = in[0] + in[2 * distance];
    const Complex difference02 = in[0] - in[2 * distance];
    const Complex sum13 = in[distance] + in[3 * distance];
    const Complex difference13 = in[distance] - in[3 * distance];
    const Complex turned13(-difference13.imag(), difference13.real());  // times i
    out[0] = sum02 + sum13;
    out[stride] = times(difference02 + turned13, turn(1));
    out[2 * stride] = times(sum02 - sum13, turn(2));
    out[3 * stride] = times(difference02 - turned13, turn(3));
    return;
  }
  out[0] = in[0] + in[distance];
  out[stride] = times(in[0] - in[distance], turn(1));
}

// The same for an odd radix, kSide butterflies side by side. Roots t u and -t u are conjugates, so
// that outputs u and -u are made of the same sums: cosines times x[t] + x[-t], and sines times
// x[t] - x[-t]. `halves` holds those.
template <std::size_t kSide, class Turn>
void odd_butterflies(const Complex* in, std::size_t distance, Complex* out, std::size_t stride,
                     const std::vector<Complex>& roots, std::size_t radix,
                     std::vector<double>& halves, Turn turn) {
  constexpr std::size_t kWidth = 2 * kSide;  // real and imaginary parts
  const std::size_t half = radix / 2;
  const std::size_t step = roots.size() / radix;
  const auto* const from = reinterpret_cast<const double*>(in);
  halves.resize(2 * half * kWidth);
  double* const sums = halves.data();
  double* const differences = sums + half * kWidth;
  std::array<double, kWidth> whole;
  std::copy_n(from, kWidth, whole.begin());
  for (std::size_t t = 0; t < half; ++t) {
    const double* const one = from + 2 * distance * (t + 1);
    const double* const other = from + 2 * distance * (radix - t - 1);
    for (std::size_t e = 0; e < kWidth; ++e) {
      sums[t * kWidth + e] = one[e] + other[e];
      differences[t * kWidth + e] = one[e] - other[e];
      whole[e] += sums[t * kWidth + e];
    }
  }
  for (std::size_t q = 0; q < kSide; ++q) out[q] = {whole[2 * q], whole[2 * q + 1]};
  for (std::size_t u = 1; u <= half; ++u) {
    std::array<double, kWidth> even;
    std::array<double, kWidth> odd{};
    std::copy_n(from, kWidth, even.begin());
    std::size_t root = 0;  // t u modulo the radix
    for (std::size_t t = 0; t < half; ++t) {
      root += root + u < radix ? u : u - radix;
      const double cosine = roots[root * step].real();
      const double sine = roots[root * step].imag();
      for (std::size_t e = 0; e < kWidth; ++e) {
        even[e] += cosine * sums[t * kWidth + e];
        odd[e] += sine * differences[t * kWidth + e];
      }
    }
    for (std::size_t q = 0; q < kSide; ++q) {
      const Complex same(even[2 * q], even[2 * q + 1]);
      const Complex turned(-odd[2 * q + 1], odd[2 * q]);  // times i
      out[u * stride + q] = times(same + turned, turn(u));
      out[(radix - u) * stride + q] = times(same - turned, turn(radix - u));
    }
  }
}

}  // namespace

InverseTransform::InverseTransform(std::size_t length)
    : roots_(length), factors_(factors_of(length)) {
  const double turn = 2 * std::numbers::pi / static_cast<double>(length);
  for (std::size_t k = 0; k < length; ++k)
    roots_[k] = std::polar(1.0, turn * static_cast<double>(k));
}

void InverseTransform::apply(std::vector<Complex>& values, std::vector<Complex>& scratch) const {
  scratch.resize(values.size());
  std::vector<double> halves;
  std::size_t stride = 1;  // transforms that a pass works on, side by side
  for (const std::size_t radix : factors_) {
    const std::size_t rest = length() / stride / radix;
    for (std::size_t p = 0; p < rest; ++p) {
      const auto turn = [&](std::size_t u) { return roots_[p * u * stride]; };
      const Complex* const in = values.data() + stride * p;
      Complex* const out = scratch.data() + stride * radix * p;
      std::size_t q = 0;
      if (radix % 2 == 0) {
        for (; q < stride; ++q) {
          even_butterfly(in + q, stride * rest, out + q, stride, radix, turn);
        }
        continue;
      }
      for (; q + kSideBySide <= stride; q += kSideBySide) {
        odd_butterflies<kSideBySide>(in + q, stride * rest, out + q, stride, roots_, radix, halves,
                                     turn);
      }
      for (; q < stride; ++q) {
        odd_butterflies<1>(in + q, stride * rest, out + q, stride, roots_, radix, halves, turn);
      }
    }
    values.swap(scratch);
    stride *= radix;
  }
}

}  // namespace thorns
