#include "adapter/combined_factors.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace thorns {
namespace {

using RowMajorMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Numbers = std::vector<double>;

Eigen::Index index(std::uint64_t number) { return static_cast<Eigen::Index>(number); }

Eigen::Map<const RowMajorMatrix> view(const Numbers& values, std::uint64_t rows,
                                      std::uint64_t columns) {
  return {values.data(), index(rows), index(columns)};
}

Numbers values_of(const RowMajorMatrix& matrix) {
  return {matrix.data(), matrix.data() + matrix.size()};
}

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
std::uint64_t mixed(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

// Number `at` of the stream `key`, uniform in [0, 1).
double uniform(std::uint64_t key, std::uint64_t at) {
  constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;
  return static_cast<double>(mixed(key + (at + 1) * kGolden) >> 11) * 0x1p-53;
}

// Of equal magnitudes at the border the first are kept.
void keep_largest(Numbers& values, double density) {
  const auto kept = static_cast<std::ptrdiff_t>(density * static_cast<double>(values.size()));
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto larger = [&](std::size_t i, std::size_t j) {
    const double a = std::abs(values[i]);
    const double b = std::abs(values[j]);
    return a != b ? a > b : i < j;
  };
  std::nth_element(order.begin(), order.begin() + kept, order.end(), larger);
  std::for_each(order.begin() + kept, order.end(), [&](std::size_t i) { values[i] = 0; });
}

void prune(Numbers& values, const Combination& how, std::uint64_t key) {
  if (how.density >= 1) return;
  if (how.rule.pruning == Pruning::Magnitude) keep_largest(values, how.density);
  if (how.rule.pruning != Pruning::Random) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = uniform(key, i) < how.density ? values[i] / how.density : 0;
  }
}

double sign(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

// The weighted sum of tensors of one size, pruned first; with elected signs the mean of those
// that agree.
Numbers sum(const Combination& how, std::vector<Numbers> tensors, const Numbers& weights,
            std::uint64_t key) {
  for (std::size_t t = 0; t < tensors.size(); ++t) prune(tensors[t], how, mixed(key + t));
  Numbers result(tensors.front().size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    double balance = 0;
    for (const Numbers& tensor : tensors) {
      balance += how.by_frequency ? sign(tensor[i]) : tensor[i];
    }
    const double majority = balance >= 0 ? 1 : -1;
    double total = 0;
    double agreeing = 0;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      if (how.rule.elects_signs && sign(tensors[t][i]) != majority) continue;
      total += weights[t] * tensors[t][i];
      ++agreeing;
    }
    result[i] = how.rule.elects_signs ? total / std::max(agreeing, 1.0) : total;
  }
  return result;
}

FactorPair sum_factors(const Combination& how, std::vector<FactorPair>& pairs, std::uint64_t key) {
  std::vector<Numbers> a;
  std::vector<Numbers> b;
  Numbers a_weights;
  Numbers b_weights;
  for (FactorPair& pair : pairs) {
    const double weight = pair.weight * pair.scale;
    b_weights.push_back(std::sqrt(std::abs(weight)));
    a_weights.push_back(std::copysign(b_weights.back(), weight));
    a.push_back(std::move(pair.a));
    b.push_back(std::move(pair.b));
  }
  FactorPair result;
  result.rank = pairs.front().rank;
  result.a = sum(how, std::move(a), a_weights, mixed(key));
  result.b = sum(how, std::move(b), b_weights, mixed(key + 1));
  return result;
}

FactorPair stack(const std::vector<FactorPair>& pairs, std::uint64_t rows, std::uint64_t columns) {
  FactorPair result;
  for (const FactorPair& pair : pairs) result.rank += pair.rank;
  RowMajorMatrix a(index(result.rank), index(columns));
  RowMajorMatrix b(index(rows), index(result.rank));
  Eigen::Index at = 0;
  for (const FactorPair& pair : pairs) {
    const Eigen::Index rank = index(pair.rank);
    a.middleRows(at, rank) = pair.weight * pair.scale * view(pair.a, pair.rank, columns);
    b.middleCols(at, rank) = view(pair.b, rows, pair.rank);
    at += rank;
  }
  result.a = values_of(a);
  result.b = values_of(b);
  return result;
}

// left * core * right, cut to `rank`: U S of the core on the left, V on the right.
struct Cut {
  RowMajorMatrix us;
  RowMajorMatrix v;
};
Cut cut(const RowMajorMatrix& core, std::uint64_t rank) {
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(core, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::Index kept = index(rank);
  return {svd.matrixU().leftCols(kept) * svd.singularValues().head(kept).asDiagonal(),
          svd.matrixV().leftCols(kept).transpose()};
}

// B A through the QR decompositions of both factors: only a core as small as the ranks is cut.
FactorPair cut_product(const FactorPair& pair, std::uint64_t rows, std::uint64_t columns,
                       std::uint64_t rank) {
  const Eigen::HouseholderQR<Eigen::MatrixXd> left(view(pair.b, rows, pair.rank));
  const Eigen::HouseholderQR<Eigen::MatrixXd> right(view(pair.a, pair.rank, columns).transpose());
  const auto upper = [](const Eigen::HouseholderQR<Eigen::MatrixXd>& qr) {
    const Eigen::MatrixXd& packed = qr.matrixQR();
    const Eigen::Index height = std::min(packed.rows(), packed.cols());
    Eigen::MatrixXd r = packed.topRows(height).triangularView<Eigen::Upper>();
    return r;
  };
  const auto spread = [](const Eigen::HouseholderQR<Eigen::MatrixXd>& qr,
                         const Eigen::MatrixXd& small) {
    Eigen::MatrixXd tall = Eigen::MatrixXd::Zero(qr.matrixQR().rows(), small.cols());
    tall.topRows(small.rows()) = small;
    tall.applyOnTheLeft(qr.householderQ());
    return tall;
  };
  const Cut core = cut(upper(left) * upper(right).transpose(), rank);
  FactorPair result;
  result.rank = rank;
  result.b = values_of(spread(left, core.us));
  result.a = values_of(spread(right, core.v.transpose()).transpose());
  return result;
}

FactorPair cut_sum(const Combination& how, const std::vector<FactorPair>& pairs, std::uint64_t rows,
                   std::uint64_t columns, std::uint64_t rank, std::uint64_t key) {
  std::vector<Numbers> products;
  Numbers weights;
  for (const FactorPair& pair : pairs) {
    const RowMajorMatrix product =
        pair.scale * view(pair.b, rows, pair.rank) * view(pair.a, pair.rank, columns);
    products.push_back(values_of(product));
    weights.push_back(pair.weight);
  }
  const Numbers dense = sum(how, std::move(products), weights, key);
  const Cut core = cut(view(dense, rows, columns), rank);
  FactorPair result;
  result.rank = rank;
  result.b = values_of(core.us);
  result.a = values_of(core.v);
  return result;
}

bool is_finite(const Numbers& values) {
  return std::all_of(values.begin(), values.end(),
                     [](double value) { return std::isfinite(value); });
}

std::uint64_t total_of(std::span<const std::uint64_t> ranks) {
  return std::accumulate(ranks.begin(), ranks.end(), std::uint64_t{0});
}

}  // namespace

std::uint64_t combined_rank(const Combination& how, std::span<const std::uint64_t> ranks,
                            std::uint64_t rows, std::uint64_t columns) {
  switch (how.rule.part) {
    case CombinedPart::Factors:
      break;
    case CombinedPart::Stacked:
      return total_of(ranks);
    case CombinedPart::Products: {
      const std::uint64_t most = std::min({*how.svd_rank, rows, columns});
      return how.rule.prunes() ? most : std::min(most, total_of(ranks));
    }
  }
  return ranks.front();
}

std::uint64_t combining_memory(const Combination& how, std::span<const std::uint64_t> ranks,
                               std::uint64_t rows, std::uint64_t columns) {
  const std::uint64_t total = total_of(ranks);
  const std::uint64_t factors = (rows + columns) * total;
  const std::uint64_t shorter = std::min(rows, columns);
  std::uint64_t numbers = 0;
  switch (how.rule.part) {
    case CombinedPart::Factors:  // and what orders one of them by magnitude
    case CombinedPart::Stacked:
      numbers = 3 * factors;
      break;
    case CombinedPart::Products:
      // Copies on their way through the decompositions, and a core as large as the ranks.
      numbers = 6 * factors + 12 * total * total;
      if (how.rule.prunes()) {
        numbers = 2 * factors + (ranks.size() + 5) * rows * columns + 12 * shorter * shorter;
      }
      break;
  }
  return numbers * sizeof(double);
}

FactorPair combine_factors(const Combination& how, std::vector<FactorPair> pairs,
                           std::uint64_t rows, std::uint64_t columns, std::uint64_t key) {
  std::vector<std::uint64_t> ranks;
  bool finite = true;
  for (const FactorPair& pair : pairs) {
    ranks.push_back(pair.rank);
    finite = finite && is_finite(pair.a) && is_finite(pair.b);
  }
  const std::uint64_t rank = combined_rank(how, ranks, rows, columns);
  if (!finite) {  // the decompositions have no answer to these
    const double nan = std::numeric_limits<double>::quiet_NaN();
    return {1.0, 1.0, rank, Numbers(rank * columns, nan), Numbers(rows * rank, nan)};
  }
  switch (how.rule.part) {
    case CombinedPart::Factors:
      return sum_factors(how, pairs, key);
    case CombinedPart::Stacked:
      return stack(pairs, rows, columns);
    case CombinedPart::Products:
      break;
  }
  if (how.rule.prunes()) return cut_sum(how, pairs, rows, columns, rank, key);
  return cut_product(stack(pairs, rows, columns), rows, columns, rank);
}

}  // namespace thorns
