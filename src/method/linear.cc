// The weighted sum of any number of models; with normalised weights, their average.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "method/method.h"

namespace thorns {
namespace {

constexpr std::size_t kNormalize = 0;  // index in parameters()

double sum_of(std::span<const double> weights) {
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

class Linear : public SpanMethod {
 public:
  const std::string& name() const override { return name_; }
  const std::string& summary() const override { return summary_; }
  const std::string& reference() const override { return reference_; }
  const std::vector<Parameter>& parameters() const override { return parameters_; }
  std::size_t least_models() const override { return 1; }
  std::size_t most_models() const override { return std::numeric_limits<std::size_t>::max(); }

  std::optional<Complaint> check(const MethodUse& use) const override {
    if (use.models < least_models()) {
      return Complaint{"a linear merge needs at least one model", ""};
    }
    if (use.weights.empty() || !normalizes_somewhere(use.settings)) return std::nullopt;
    const double sum = sum_of(use.weights);
    const bool divides = std::isfinite(sum) &&
                         std::all_of(use.weights.begin(), use.weights.end(),
                                     [&](double weight) { return std::isfinite(weight / sum); });
    if (divides) return std::nullopt;
    return Complaint{sum == 0 ? "the weights sum to 0 and cannot be normalised"
                              : "the weights are too far apart in size to be normalised",
                     "change a weight, or take the weights as they are with `normalize=false`"};
  }

  Coefficients coefficients(const Gram& /*gram*/, std::span<const double> weights,
                            ParameterValues parameters) const override {
    Coefficients result;
    result.values.assign(weights.begin(), weights.end());
    if (parameters[kNormalize].value_or(1) != 0) {
      const double sum = sum_of(weights);
      for (double& value : result.values) value /= sum;
    }
    return result;
  }

 private:
  // Whether some tensor may be merged with normalised weights: one is, by default, unless a setting
  // for all tensors says no before any says yes.
  static bool normalizes_somewhere(std::span<const Setting> settings) {
    for (const Setting& setting : settings) {
      if (setting.parameter != kNormalize) continue;
      if (setting.values.front() != 0) return true;
      if (setting.filter.empty()) return false;
    }
    return true;
  }

  std::string name_ = "linear";
  std::string summary_ = "weighted average (or sum) of any number of models";
  std::string reference_ = "Wortsman et al. 2022, Model soups";
  std::vector<Parameter> parameters_ = {
      {"normalize", ParameterType::Flag, 1.0, 0.0, 1.0,
       "divide the weights by their sum; with false they multiply the models as they are"}};
};

const Linear linear;
const RegisterMethod registered_linear(&linear);

}  // namespace
}  // namespace thorns
