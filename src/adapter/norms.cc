#include "adapter/norms.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "adapter/numbers.h"

namespace thorns {
namespace {

constexpr std::uint64_t kTile = std::uint64_t{1} << 16;  // numbers held at a time

using Rows =
    Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

Rows rows_of(std::span<const double> numbers, std::uint64_t rows) {
  return {numbers.data(), static_cast<Eigen::Index>(rows),
          static_cast<Eigen::Index>(numbers.size() / rows)};
}

// Gram matrix of `rank` vectors, summed up tile by tile; the lower triangle.
class GramSum {
 public:
  explicit GramSum(std::uint64_t rank)
      : sum_(Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(rank),
                                   static_cast<Eigen::Index>(rank))) {}

  // A piece of every vector: in a row, or in a column.
  void add_rows(const Rows& tile) { sum_.selfadjointView<Eigen::Lower>().rankUpdate(tile); }
  void add_columns(const Rows& tile) {
    sum_.selfadjointView<Eigen::Lower>().rankUpdate(tile.transpose());
  }

  // The sum over all elements of this and `other`, multiplied one by one.
  double product(const GramSum& other) const {
    double sum = 0;
    for (Eigen::Index column = 0; column < sum_.cols(); ++column) {
      for (Eigen::Index row = column; row < sum_.rows(); ++row) {
        sum += (row == column ? 1 : 2) * sum_(row, column) * other.sum_(row, column);
      }
    }
    return sum;
  }

 private:
  Eigen::MatrixXd sum_;
};

// |B A|^2 with A: rank x in, B: out x rank, as they are stored.
double square_of_product(const TensorSource& source, std::size_t a, std::size_t b,
                         std::uint64_t rank) {
  const std::uint64_t in = source.tensors()[a].elements / rank;
  const std::uint64_t out = source.tensors()[b].elements / rank;
  const std::uint64_t piece = std::max<std::uint64_t>(1, kTile / rank);
  GramSum inputs(rank);
  std::vector<double> tile;
  for (std::uint64_t first = 0; first < in; first += piece) {
    const auto count = static_cast<std::size_t>(std::min(piece, in - first));
    tile.resize(rank * count);
    for (std::uint64_t k = 0; k < rank; ++k) {
      const std::vector<double> run = read_numbers(source, a, k * in + first, count);
      std::copy(run.begin(), run.end(), tile.begin() + static_cast<std::ptrdiff_t>(k * count));
    }
    inputs.add_rows(rows_of(tile, rank));
  }
  GramSum outputs(rank);
  for (std::uint64_t first = 0; first < out; first += piece) {
    const auto count = static_cast<std::size_t>(std::min(piece, out - first));
    outputs.add_columns(rows_of(read_numbers(source, b, first * rank, count * rank), count));
  }
  return inputs.product(outputs);
}

// The same with factors that a change computes; `shape` is that of the weight.
double square_of_product(const TensorSource& source, const FactorChange& change,
                         const BaseTensor& base) {
  const std::uint64_t rank = change.rank();
  std::vector<float> u(base.rows() * rank);
  std::vector<float> v(rank * base.columns());
  change.load(source, base, u, v);
  const auto floats = [&](const std::vector<float>& numbers, std::uint64_t rows) {
    using Floats =
        Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
    return Floats(numbers.data(), static_cast<Eigen::Index>(rows),
                  static_cast<Eigen::Index>(numbers.size() / rows))
        .cast<double>();
  };
  const Eigen::MatrixXd left = floats(u, base.rows());
  const Eigen::MatrixXd right = floats(v, rank);
  return (left.transpose() * left).cwiseProduct(right * right.transpose()).sum();
}

double square_of(const Delta& delta, std::uint64_t elements) {
  std::vector<double> tile;
  double sum = 0;
  for (std::uint64_t first = 0; first < elements; first += kTile) {
    tile.resize(static_cast<std::size_t>(std::min(kTile, elements - first)));
    delta.generate(first, tile);
    for (const double number : tile) sum += number * number;
  }
  return sum;
}

double square_of(const TensorSource& source, std::size_t tensor) {
  const std::uint64_t elements = source.tensors()[tensor].elements;
  double sum = 0;
  for (std::uint64_t first = 0; first < elements; first += kTile) {
    const auto count = static_cast<std::size_t>(std::min(kTile, elements - first));
    for (const double number : read_numbers(source, tensor, first, count)) sum += number * number;
  }
  return sum;
}

std::optional<BaseTensor> base_of(const Change& change) {
  auto shape = change.shape();
  if (!shape) return std::nullopt;
  BaseTensor base;
  base.shape = std::move(*shape);
  return base;
}

std::optional<double> square_alone(const TensorSource& source, const Update& update) {
  if (update.kind == UpdateKind::Add) return square_of(source, update.first);
  if (update.change == nullptr) {
    if (update.kind != UpdateKind::LowRank) return std::nullopt;
    return square_of_product(source, update.first, update.second, update.rank);
  }
  const auto base = base_of(*update.change);
  if (!base) return std::nullopt;
  if (const auto* factors = dynamic_cast<const FactorChange*>(update.change.get())) {
    return square_of_product(source, *factors, *base);
  }
  if (const auto* dense = dynamic_cast<const DeltaChange*>(update.change.get())) {
    return square_of(*dense->load(source, *base), base->elements());
  }
  return std::nullopt;
}

}  // namespace

std::optional<double> norm_alone(const Adapter& adapter, const Update& update) {
  const auto square = square_alone(adapter.source(), update);
  if (!square) return std::nullopt;
  // Rounding may leave the square of nothing a little below zero.
  return std::abs(update.scale) * std::sqrt(*square < 0 ? 0.0 : *square);
}

std::uint64_t norm_memory(const Update& update) {
  constexpr std::uint64_t kTiles = 4 * kTile * sizeof(double);  // stored, read, held, computed with
  if (update.change == nullptr) return kTiles + 2 * update.rank * update.rank * sizeof(double);
  const auto base = base_of(*update.change);
  if (!base) return 0;
  std::uint64_t bytes = kTiles + update.change->memory(*base);
  if (dynamic_cast<const FactorChange*>(update.change.get()) != nullptr) {
    const std::uint64_t numbers = update.rank * (base->rows() + base->columns());
    bytes +=
        numbers * (sizeof(float) + sizeof(double)) + 2 * update.rank * update.rank * sizeof(double);
  }
  return bytes;
}

}  // namespace thorns
