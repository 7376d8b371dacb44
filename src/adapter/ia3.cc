// IA3 (Liu et al. 2022): the outputs, or the inputs of a feed-forward layer, are multiplied by one
// factor each.
#include "adapter/ia3.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

// Outputs: every row of a Linear or convolution (column of a Conv1D) and every element of a bias is
// multiplied by its factor. Inputs: every column of a Linear (row of a Conv1D, channel of a
// convolution).
enum class Side { Outputs, Inputs };

class Scale final : public RowMap {
 public:
  // Element e is multiplied by factors[e / run % factors.size()].
  Scale(std::vector<double> factors, std::uint64_t run) : factors_(std::move(factors)), run_(run) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    auto factor = static_cast<std::size_t>(first / run_ % factors_.size());
    std::uint64_t left = run_ - first % run_;
    for (std::size_t i = 0; i < from.size(); ++i) {
      to[i] = factors_[factor] * from[i];
      if (--left > 0) continue;
      left = run_;
      if (++factor == factors_.size()) factor = 0;
    }
  }

 private:
  std::vector<double> factors_;
  std::uint64_t run_;
};

class ScaleChange final : public MapChange {
 public:
  // Factors that are the sum of these tensors' numbers, each times its weight.
  struct Term {
    std::size_t tensor;
    double weight;
  };
  // `dims`: of the weight; that of a convolution has more than two.
  ScaleChange(std::vector<Term> terms, std::uint64_t count, Side side, std::size_t dims)
      : terms_(std::move(terms)), count_(count), side_(side), dims_(dims) {}

  bool fits(const BaseTensor& base) const override {
    if (base.shape.size() == 1) return side_ == Side::Outputs && count_ == base.shape[0];
    if (base.shape.size() != dims_ || (dims_ > 2 && base.transposed)) return false;
    if (dims_ == 2 || by_row(base)) return count_ == base.shape[by_row(base) ? 0 : 1];
    return base.shape[1] > 0 && count_ % base.shape[1] == 0 && base.shape[0] % groups(base) == 0;
  }
  std::string expected() const override {
    return fmt::format("{} {}", count_, side_ == Side::Outputs ? "outputs" : "inputs");
  }
  bool elementwise() const override { return true; }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all;
    for (const Term& term : terms_) all.push_back(term.tensor);
    return all;
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    return (count_ * 3 + (groups(base) > 1 ? base.shape[0] * base.shape[1] : 0)) * sizeof(double);
  }
  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const bool bias = base.shape.size() == 1;
    const std::uint64_t run = bias           ? 1
                              : by_row(base) ? base.columns()
                                             : base.columns() / base.shape[1];
    std::vector<double> sum(count_);
    for (const Term& term : terms_) {
      const std::vector<double> numbers = read_numbers(source, term.tensor);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += term.weight * numbers[i];
    }
    if (groups(base) > 1) sum = for_every_output(sum, base);
    return std::make_unique<Scale>(std::move(sum), run);
  }

  bool like(const ScaleChange& other) const {
    return count_ == other.count_ && side_ == other.side_ && dims_ == other.dims_;
  }
  // The same with other terms.
  std::shared_ptr<const Change> of(std::vector<Term> terms) const {
    return std::make_shared<ScaleChange>(std::move(terms), count_, side_, dims_);
  }
  const std::vector<Term>& terms() const { return terms_; }

 private:
  bool by_row(const BaseTensor& base) const { return (side_ == Side::Outputs) != base.transposed; }
  // Of a convolution, whose inputs are those of all its groups, and its weight's those of one.
  std::uint64_t groups(const BaseTensor& base) const {
    return dims_ == 2 || side_ == Side::Outputs || base.shape.size() == 1 ? 1
                                                                          : count_ / base.shape[1];
  }
  std::vector<double> for_every_output(const std::vector<double>& factors,
                                       const BaseTensor& base) const {
    const std::uint64_t inputs = base.shape[1];
    const std::uint64_t outputs_of_group = base.shape[0] / groups(base);
    std::vector<double> all;
    for (std::uint64_t output = 0; output < base.shape[0]; ++output) {
      const double* const first = factors.data() + output / outputs_of_group * inputs;
      all.insert(all.end(), first, first + inputs);
    }
    return all;
  }

  std::vector<Term> terms_;
  std::uint64_t count_;
  Side side_;
  std::size_t dims_;
};

// As PEFT decides it: one expression for whole names, or a list of their endings.
bool is_feedforward(const FamilyModule& module) {
  constexpr const char* kField = "feedforward_modules";
  const ConfigFields& config = module.config();
  const Json* const field = config.find(kField);
  if (field == nullptr) config.wrong(kField, "given, so it is unknown what its vectors multiply");
  const std::vector<std::string> names = config.texts(kField);
  if (field->is_string()) {
    PatternList whole({fmt::format("^(?:{})", names[0])},
                      fmt::format("{} of `{}`", kField, config.path()));
    return whole.first_match(module.name()).has_value();
  }
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& ending) { return module.name().ends_with(ending); });
}

// The vector of a linear layer is a column (out, 1) or a row (1, in); that of a convolution has the
// channels, in or out, in its second dimension.
Side side_of(const FamilyModule& module, std::size_t factors) {
  const std::vector<std::uint64_t>& shape = module.shape(factors);
  const std::uint64_t count = module.info(factors).elements;
  if (shape.size() == 2 && shape[1] == 1) return Side::Outputs;
  if (shape.size() < 2 || count == 0 || shape[1] != count) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has an ia3_l of shape {}, expected a row, a column or channels: `{}`",
                    shape_text(shape), module.info(factors).name),
        factors);
  }
  return shape.size() == 2 || is_feedforward(module) ? Side::Inputs : Side::Outputs;
}

void fold_ia3(FamilyModule& module) {
  const std::size_t factors = module.need("ia3_l");
  const Side side = side_of(module, factors);
  const auto change = std::make_shared<ScaleChange>(std::vector<ScaleChange::Term>{{factors, 1.0}},
                                                    module.info(factors).elements, side,
                                                    module.shape(factors).size());
  module.add(UpdateKind::Map, change);
  if (side == Side::Inputs) return;
  Update bias;
  bias.kind = UpdateKind::Map;
  bias.parameter = "bias";
  bias.change = change;
  bias.if_present = true;
  module.add(std::move(bias));
}

const RegisterFamily registered_ia3(
    {.type = "IA3",
     .name = "IA3",
     .reference = "Liu et al. 2022",
     .update = "outputs (and biases), or the inputs of feed-forward "
               "layers, times one factor each",
     .layers = "linear, Conv1D, convolution in 2 and 3 dimensions",
     .tensors = {"ia3_l"},
     .fold = fold_ia3});

}  // namespace

std::shared_ptr<const Change> sum_of_scales(std::span<const WeightedScale> scales) {
  const auto& first = dynamic_cast<const ScaleChange&>(*scales.front().change);
  std::vector<ScaleChange::Term> terms;
  for (const WeightedScale& scale : scales) {
    const auto& change = dynamic_cast<const ScaleChange&>(*scale.change);
    if (!change.like(first)) return nullptr;
    for (const auto& [tensor, weight] : change.terms()) {
      terms.push_back({scale.offset + tensor, scale.weight * weight});
    }
  }
  return first.of(std::move(terms));
}

}  // namespace thorns
