// With R = (I + Q)(I - Q)^-1 and Q = B - B^T of every stored block B (Cayley 1846):
//
//   OFT   oft_blocks (n, b, b):    W' = diag(R1, ..., Rn)^T W
//   BOFT  oft_blocks (m, n, b, b): W' = F_m ... F_1 W, F_i = P_i^T diag(Ri1, ..., Rin) P_i
//
// and then row by row times `rescale`. P_i brings rows together that are 2^(i-1) b/2 apart. Where
// alpha is not 0, all Q of a module are scaled down together to a norm of at most alpha * outputs.
//
// Source: lycoris/modules/diag_oft.py and boft.py of LyCORIS 4.1, networks/oft.py of sd-scripts.
#include "adapter/lycoris_oft.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "adapter/numbers.h"
#include "adapter/rotation.h"
#include "base/text.h"

namespace thorns {
namespace {

struct StoredBlocks {
  std::size_t blocks = 0;
  std::optional<std::size_t> rescale;
  bool butterfly = false;
  std::uint64_t factors = 1;  // m
  std::uint64_t count = 0;    // n, blocks of a factor
  std::uint64_t size = 0;     // b, rows of a block
  double alpha = 0;

  std::uint64_t rows() const { return count * size; }
  // That are mixed: those that the last factor brings together, and all between them.
  std::uint64_t rows_together() const { return size << (factors - 1); }
};

// Columns of groups of rows, each through its group's rotation as a row vector.
class OutputRotation final : public RowMap {
 public:
  OutputRotation(std::vector<Rotation> groups, std::size_t rows, std::size_t columns,
                 std::vector<double> factors)
      : groups_(std::move(groups)), rows_(rows), columns_(columns), factors_(std::move(factors)) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    constexpr std::size_t kAtOnce = 64;
    std::vector<double> turned(rows_ * kAtOnce);
    std::vector<double> rotated(turned.size());
    for (std::size_t at = 0; at < from.size(); at += rows_ * columns_) {
      const auto row = static_cast<std::size_t>((first + at) / columns_);
      for (std::size_t column = 0; column < columns_; column += kAtOnce) {
        const std::size_t count = std::min(kAtOnce, columns_ - column);
        for (std::size_t r = 0; r < rows_; ++r) {
          const double* const line = from.data() + at + r * columns_ + column;
          for (std::size_t c = 0; c < count; ++c) turned[c * rows_ + r] = line[c];
        }
        groups_[row / rows_].apply(0, std::span(turned).first(count * rows_),
                                   std::span(rotated).first(count * rows_));
        for (std::size_t r = 0; r < rows_; ++r) {
          const double factor = factors_.empty() ? 1 : factors_[row + r];
          double* const line = to.data() + at + r * columns_ + column;
          for (std::size_t c = 0; c < count; ++c) line[c] = factor * rotated[c * rows_ + r];
        }
      }
    }
  }

 private:
  std::vector<Rotation> groups_;
  std::size_t rows_;  // of a group
  std::size_t columns_;
  std::vector<double> factors_;
};

// Where P_i puts `row`, i = factor + 1: the halves of every run of 2^factor * size rows take turns.
std::size_t place_of(std::size_t row, std::size_t factor, std::size_t size) {
  const std::size_t run = size << factor;
  const std::size_t within = row % run;
  return row - within + within % (run / 2) * 2 + within / (run / 2);
}

class OutputRotations final : public MapChange {
 public:
  explicit OutputRotations(StoredBlocks stored) : stored_(stored) {}

