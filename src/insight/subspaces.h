// What low-rank adapters read from their input: whether two of them look at the same directions,
// and whether a model has much to say there. From the factors, and from a few rows of the models.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "insight/stacks.h"
#include "plan/plan.h"
#include "thorns/check.h"
#include "thorns/observer.h"

namespace thorns {

// Two spaces spanned by the rows of matrices with `columns` columns, row-major, by their principal
// angles (Bjorck and Golub 1973): the cosines are the singular values of Q1 Q2^T.
struct SharedSpace {
  double share = 0.0;     // mean squared cosine of the smaller space: 0 apart, 1 inside the other
  double chance = 0.0;    // what independent spaces of these sizes share on average
  double smallest = 0.0;  // radians
};
SharedSpace shared_space(std::span<const float> a, std::span<const float> b, std::size_t columns);

// The part of the squared norm of `rows` that lies in the space spanned by the rows of `v`, to what
// a space without any relation to them would hold; both have `columns` columns, row-major. None
// where either is zero.
std::optional<double> space_fit(std::span<const double> rows, std::span<const float> v,
                                std::size_t columns);

// Over all tensors of a plan that low-rank updates change.
class SubspaceSurvey {
 public:
  // `plan` must outlive this. Reads the factors of the adapters, and kFitRows rows of every model
  // in their tensors; on `threads` threads. Throws Cancelled, and what the sources throw.
  SubspaceSurvey(const Plan& plan, std::size_t threads, Observer& observer);

  // How well the input space of an adapter fits the models below a fold of it (mean of space_fit;
  // 1: no better than chance). None where it has no low-rank update of a plain weight.
  std::optional<double> fit(std::size_t fold) const;

  // Adds what stacked adapters share to their findings, and an adapter that fits another model
  // better than the one it is folded into as one of its own.
  void complete(std::vector<Finding>& findings) const;

  static constexpr std::uint64_t kFitRows = 16;  // per tensor, evenly spread
  // What a thread holds besides the factors, at most, for rows of up to 65536 elements.
  static constexpr std::uint64_t kRowBytes = 12'000'000;

 private:
  struct Mean {
    double sum = 0;
    double count = 0;
    void add(double value) {
      sum += value;
      ++count;
    }
    void add(const Mean& other) {
      sum += other.sum;
      count += other.count;
    }
    std::optional<double> value() const {
      if (count == 0) return std::nullopt;
      return sum / count;
    }
  };
  struct Pair {
    Mean share;
    Mean chance;
    double smallest = 10;  // radians
  };
  struct Sums {
    std::map<std::pair<std::size_t, std::size_t>, Pair> pairs;  // adapters, the smaller index first
    std::map<std::pair<std::size_t, std::size_t>, Mean> fits;   // adapter, leaf
  };
  void measure(const Program& program, Sums& sums) const;
  std::optional<double> fit_of(std::size_t adapter, const std::vector<std::size_t>& leaves) const;

  const Plan& plan_;
  std::vector<FoldStack> stacks_;
  Sums sums_;
};

}  // namespace thorns
