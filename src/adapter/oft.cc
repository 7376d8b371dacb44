// OFT (Qiu et al. 2023; as PEFT has it since 0.16: Qiu et al. 2025): the inputs of a layer, cut
// into runs, are rotated, W' = W diag(R1, R2, ...)^T; of an embedding the rows, W diag(R1, R2,
// ...). The R are made of skew-symmetric Q, exactly (Cayley) or by the first terms of a series.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "adapter/family.h"
#include "adapter/lycoris_oft.h"
#include "adapter/numbers.h"
#include "adapter/rotation.h"
#include "base/text.h"
#include "kernel/kernels.h"

namespace thorns {
namespace {

constexpr double kDefaultEps = 6e-5;
constexpr std::uint64_t kDefaultTerms = 5;

// I + 2 Q + 2 Q^2 + ... + last_factor Q^last.
struct Series {
  std::uint64_t last = 0;
  double last_factor = 2;

  void apply(std::span<double> q, std::size_t size) const {
    const std::vector<double> base(q.begin(), q.end());
    std::vector<double> power = base;
    std::vector<double> next(q.size());
    for (double& number : q) number *= last > 0 ? 2 : 0;
    for (std::size_t i = 0; i < size; ++i) q[i * size + i] += 1;
    for (std::uint64_t n = 2; n <= last; ++n) {
      multiply_rows(power.data(), size, size, base.data(), size, next.data());
      power.swap(next);
      const double factor = n == last ? last_factor : 2;
      for (std::size_t e = 0; e < q.size(); ++e) q[e] += factor * power[e];
    }
  }
};

// How the R are made of what is stored.
struct StoredRotation {
  std::size_t tensor = 0;
  std::optional<std::size_t> factors;  // oft_s: one for every output (before 0.16)
  std::uint64_t outputs = 0;           // how many that are
  std::uint64_t count = 0;
  std::uint64_t size = 0;
  bool whole = false;           // stored are whole matrices D, Q = (D - D^T) / 2 (before 0.16)
  bool shared = false;          // one R for all runs
  bool embedding = false;       // R instead of its transpose
  std::optional<double> eps;    // of the constrained variant (COFT)
  std::optional<Series> terms;  // none: exactly
};

// StoredRotation matrix i, skew-symmetric if it is not `whole`.
void unpack(const StoredRotation& stored, std::span<const double> numbers, std::size_t i,
            std::span<double> to) {
  const auto size = static_cast<std::size_t>(stored.size);
  if (stored.whole) {
    std::copy_n(numbers.data() + i * to.size(), to.size(), to.data());
    return;
  }
  const double* next = numbers.data() + i * (size * (size - 1) / 2);
  for (std::size_t row = 0; row < size; ++row) {
    for (std::size_t column = row + 1; column < size; ++column) {
      to[row * size + column] = *next;
      to[column * size + row] = -*next++;
    }
  }
}

// The largest norm of a stored matrix in COFT.
double bound_of(const StoredRotation& stored, const BaseTensor& base) {
  double bound = *stored.eps / std::sqrt(static_cast<double>(stored.count));
  if (stored.whole) {
    const std::uint64_t runs = base.columns() / stored.size;
    const std::uint64_t outputs = (base.rows() + runs - 1) / runs;
    bound *= static_cast<double>(outputs * outputs);
  }
  return bound;
}

void clip(std::span<double> matrix, double bound) {
  double squares = 0;
  for (const double number : matrix) squares += number * number;
  if (std::sqrt(squares) <= bound) return;
  for (double& number : matrix) number *= bound / std::sqrt(squares);
}

class Rotations final : public MapChange {
 public:
  explicit Rotations(StoredRotation stored) : stored_(stored) {}

  bool fits(const BaseTensor& base) const override {
    if (base.shape.size() < 2 || base.transposed || base.columns() % stored_.size != 0) {
      return false;
    }
    if (stored_.factors && base.rows() != stored_.outputs) return false;
    return stored_.shared || base.columns() / stored_.size == stored_.count;
  }
  std::string expected() const override {
    std::string inputs = stored_.shared ? fmt::format("a multiple of {} inputs", stored_.size)
                                        : fmt::format("{} inputs", stored_.count * stored_.size);
    return stored_.factors ? fmt::format("{} outputs and {}", stored_.outputs, inputs) : inputs;
  }
  bool elementwise() const override { return false; }
  std::vector<std::size_t> tensors() const override {
    if (stored_.factors) return {stored_.tensor, *stored_.factors};
    return {stored_.tensor};
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    const std::uint64_t made = Matrices::memory(stored_.size, stored_.count);
    const std::uint64_t series = Matrices::memory(stored_.size, stored_.terms ? 3 : 0);
    const std::uint64_t factors = stored_.factors ? 3 * base.rows() * sizeof(double) : 0;
    return made + 2 * made + series + factors;  // made, stored and read
  }

  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const auto size = static_cast<std::size_t>(stored_.size);
    Matrices matrices(size, static_cast<std::size_t>(stored_.count));
    const std::vector<double> numbers = read_numbers(source, stored_.tensor);
    for (std::size_t i = 0; i < matrices.count(); ++i) {
      const auto matrix = matrices[i];
      unpack(stored_, numbers, i, matrix);
      if (stored_.eps) clip(matrix, bound_of(stored_, base));
      make_skew(matrix, size, stored_.embedding ? 1 : -1);  // that of -Q is the transpose
      if (stored_.terms) {
        stored_.terms->apply(matrix, size);
      } else {
        cayley(matrix, size);
      }
    }
    std::vector<double> factors;
    if (stored_.factors) factors = read_numbers(source, *stored_.factors);
    std::vector<Rotation::Step> steps;
    steps.push_back({std::move(matrices)});
    return std::make_unique<Rotation>(std::move(steps), base.columns(), std::move(factors));
  }

