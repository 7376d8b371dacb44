// Stockham's variant (Cochran et al. 1967) of the fast Fourier transform: a pass for each factor of
// the length, from one array into the other, and no reordering at the end.
#include "adapter/fourier.h"

#include <numbers>

namespace thorns {
namespace {

using Complex = std::complex<double>;

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
// output u is the transform of the inputs times turn(u).
template <class Turn>
void butterfly(const Complex* in, std::size_t distance, Complex* out, std::size_t stride,
               const std::vector<Complex>& roots, std::size_t radix, Turn turn) {
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
  const std::size_t step = roots.size() / radix;
  for (std::size_t u = 0; u < radix; ++u) {
    Complex sum = in[0];
    for (std::size_t t = 1; t < radix; ++t)
      sum += times(in[t * distance], roots[t * u % radix * step]);
    out[u * stride] = times(sum, turn(u));
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
  std::size_t stride = 1;  // transforms that a pass works on, side by side
  for (const std::size_t radix : factors_) {
    const std::size_t rest = length() / stride / radix;
    for (std::size_t p = 0; p < rest; ++p) {
      const auto turn = [&](std::size_t u) { return roots_[p * u * stride]; };
      for (std::size_t q = 0; q < stride; ++q) {
        butterfly(values.data() + q + stride * p, stride * rest,
                  scratch.data() + q + stride * radix * p, stride, roots_, radix, turn);
      }
    }
    values.swap(scratch);
    stride *= radix;
  }
}

}  // namespace thorns
