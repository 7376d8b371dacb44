// The inverse Fourier transform in one dimension, of any length. Private to this room.
#pragma once

#include <complex>
#include <cstddef>
#include <vector>

namespace thorns {

// x[j] = sum over c of X[c] e^(2 pi i c j / n), not divided by n. Immutable: many threads may use
// one.
class InverseTransform {
 public:
  explicit InverseTransform(std::size_t length);  // from 1

  // X to x, in place; `scratch` is of any length before, and of no use afterwards.
  void apply(std::vector<std::complex<double>>& values,
             std::vector<std::complex<double>>& scratch) const;

  std::size_t length() const { return roots_.size(); }

 private:
  std::vector<std::complex<double>> roots_;  // e^(2 pi i k / n)
  std::vector<std::size_t> factors_;         // fours, then primes
};

// The product without the care for NaN and Inf that std::complex takes.
inline std::complex<double> times(std::complex<double> a, std::complex<double> b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

}  // namespace thorns
