#include "insight/subspaces.h"

#include <fmt/format.h>

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/text.h"
#include "base/threads.h"
#include "insight/brief.h"
#include "kernel/kernels.h"
#include "plan/build.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr double kRank = 1e-10;      // of the largest eigenvalue: below it a direction is not there
constexpr double kFitsBetter = 1.2;  // from here on a fit is clearly better than another

using Rows =
    Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

Rows rows_of(std::span<const float> values, std::size_t columns) {
  return {values.data(), static_cast<Eigen::Index>(values.size() / columns),
          static_cast<Eigen::Index>(columns)};
}

// a b^T in float64, a piece of the columns at a time.
Eigen::MatrixXd products(const Rows& a, const Rows& b) {
  constexpr Eigen::Index kPiece = 512;
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(a.rows(), b.rows());
  for (Eigen::Index at = 0; at < a.cols(); at += kPiece) {
    const Eigen::Index count = std::min(kPiece, a.cols() - at);
    sum.noalias() +=
        a.middleCols(at, count).cast<double>() * b.middleCols(at, count).cast<double>().transpose();
  }
  return sum;
}

// The matrix W for which the rows of W A are orthonormal and span those of A, from A A^T.
Eigen::MatrixXd whitening(const Eigen::MatrixXd& gram) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::VectorXd& values = solver.eigenvalues();  // ascending
  const Eigen::Index n = values.size();
  Eigen::Index rank = 0;
  while (rank < n && values[n - 1 - rank] > kRank * values[n - 1]) ++rank;
  return values.tail(rank).cwiseSqrt().cwiseInverse().asDiagonal() *
         solver.eigenvectors().rightCols(rank).transpose();
}

// Rows [first of every stride] of a stored tensor, at most SubspaceSurvey::kFitRows, as float64.
std::vector<double> some_rows(const Operand& operand, std::uint64_t columns) {
  const std::uint64_t rows = operand.elements / columns;
  const std::uint64_t count = std::min(rows, SubspaceSurvey::kFitRows);
  const auto width = static_cast<std::size_t>(columns);
  std::vector<std::byte> bytes(width * size_of(operand.dtype));
  std::vector<double> values(static_cast<std::size_t>(count) * width);
  for (std::uint64_t i = 0; i < count; ++i) {
    operand.source->read(operand.tensor, (2 * i + 1) * rows / (2 * count) * columns, bytes);
    widen(operand.dtype, bytes.data(), width, values.data() + static_cast<std::size_t>(i) * width);
  }
  return values;
}

}  // namespace

SharedSpace shared_space(std::span<const float> a, std::span<const float> b, std::size_t columns) {
  const Rows left = rows_of(a, columns);
  const Rows right = rows_of(b, columns);
  const Eigen::MatrixXd white_left = whitening(products(left, left));
  const Eigen::MatrixXd white_right = whitening(products(right, right));
  const Eigen::Index least = std::min(white_left.rows(), white_right.rows());
  if (least == 0) return {0, 0, std::numbers::pi / 2};
  const Eigen::MatrixXd between = white_left * products(left, right) * white_right.transpose();
  const Eigen::VectorXd cosines = Eigen::JacobiSVD<Eigen::MatrixXd>(between).singularValues();
  return {cosines.squaredNorm() / static_cast<double>(least),
          static_cast<double>(std::max(white_left.rows(), white_right.rows())) /
              static_cast<double>(columns),
          std::acos(std::clamp(cosines[0], 0.0, 1.0))};
}

std::optional<double> space_fit(std::span<const double> rows, std::span<const float> v,
                                std::size_t columns) {
  const Rows space = rows_of(v, columns);
  const Eigen::MatrixXd white = whitening(products(space, space));
  const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>
      model(rows.data(), static_cast<Eigen::Index>(rows.size() / columns),
            static_cast<Eigen::Index>(columns));
  const double all = model.squaredNorm();
  if (all == 0 || white.rows() == 0) return std::nullopt;
  const Eigen::MatrixXd inside = (model * space.cast<double>().transpose()) * white.transpose();
  return inside.squaredNorm() / all * static_cast<double>(columns) /
         static_cast<double>(white.rows());
}

