// RoAd (Liao and Monz 2024): the outputs of a layer, and its bias, are rotated in pairs. The two of
// a pair are half a group apart, x in the first half and x' in the second:
//   y  = x  * a  * cos(t)  - x' * a  * sin(t)
//   y' = x' * a' * cos(t') + x  * a' * sin(t')
// road_1 has one angle and one factor for a pair, road_2 for each output, and road_4 two of each
// for every output, one for the cosine and one for the sine.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr std::uint64_t kDefaultRoadGroup = 64;

// Output i is `own[i]` of itself and `other[i]` of the one with which it makes a pair.
class RotatedPairs final : public RowMap {
 public:
  // An output is a row of `columns` elements.
  RotatedPairs(std::vector<double> own, std::vector<double> other, std::size_t group,
               std::size_t columns)
      : own_(std::move(own)), other_(std::move(other)), group_(group), columns_(columns) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    const auto row = static_cast<std::size_t>(first / columns_);
    for (std::size_t at = 0; at < from.size(); ++at) {
      const std::size_t output = row + at / columns_;
      const bool upper = output % group_ < group_ / 2;
      const std::size_t half = group_ / 2 * columns_;
      to[at] = own_[output] * from[at] + other_[output] * from[upper ? at + half : at - half];
    }
  }

 private:
  std::vector<double> own_;
  std::vector<double> other_;
  std::size_t group_;
  std::size_t columns_;
};

struct StoredPairs {
  std::size_t angles = 0;
  std::size_t factors = 0;
  std::uint64_t variant = 1;  // 1, 2 or 4: halves of a number for every output
  std::uint64_t outputs = 0;
  std::uint64_t group = 0;
};

class PairChange final : public MapChange {
 public:
  PairChange(StoredPairs stored, bool of_bias) : stored_(stored), of_bias_(of_bias) {}

  bool fits(const BaseTensor& base) const override {
    return base.shape.size() == (of_bias_ ? 1U : 2U) && !base.transposed &&
           base.shape[0] == stored_.outputs;
  }
  std::string expected() const override { return fmt::format("{} outputs", stored_.outputs); }
  bool elementwise() const override { return false; }
  // A bias is one row.
  std::uint64_t rows_together() const override { return of_bias_ ? 1 : stored_.group; }
  std::vector<std::size_t> tensors() const override { return {stored_.angles, stored_.factors}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    return 8 * stored_.outputs * sizeof(double);
  }

  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const std::vector<double> angles = read_numbers(source, stored_.angles);
    const std::vector<double> factors = read_numbers(source, stored_.factors);
    std::vector<double> own(static_cast<std::size_t>(stored_.outputs));
    std::vector<double> other(own.size());
    const auto group = static_cast<std::size_t>(stored_.group);
    for (std::size_t i = 0; i < own.size(); ++i) {
      const std::size_t within = i % group;
      const bool upper = within < group / 2;
      // Where the numbers of this output's cosine and sine are.
      std::size_t cosine = i;
      if (stored_.variant == 1) cosine = i / group * (group / 2) + within % (group / 2);
      if (stored_.variant == 4) cosine = i + i / group * group;
      const std::size_t sine = stored_.variant == 4 ? cosine + group : cosine;
      own[i] = factors[cosine] * std::cos(angles[cosine]);
      other[i] = factors[sine] * std::sin(angles[sine]) * (upper ? -1 : 1);
    }
    return std::make_unique<RotatedPairs>(std::move(own), std::move(other), group,
                                          of_bias_ ? 1 : static_cast<std::size_t>(base.columns()));
  }

 private:
  StoredPairs stored_;
  bool of_bias_;
};

void fold_road(FamilyModule& module) {
  const ConfigFields& config = module.config();
  StoredPairs stored;
  stored.angles = module.need("road_theta");
  stored.factors = module.need("road_alpha");
  stored.group = config.count("group_size", kDefaultRoadGroup);
  const std::string variant = config.text("variant", "road_1");
  if (variant == "road_2") stored.variant = 2;
  if (variant == "road_4") stored.variant = 4;
  if (stored.variant == 1 && variant != "road_1") {
    config.wrong("variant", "road_1, road_2 or road_4");
  }
  const std::vector<std::uint64_t>& shape = module.shape(stored.angles);
  const bool vectors = shape.size() == 1 && shape == module.shape(stored.factors);
  stored.outputs = vectors ? shape[0] * 2 / stored.variant : 0;
  if (stored.outputs == 0 || stored.group < 2 || stored.group % 2 != 0 ||
      stored.outputs % stored.group != 0) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has angles of shape {} and factors of shape {} for {} in groups of "
                              "{}: `{}`",
                              shape_text(shape), shape_text(module.shape(stored.factors)), variant,
                              stored.group, module.info(stored.angles).name),
                  stored.angles, "the file and its adapter_config.json do not belong together");
  }
  module.add(UpdateKind::Map, std::make_shared<PairChange>(stored, false));
  Update bias;
  bias.kind = UpdateKind::Map;
  bias.parameter = "bias";
  bias.change = std::make_shared<PairChange>(stored, true);
  bias.if_present = true;
  module.add(std::move(bias));
}

const RegisterFamily registered_road(
    {.type = "ROAD",
     .name = "RoAd",
     .reference = "Liao and Monz 2024",
     .update = "pairs of outputs (and of biases) rotated and scaled",
     .layers = "linear",
     .tensors = {"road_theta", "road_alpha"},
     .fold = fold_road});

}  // namespace
}  // namespace thorns
