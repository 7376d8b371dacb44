// The weighted mean of any number of models (Wortsman et al. 2022, Model soups).
#include <numeric>

#include "method/method.h"

namespace thorns {
namespace {

class Linear : public SpanMethod {
 public:
  const std::string& name() const override { return name_; }
  const std::string& summary() const override { return summary_; }
  const std::string& reference() const override { return reference_; }
  const std::vector<Parameter>& parameters() const override { return parameters_; }
  std::size_t least_models() const override { return 2; }
  std::size_t most_models() const override { return 1000; }

  std::optional<Complaint> check(std::size_t, std::span<const double> weights,
                                 std::span<const Setting> settings) const override {
    if (weights.empty() || std::accumulate(weights.begin(), weights.end(), 0.0) != 0)
      return std::nullopt;
    // Only `normalize` divides by the sum; with filters it may be off for every tensor.
    for (const Setting& setting : settings) {
      if (setting.filter.empty() && setting.values[0] == 0) return std::nullopt;
    }
    return Complaint{"the weights add up to 0", "set `normalize=false` to use them as they are"};
  }

  Coefficients coefficients(const Gram& gram, std::span<const double> weights,
                            ParameterValues parameters) const override {
    Coefficients result;
    result.values.assign(weights.begin(), weights.end());
    if (parameters[0].value_or(1.0) != 0) {
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (double& value : result.values) value /= sum;
    }
    (void)gram;  // needs no measurement
    return result;
  }

 private:
  std::string name_ = "linear";
  std::string summary_ = "weighted mean of any number of models";
  std::string reference_ = "Wortsman et al. 2022, Model soups";
  std::vector<Parameter> parameters_ = {
      {"normalize", ParameterType::Flag, 1.0, 0.0, 1.0, "divide the weights by their sum"}};
};

const Linear linear;
const RegisterMethod registered(&linear);

}  // namespace
}  // namespace thorns
