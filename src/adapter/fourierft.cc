// FourierFT (Gao et al. 2024): W + scaling * Re(D), where D is the inverse two-dimensional Fourier
// transform of a matrix with a few numbers in it. Their places are drawn from a seed.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <random>
#include <unordered_map>

#include "adapter/family.h"
#include "adapter/fourier.h"
#include "adapter/numbers.h"

namespace thorns {
namespace {

constexpr double kDefaultScaling = 150;
constexpr std::int64_t kDefaultSeed = 777;

// The first `count` numbers of a random permutation of 0 ... all - 1, as torch.randperm draws it on
// a CPU: Fisher-Yates from the front, or (many numbers) inside out, with 64 bits for each.
std::vector<std::uint64_t> drawn_places(std::uint64_t all, std::uint64_t count,
                                        std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint64_t> drawn(count);
  if (all >= std::numeric_limits<std::uint32_t>::max() / 20) {
    for (std::uint64_t i = 0; i < all; ++i) {
      const std::uint64_t high = random();
      const std::uint64_t at = (high << 32 | random()) % (i + 1);
      if (i < count && at < count) drawn[i] = drawn[at];
      if (at < count) drawn[at] = i;
    }
    return drawn;
  }
  std::unordered_map<std::uint64_t, std::uint64_t>
      moved;  // what stands elsewhere than at its place
  const auto at = [&](std::uint64_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t from = i + 1 < all ? i + random() % (all - i) : i;
    drawn[i] = at(from);
    moved[from] = at(i);
  }
  return drawn;
}

struct Wave {
  std::uint64_t row = 0;  // periods over all rows
  std::uint64_t column = 0;
  double amplitude = 0;
};

class Waves final : public Delta {
 public:
  Waves(std::vector<Wave> waves, const BaseTensor& base)
      : waves_(std::move(waves)),
        columns_(base.columns()),
        roots_(base.rows()),
        transform_(static_cast<std::size_t>(base.columns())) {
    const double turn = 2 * std::numbers::pi / static_cast<double>(roots_.size());
    for (std::size_t k = 0; k < roots_.size(); ++k)
      roots_[k] = std::polar(1.0, turn * static_cast<double>(k));
  }

  // Always two rows at a time, an even one and the next, whatever is asked for: the bits of an
  // element are the same in every run.
  void generate(std::uint64_t first, std::span<double> to) const override {
    const std::uint64_t end = first + to.size();
    std::vector<std::complex<double>> pair;
    std::vector<std::complex<double>> scratch;
    for (std::uint64_t row = first / columns_ / 2 * 2; row * columns_ < end; row += 2) {
      put_spectrum(row, pair);
      transform_.apply(pair, scratch);
      const std::uint64_t middle = (row + 1) * columns_;
      for (std::uint64_t e = std::max(first, row * columns_); e < std::min(end, middle); ++e)
        to[e - first] = pair[e - row * columns_].real();
      for (std::uint64_t e = std::max(first, middle); e < std::min(end, middle + columns_); ++e)
        to[e - first] = pair[e - middle].imag();
    }
  }

 private:
  // The spectrum whose transform has row `row` as its real parts and the next one as its imaginary
  // ones: (G[c] + conj(G[-c])) / 2 of one, plus i times that of the other, where G is the sum of
  // what the waves are in the row.
  void put_spectrum(std::uint64_t row, std::vector<std::complex<double>>& to) const {
    constexpr std::complex<double> kI(0, 1);
    to.assign(columns_, 0.0);
    for (const Wave& wave : waves_) {
      const std::complex<double>& here = roots_[wave.row * row % roots_.size()];
      const std::complex<double>& next = roots_[wave.row * (row + 1) % roots_.size()];
      const double half = wave.amplitude / 2;
      to[wave.column] += half * (here + times(kI, next));
      to[(columns_ - wave.column) % columns_] +=
          half * (std::conj(here) + times(kI, std::conj(next)));
    }
  }

  std::vector<Wave> waves_;
  std::uint64_t columns_;
  std::vector<std::complex<double>> roots_;  // of one, as many as there are rows
  InverseTransform transform_;
};

class WaveChange final : public DeltaChange {
 public:
  WaveChange(std::size_t tensor, std::uint64_t count, std::uint32_t seed)
      : tensor_(tensor), count_(count), seed_(seed) {}

  bool fits(const BaseTensor& base) const override {
    return base.shape.size() == 2 && base.elements() >= count_;
  }
  std::string expected() const override {
    return fmt::format("a matrix of at least {} elements", count_);
  }
  std::vector<std::size_t> tensors() const override { return {tensor_}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    constexpr std::uint64_t kMoved = 64;  // bytes of an entry of the hash table, generously
    return count_ * (sizeof(Wave) + 3 * sizeof(double) + kMoved) +
           (base.rows() + base.columns()) * sizeof(std::complex<double>);
  }

  // Places are counted in the layout (out, in).
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    const std::vector<double> spectrum = read_numbers(source, tensor_);
    const std::uint64_t inputs = base.transposed ? base.rows() : base.columns();
    const std::vector<std::uint64_t> places = drawn_places(base.elements(), count_, seed_);
    std::vector<Wave> waves(spectrum.size());
    for (std::size_t i = 0; i < waves.size(); ++i) {
      waves[i] = {places[i] / inputs, places[i] % inputs,
                  spectrum[i] / static_cast<double>(base.elements())};
      if (base.transposed) std::swap(waves[i].row, waves[i].column);
    }
    return std::make_unique<Waves>(std::move(waves), base);
  }

 private:
  std::size_t tensor_;
  std::uint64_t count_;
  std::uint32_t seed_;
};

// torch keeps the lower half of a seed.
std::uint32_t seed_of(const ConfigFields& config) {
  const Json* field = config.find("random_loc_seed");
  if (field == nullptr) return static_cast<std::uint32_t>(kDefaultSeed);
  if (!field->is_number_integer()) config.wrong("random_loc_seed", "a whole number");
  return static_cast<std::uint32_t>(field->get<std::int64_t>());
}

void fold_fourierft(FamilyModule& module) {
  const std::size_t spectrum = module.need("fourierft_spectrum");
  const std::uint64_t count = module.info(spectrum).elements;
  module.add(UpdateKind::Generate,
             std::make_shared<WaveChange>(spectrum, count, seed_of(module.config())),
             module.config().number("scaling", kDefaultScaling));
}

const RegisterFamily registered_fourierft(
    {.type = "FOURIERFT",
     .name = "FourierFT",
     .reference = "Gao et al. 2024",
     .update = "W + scaling · Re(inverse Fourier transform of F)",
     .layers = "linear, Conv1D",
     .tensors = {"fourierft_spectrum"},
     .fold = fold_fourierft});

}  // namespace
}  // namespace thorns