SubspaceSurvey::SubspaceSurvey(const Plan& plan, std::size_t threads, Observer& observer)
    : plan_(plan), stacks_(stacks_of(plan.recipe)) {
  ThreadPool pool(std::max<std::size_t>(1, threads));
  std::vector<Sums> sums(plan.programs.size());  // added up in order, so that threads do not show
  pool.run(plan.programs.size(), [&](std::size_t index, std::size_t) {
    if (observer.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    measure(plan.programs[index], sums[index]);
  });
  for (const Sums& one : sums) {
    for (const auto& [key, pair] : one.pairs) {
      Pair& to = sums_.pairs[key];
      to.share.add(pair.share);
      to.chance.add(pair.chance);
      to.smallest = std::min(to.smallest, pair.smallest);
    }
    for (const auto& [key, fit] : one.fits) sums_.fits[key].add(fit);
  }
}

void SubspaceSurvey::measure(const Program& program, Sums& sums) const {
  const auto columns = static_cast<std::size_t>(program.columns());
  std::map<std::size_t, std::vector<float>> inputs;  // by adapter: V, rank x columns
  for (const Operand& operand : program.operands) {
    // The columns of a Conv1D weight are its outputs.
    if (!operand.is_product() || operand.base.transposed || operand.update->embedding) continue;
    const auto rank = static_cast<std::size_t>(operand.update->rank);
    std::vector<float> u(static_cast<std::size_t>(operand.base.rows()) * rank);
    std::vector<float> v(rank * columns);
    load_factors(*operand.adapter, *operand.update, operand.base, u, v);
    if (!std::all_of(v.begin(), v.end(), [](float x) { return std::isfinite(x); })) continue;
    const auto at = std::find_if(plan_.adapters.begin(), plan_.adapters.end(),
                                 [&](const auto& one) { return one.get() == operand.adapter; });
    if (at == plan_.adapters.end()) continue;  // several, combined into one
    inputs.emplace(static_cast<std::size_t>(at - plan_.adapters.begin()), std::move(v));
  }
  for (auto a = inputs.begin(); a != inputs.end(); ++a) {
    for (auto b = std::next(a); b != inputs.end(); ++b) {
      const SharedSpace shared = shared_space(a->second, b->second, columns);
      Pair& pair = sums.pairs[{a->first, b->first}];
      pair.share.add(shared.share);
      pair.chance.add(shared.chance);
      pair.smallest = std::min(pair.smallest, shared.smallest);
    }
  }
  if (inputs.empty()) return;
  for (const Operand& operand : program.operands) {
    if (operand.adapter != nullptr) continue;
    const auto leaf = std::find_if(plan_.leaves.begin(), plan_.leaves.end(),
                                   [&](const auto& one) { return one.get() == operand.source; });
    if (leaf == plan_.leaves.end()) continue;  // rows that extend one
    std::vector<double> rows = some_rows(operand, columns);
    for (double& value : rows) value = std::isfinite(value) ? value : 0;
    for (const auto& [adapter, v] : inputs) {
      const auto fit = space_fit(rows, v, columns);
      if (fit)
        sums.fits[{adapter, static_cast<std::size_t>(leaf - plan_.leaves.begin())}].add(*fit);
    }
  }
}

std::optional<double> SubspaceSurvey::fit_of(std::size_t adapter,
                                             const std::vector<std::size_t>& leaves) const {
  Mean mean;
  for (const std::size_t leaf : leaves) {
    const auto at = sums_.fits.find({adapter, leaf});
    if (at != sums_.fits.end()) mean.add(at->second);
  }
  return mean.value();
}

std::optional<double> SubspaceSurvey::fit(std::size_t fold) const {
  const auto& node = std::get<FoldNode>(plan_.recipe.nodes[fold].node);
  if (node.combination) return std::nullopt;
  return fit_of(node.adapters.front().adapter, leaves_below(plan_.recipe, node.model));
}

void SubspaceSurvey::complete(std::vector<Finding>& findings) const {
  const Recipe& recipe = plan_.recipe;
  for (const FoldStack& stack : stacks_) {
    Pair all;
    for (std::size_t i = 0; i < stack.folds.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const auto& one = std::get<FoldNode>(recipe.nodes[stack.folds[i]].node);
        const auto& other = std::get<FoldNode>(recipe.nodes[stack.folds[j]].node);
        if (one.combination || other.combination) continue;
        const auto pair = sums_.pairs.find(
            std::minmax({one.adapters.front().adapter, other.adapters.front().adapter}));
        if (pair == sums_.pairs.end()) continue;
        all.share.add(pair->second.share);
        all.chance.add(pair->second.chance);
        all.smallest = std::min(all.smallest, pair->second.smallest);
      }
    }
    if (!all.share.value()) continue;
    for (Finding& finding : findings) {
      if (finding.code != "adapters-stacked" ||
          finding.node != recipe.nodes[stack.folds.back()].key) {
        continue;
      }
      const double smallest = all.smallest * 180 / std::numbers::pi;
      finding.message += fmt::format(
          "; of the input directions they read two share {:.2f} on average (unrelated ones "
          "{:.2f}), "
          "the nearest are {:.0f} degrees apart",
          *all.share.value(), *all.chance.value(), smallest);
      finding.measured.emplace_back("shared_inputs", *all.share.value());
      finding.measured.emplace_back("shared_by_chance", *all.chance.value());
      finding.measured.emplace_back("smallest_input_degrees", smallest);
    }
  }
  for (const RecipeNode& node : recipe.nodes) {
    const auto* fold = std::get_if<FoldNode>(&node.node);
    if (fold == nullptr || fold->combination) continue;
    const std::size_t folded = fold->adapters.front().adapter;
    const auto here = fit_of(folded, leaves_below(recipe, fold->model));
    if (!here) continue;
    std::size_t best = 0;
    double most = 0;
    for (std::size_t leaf = 0; leaf < recipe.leaves.size(); ++leaf) {
      const double fit = fit_of(folded, {leaf}).value_or(0);
      if (fit <= most) continue;
      most = fit;
      best = leaf;
    }
    if (most < kFitsBetter * *here) continue;
    const std::string& adapter = recipe.adapters[folded].name;
    Finding finding{
        "adapter-fits-another", Severity::Note,
        fmt::format(
            "the input space of `{}` holds {:.2f} times its chance share of `{}`, and {:.2f} "
            "times of {}, into which it is folded",
            adapter, most, recipe.leaves[best].name, *here, brief(recipe.nodes[fold->model].key)),
        "it may have been trained on that model or a relative of it", recipe.adapters[folded].span};
    finding.adapter = adapter;
    finding.leaf = recipe.leaves[best].name;
    finding.node = node.key;
    finding.measured = {{"fit", *here}, {"best_fit", most}};
    findings.push_back(std::move(finding));
  }
}

}  // namespace thorns