 private:
  StoredRotation stored_;
};

// Whether the adapter was written by PEFT 0.`minor` or later; files say so since 0.18.
bool written_since(const ConfigFields& config, int minor) {
  int major = 0;
  int found = 0;
  const std::string version = config.text("peft_version", "0.0");
  const char* const end = version.data() + version.size();
  const auto dot = std::from_chars(version.data(), end, major);
  if (dot.ec != std::errc{} || dot.ptr == end || *dot.ptr != '.') return false;
  return std::from_chars(dot.ptr + 1, end, found).ec == std::errc{} &&
         (major > 0 || found >= minor);
}

std::optional<Series> terms_of(FamilyModule& module) {
  const ConfigFields& config = module.config();
  if (!config.flag("use_cayley_neumann", true)) return std::nullopt;
  const std::uint64_t terms = config.count("num_cayley_neumann_terms", kDefaultTerms);
  if (terms <= 2) return Series{terms - 1, 2};
  if (written_since(config, 18)) return Series{std::max<std::uint64_t>(terms - 1, 3), 1};
  module.warn(
      "it was trained before PEFT 0.18 changed the last term of the Cayley-Neumann series; it is "
      "folded with the series of its training");
  return Series{terms - 1, 2};
}

[[noreturn]] void refuse_shape(const FamilyModule& module, std::size_t tensor) {
  module.refuse(ErrorCode::Corrupt,
                fmt::format("has rotations of shape {}, which are no square blocks: `{}`",
                            shape_text(module.shape(tensor)), module.info(tensor).name),
                tensor, "the file was saved incompletely");
}

// The upper triangles of the blocks, row by row: count x size (size - 1) / 2.
void read_triangles(const FamilyModule& module, StoredRotation& stored) {
  const std::vector<std::uint64_t>& shape = module.shape(stored.tensor);
  if (shape.size() != 2 || shape[0] == 0) refuse_shape(module, stored.tensor);
  stored.count = shape[0];
  stored.size = static_cast<std::uint64_t>(
      std::llround((1 + std::sqrt(1 + 8 * static_cast<double>(shape[1]))) / 2));
  if (stored.size * (stored.size - 1) / 2 != shape[1]) refuse_shape(module, stored.tensor);
}

// The layout of PEFT 0.14 and 0.15: whole matrices, and factors for the outputs.
void read_matrices(FamilyModule& module, StoredRotation& stored) {
  const std::vector<std::uint64_t>& shape = module.shape(stored.tensor);
  if (shape.size() != 3 || shape[1] != shape[2] || module.info(stored.tensor).elements == 0) {
    refuse_shape(module, stored.tensor);
  }
  if (!module.has("oft_s")) {
    module.refuse(ErrorCode::Unsupported,
                  "is OFT of PEFT 0.13 or older, which rotates the outputs of a layer instead of "
                  "its inputs; PEFT itself reads it no longer",
                  stored.tensor, "train it again with a newer PEFT");
  }
  stored.whole = true;
  stored.count = shape[0];
  stored.size = shape[1];
  stored.factors = module.need("oft_s");
  stored.outputs = module.info(*stored.factors).elements;
}

void fold_oft(FamilyModule& module) {
  if (module.has("oft_blocks")) return fold_lycoris_oft(module);
  const ConfigFields& config = module.config();
  StoredRotation stored;
  stored.embedding = module.has("oft_embedding_R");
  if (module.has("oft_r")) {
    stored.tensor = module.need("oft_r");
    read_matrices(module, stored);
  } else {
    stored.tensor = module.need(stored.embedding ? "oft_embedding_R" : "oft_R");
    read_triangles(module, stored);
    stored.terms = terms_of(module);
  }
  stored.shared = config.flag("block_share");
  if (stored.shared && stored.count != 1) refuse_shape(module, stored.tensor);
  if (config.flag("coft")) stored.eps = config.number("eps", kDefaultEps);
  module.add(UpdateKind::Map, std::make_shared<Rotations>(stored));
}

const RegisterFamily registered_oft(
    {.type = "OFT",
     .name = "OFT",
     .reference = "Qiu et al. 2023",
     .update = "W · diag(R₁, R₂, …)ᵀ with rotations R = (I−Q)(I+Q)⁻¹, or their series",
     .layers = "linear, embedding, convolution in 2 dimensions",
     .tensors = {"oft_R", "oft_embedding_R", "oft_r", "oft_s", "oft_blocks", "oft_rescale"},
     .fold = fold_oft});

}  // namespace
}  // namespace thorns