  bool fits(const BaseTensor& base) const override {
    return base.shape.size() > 1 && !base.transposed && base.rows() == stored_.rows();
  }
  std::string expected() const override { return fmt::format("{} outputs", stored_.rows()); }
  bool elementwise() const override { return false; }
  std::uint64_t rows_together() const override { return stored_.rows_together(); }
  std::vector<std::size_t> tensors() const override {
    if (stored_.rescale) return {stored_.blocks, *stored_.rescale};
    return {stored_.blocks};
  }
  std::uint64_t memory(const BaseTensor& /*base*/) const override {
    const std::uint64_t blocks = stored_.factors * stored_.count;
    // Read as stored and as numbers, made; the orders of rows, and the factors.
    return 3 * Matrices::memory(stored_.size, blocks) +
           (stored_.factors + 3) * stored_.rows() * sizeof(double);
  }

  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const auto size = static_cast<std::size_t>(stored_.size);
    const std::size_t area = size * size;
    const auto together = static_cast<std::size_t>(stored_.rows_together());
    std::vector<double> blocks = read_numbers(source, stored_.blocks);
    double squares = 0;
    for (std::size_t at = 0; at < blocks.size(); at += area) {
      const std::span<double> block(blocks.data() + at, area);
      make_skew(block, size, 2);
      for (const double number : block) squares += number * number;
    }
    // LyCORIS has this 1e-8 in float32, to divide by no zero.
    const double norm = std::sqrt(squares) + 1e-8;
    const double bound = stored_.alpha * static_cast<double>(stored_.rows());
    const double shrink = bound > 0 && norm > bound ? bound / norm : 1;
    // Rotation multiplies from the right, by the transposed of what W is multiplied with from the
    // left; that of Q's rotation is that of -Q.
    for (double& number : blocks) number *= stored_.butterfly ? shrink : -shrink;

    std::vector<Rotation> groups;
    for (std::size_t row = 0; row < stored_.rows(); row += together) {
      std::vector<Rotation::Step> steps;
      for (std::size_t factor = 0; factor < stored_.factors; ++factor) {
        Matrices matrices(size, together / size);
        const double* const from = blocks.data() + (factor * stored_.count + row / size) * area;
        std::copy_n(from, matrices.count() * area, matrices[0].data());
        for (std::size_t i = 0; i < matrices.count(); ++i) cayley(matrices[i], size);
        steps.push_back({std::move(matrices), order_of(factor)});
      }
      groups.emplace_back(std::move(steps), together, std::vector<double>{});
    }
    std::vector<double> factors;
    if (stored_.rescale) factors = read_numbers(source, *stored_.rescale);
    return std::make_unique<OutputRotation>(
        std::move(groups), together, static_cast<std::size_t>(base.columns()), std::move(factors));
  }

 private:
  std::vector<std::size_t> order_of(std::size_t factor) const {
    if (!stored_.butterfly) return {};
    std::vector<std::size_t> order(static_cast<std::size_t>(stored_.rows_together()));
    for (std::size_t row = 0; row < order.size(); ++row) {
      order[row] = place_of(row, factor, static_cast<std::size_t>(stored_.size));
    }
    return order;
  }

  StoredBlocks stored_;
};

}  // namespace

void fold_lycoris_oft(FamilyModule& module) {
  StoredBlocks stored;
  stored.blocks = module.need("oft_blocks");
  const std::vector<std::uint64_t>& shape = module.shape(stored.blocks);
  const std::size_t dims = shape.size();
  const auto refuse = [&](const char* what) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has rotations of shape {}, which are {}: `{}`", shape_text(shape),
                              what, module.info(stored.blocks).name),
                  stored.blocks, "the file was saved incompletely");
  };
  if ((dims != 3 && dims != 4) || module.info(stored.blocks).elements == 0 ||
      shape[dims - 1] != shape[dims - 2]) {
    refuse("no square blocks");
  }
  stored.butterfly = dims == 4;
  if (stored.butterfly) stored.factors = shape[0];
  stored.count = shape[dims - 3];
  stored.size = shape[dims - 1];
  // The last factor mixes 2^(m-1) blocks.
  if (stored.butterfly && (stored.size % 2 != 0 || stored.factors > 32 ||
                           stored.count % (std::uint64_t{1} << (stored.factors - 1)) != 0)) {
    refuse("no butterfly");
  }
  if (module.has("oft_rescale")) {
    stored.rescale = module.need("oft_rescale");
    if (module.info(*stored.rescale).elements != stored.rows()) {
      module.refuse(ErrorCode::Corrupt,
                    fmt::format("has factors of shape {} for {} outputs: `{}`",
                                shape_text(module.shape(*stored.rescale)), stored.rows(),
                                module.info(*stored.rescale).name),
                    *stored.rescale);
    }
  }
  stored.alpha = module.alpha("alpha");
  module.add(UpdateKind::Map, std::make_shared<OutputRotations>(stored));
}

}  // namespace thorns
