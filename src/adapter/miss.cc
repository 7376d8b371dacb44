// MiSS (Kang and Yin 2024), called Bone before: a block of numbers is added to every run of r
// inputs,
//   W'[o, i] = W[o, i] + B[i mod r, o],
// with the block repeated along the outputs where it is narrower ("mini"); or ("bat") every
// r x r tile X of W becomes X + X B + B, with one B for r outputs.
#include <fmt/format.h>

#include <algorithm>

#include "adapter/family.h"
#include "adapter/numbers.h"
#include "adapter/rotation.h"
#include "base/text.h"
#include "kernel/kernels.h"

namespace thorns {
namespace {

// D[o, i] = numbers[o mod lines][i mod run].
class RepeatedLines final : public Delta {
 public:
  RepeatedLines(std::vector<double> numbers, std::size_t run, std::uint64_t columns)
      : numbers_(std::move(numbers)), run_(run), columns_(columns) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    const std::uint64_t lines = numbers_.size() / run_;
    std::uint64_t row = first / columns_;
    std::uint64_t column = first % columns_;
    for (std::size_t done = 0; done < to.size(); ++row, column = 0) {
      const double* const line = numbers_.data() + row % lines * run_;
      for (; column < columns_ && done < to.size(); ++column) to[done++] = line[column % run_];
    }
  }

 private:
  std::vector<double> numbers_;
  std::size_t run_;
  std::uint64_t columns_;
};

// The block as its family stores it: r x width, or (bat) out / r blocks of r x r.
struct Block {
  std::size_t tensor = 0;
  std::uint64_t run = 0;    // r
  std::uint64_t lines = 0;  // width, or the outputs of all blocks together
  bool bat = false;
  bool mini = false;

  bool fits(const BaseTensor& base) const {
    if (base.shape.size() != 2 || base.transposed || base.columns() < run) return false;
    return (mini ? base.rows() % lines == 0 : base.rows() == lines) &&
           (!bat || base.columns() % run == 0);
  }
  std::string expected() const {
    return fmt::format(
        "{} outputs and {} inputs",
        mini ? fmt::format("a multiple of {}", lines) : std::to_string(lines),
        bat ? fmt::format("a multiple of {}", run) : fmt::format("at least {}", run));
  }
  std::uint64_t memory() const { return 3 * run * lines * sizeof(double); }  // stored, read, made
};

class AddedBlock final : public DeltaChange {
 public:
  explicit AddedBlock(Block block) : block_(block) {}

  bool fits(const BaseTensor& base) const override { return block_.fits(base); }
  std::string expected() const override { return block_.expected(); }
  std::vector<std::size_t> tensors() const override { return {block_.tensor}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return block_.memory(); }
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    const auto run = static_cast<std::size_t>(block_.run);
    std::vector<double> numbers = read_numbers(source, block_.tensor);
    if (!block_.bat) numbers = transposed(numbers, run);
    return std::make_unique<RepeatedLines>(std::move(numbers), run, base.columns());
  }

 private:
  static std::vector<double> transposed(const std::vector<double>& numbers, std::size_t rows) {
    const std::size_t columns = numbers.size() / rows;
    std::vector<double> result(numbers.size());
    for (std::size_t e = 0; e < numbers.size(); ++e)
      result[e % columns * rows + e / columns] = numbers[e];
    return result;
  }

  Block block_;
};

// X + X B: the runs of r rows each times I + B.
class TurnedTiles final : public RowMap {
 public:
  TurnedTiles(Matrices matrices, std::uint64_t columns)
      : matrices_(std::move(matrices)), columns_(static_cast<std::size_t>(columns)) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    const std::size_t run = matrices_.size();
    auto row = static_cast<std::size_t>(first / columns_);
    for (std::size_t done = 0; done < from.size(); ++row, done += columns_) {
      multiply_rows(from.data() + done, columns_ / run, run, matrices_[row / run].data(), run,
                    to.data() + done);
    }
  }

 private:
  Matrices matrices_;
  std::size_t columns_;
};

class TileMap final : public MapChange {
 public:
  explicit TileMap(Block block) : block_(block) {}

  bool fits(const BaseTensor& base) const override { return block_.fits(base); }
  std::string expected() const override { return block_.expected(); }
  bool elementwise() const override { return false; }
  std::vector<std::size_t> tensors() const override { return {block_.tensor}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return block_.memory(); }
  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    const auto run = static_cast<std::size_t>(block_.run);
    Matrices matrices(run, static_cast<std::size_t>(block_.lines / block_.run));
    const std::vector<double> numbers = read_numbers(source, block_.tensor);
    for (std::size_t i = 0; i < matrices.count(); ++i) {
      const auto matrix = matrices[i];
      std::copy_n(numbers.data() + i * matrix.size(), matrix.size(), matrix.data());
      for (std::size_t k = 0; k < run; ++k) matrix[k * run + k] += 1;
    }
    return std::make_unique<TurnedTiles>(std::move(matrices), base.columns());
  }

 private:
  Block block_;
};

// `init_weights` says which of the three it is; true, false and anything else is the plain one.
std::string kind_of(const ConfigFields& config) {
  const Json* field = config.find("init_weights");
  return field != nullptr && field->is_string() ? field->get<std::string>() : "";
}

void fold_miss(FamilyModule& module) {
  Block block;
  block.tensor = module.need(module.has("bone_block") ? "bone_block" : "miss_block");
  block.bat = kind_of(module.config()) == "bat";
  block.mini = kind_of(module.config()) == "mini";
  const std::vector<std::uint64_t>& shape = module.shape(block.tensor);
  const bool tiles = shape.size() == 3 && shape[1] == shape[2];
  if (module.info(block.tensor).elements == 0 || (block.bat ? !tiles : shape.size() != 2)) {
    module.refuse(
        ErrorCode::Corrupt,
        fmt::format("has a block of shape {}, which is none of init_weights={}: `{}`",
                    shape_text(shape), block.bat ? "bat" : "true", module.info(block.tensor).name),
        block.tensor, "the file and its adapter_config.json do not belong together");
  }
  block.run = block.bat ? shape[1] : shape[0];
  block.lines = block.bat ? shape[0] * shape[1] : shape[1];
  if (block.bat) module.add(UpdateKind::Map, std::make_shared<TileMap>(block));
  module.add(UpdateKind::Generate, std::make_shared<AddedBlock>(block));
}

constexpr const char* kUpdate =
    "W + a block repeated along the inputs (`mini`: along the outputs, too); `bat`: tile by tile "
    "X + X·B + B";

const RegisterFamily miss({.type = "MISS",
                           .name = "MiSS",
                           .reference = "Kang and Yin 2024",
                           .update = kUpdate,
                           .layers = "linear",
                           .tensors = {"miss_block"},
                           .fold = fold_miss});
const RegisterFamily bone({.type = "BONE",
                           .name = "Bone",
                           .reference = "Kang and Yin 2024",
                           .update = kUpdate,
                           .layers = "linear",
                           .tensors = {"bone_block"},
                           .fold = fold_miss});

}  // namespace
}  // namespace thorns
