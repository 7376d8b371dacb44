// Spherical linear interpolation of two models.
//
// t from the weights (w2 / (w1 + w2)) or from the parameter; cos(theta) = <a,b> / (|a| |b|) over
// the flattened tensor. The result is sin((1-t) theta) / sin(theta) a + sin(t theta) / sin(theta) b
// on the raw tensors (Shoemake 1985, Animating Rotation with Quaternion Curves). Where |cos(theta)|
// > 0.9995 or a norm is 0 the models are interpolated linearly, as LLM-SLERP-Merge and mergekit do.
#include <algorithm>
#include <cmath>

#include "method/method.h"

namespace thorns {
namespace {

constexpr double kNearlyParallel = 0.9995;

class Slerp : public SpanMethod {
 public:
  const std::string& name() const override { return name_; }
  const std::string& summary() const override { return summary_; }
  const std::string& reference() const override { return reference_; }
  const std::vector<Parameter>& parameters() const override { return parameters_; }
  std::size_t least_models() const override { return 2; }
  std::size_t most_models() const override { return 2; }

  std::optional<Complaint> check(std::size_t models, std::span<const double> weights,
                                 std::span<const Setting> settings) const override {
    if (models != 2) {
      return Complaint{
          "SLERP merges exactly two models, not " + std::to_string(models),
          "nest them, `{{A+B}+C}` (SLERP is not associative), or use `linear`; `karcher` and "
          "`multislerp`, which take any number, are planned"};
    }
    if (weights.empty()) return std::nullopt;
    if (!settings.empty()) {
      return Complaint{"both weights and `t` are given",
                       "weights say the same as t: {A+3*B} is t = 0.75"};
    }
    if (weights[0] < 0 || weights[1] < 0 || !(weights[0] + weights[1] > 0)) {
      return Complaint{"weights of SLERP must not be negative, and not both 0", ""};
    }
    return std::nullopt;
  }

  Coefficients coefficients(const Gram& gram, std::span<const double> weights,
                            ParameterValues parameters) const override {
    const double t = parameters[0].value_or(weights[1] / (weights[0] + weights[1]));
    Coefficients result;
    result.values = {1 - t, t};
    const double norms = std::sqrt(gram(0, 0)) * std::sqrt(gram(1, 1));
    if (!(norms > 0)) {
      result.fell_back = true;
      return result;
    }
    const double cosine = std::clamp(gram(0, 1) / norms, -1.0, 1.0);
    const double angle = std::acos(cosine);
    result.angle = angle;
    if (std::abs(cosine) > kNearlyParallel) {
      result.fell_back = true;
      return result;
    }
    result.values = {std::sin((1 - t) * angle) / std::sin(angle),
                     std::sin(t * angle) / std::sin(angle)};
    return result;
  }

 private:
  std::string name_ = "slerp";
  std::string summary_ = "spherical linear interpolation of two models";
  std::string reference_ = "Shoemake 1985; LLM-SLERP-Merge 2023";
  std::vector<Parameter> parameters_ = {{"t", ParameterType::Number, std::nullopt, 0.0, 1.0,
                                         "how far from the first model to the second; from the "
                                         "weights where not given (0.5 without)"}};
};

const Slerp slerp;
const RegisterMethod registered(&slerp);

}  // namespace
}  // namespace thorns
