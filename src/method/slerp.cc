// Spherical linear interpolation of two models: each tensor, flattened, is a vector, and the result
// moves from the first to the second along the arc between their directions.
//
// The coefficients sin((1-t)a)/sin(a) and sin(t a)/sin(a), a being the angle between the
// directions, multiply the tensors as they are, not their unit vectors.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "method/method.h"

namespace thorns {
namespace {

// Above this cosine, of either sign, sin(angle) is too small to divide by.
constexpr double kNearlyParallel = 0.9995;
constexpr std::size_t kT = 0;  // index in parameters()

// t where the key gives weights: how far the second model's share is along the arc.
double t_of(std::span<const double> weights) { return weights[1] / (weights[0] + weights[1]); }

class Slerp : public SpanMethod {
 public:
  const std::string& name() const override { return name_; }
  const std::string& summary() const override { return summary_; }
  const std::string& reference() const override { return reference_; }
  const std::vector<Parameter>& parameters() const override { return parameters_; }
  std::size_t least_models() const override { return 2; }
  std::size_t most_models() const override { return 2; }

  std::optional<Complaint> check(const MethodUse& use) const override {
    if (use.models != 2) {
      return Complaint{fmt::format("SLERP merges exactly two models, found {}", use.models),
                       other_ways()};
    }
    if (use.weights.empty()) return std::nullopt;
    for (std::size_t i = 0; i < use.settings.size(); ++i) {
      if (use.settings[i].parameter != kT) continue;
      return Complaint{"both weights and `t` are given, which say the same thing",
                       "keep one of them: `{A+3*B}` is `{A+B; t=0.75}`", i};
    }
    const double t = t_of(use.weights);
    if (t >= 0 && t <= 1) return std::nullopt;  // false for NaN
    return Complaint{
        fmt::format("the weights {:g} and {:g} put the result outside the arc between the models",
                    use.weights[0], use.weights[1]),
        "weights of SLERP must not be negative, nor both zero; `linear` takes negative weights"};
  }

  Coefficients coefficients(const Gram& gram, std::span<const double> weights,
                            ParameterValues parameters) const override {
    const double t = parameters[kT].value_or(t_of(weights));
    const double norm_a = std::sqrt(gram(0, 0));
    const double norm_b = std::sqrt(gram(1, 1));
    Coefficients result;
    result.values = {1 - t, t};
    result.fell_back = true;
    if (!(norm_a > 0 && norm_b > 0)) return result;
    // Divided one after the other: the product of the norms may overflow.
    const double cosine = gram(0, 1) / norm_a / norm_b;
    if (!std::isfinite(cosine)) return result;
    const double angle = std::acos(std::clamp(cosine, -1.0, 1.0));
    result.angle = angle;
    if (std::abs(cosine) > kNearlyParallel) return result;
    result.values = {std::sin((1 - t) * angle) / std::sin(angle),
                     std::sin(t * angle) / std::sin(angle)};
    result.fell_back = false;
    return result;
  }

 private:
  // Offers only what the catalogue has.
  static std::string other_ways() {
    std::string hint = "merge them in pairs, as in `{{A+B}+C}`";
    std::string planned;
    for (const char* other : {"linear", "karcher", "multislerp"}) {
      if (find_method(other) != nullptr) {
        hint += fmt::format(", or write `{{A+B+C; {}}}`", other);
      } else {
        planned += fmt::format("{}`{}`", planned.empty() ? "" : " and ", other);
      }
    }
    if (planned.empty()) return hint;
    return hint + fmt::format(" ({} for any number of models: not in this version)", planned);
  }

  std::string name_ = "slerp";
  std::string summary_ = "spherical interpolation of two models, tensor by tensor";
  std::string reference_ = "Shoemake 1985, Animating rotation with quaternion curves";
  std::vector<Parameter> parameters_ = {
      {"t", ParameterType::Number, std::nullopt, 0.0, 1.0,
       "place between the first model (0) and the second (1); without it, from the weights: "
       "{v*A+w*B} is w/(v+w), and {A+B} is 0.5"}};
};

const Slerp slerp;
const RegisterMethod registered_slerp(&slerp);

}  // namespace
}  // namespace thorns
