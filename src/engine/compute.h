// The arithmetic of one grain of one program: the innermost work of a merge, done by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/pages.h"
#include "engine/solve.h"
#include "engine/tiles.h"
#include "kernel/kernels.h"
#include "plan/plan.h"

namespace thorns {

// What a program's updates need, ready for computing: the factors of products, and what the other
// changes load. Read once per program.
class LoadedUpdates {
 public:
  // Reads what `program` needs. Throws what the adapter's source throws.
  explicit LoadedUpdates(const Program& program);

  struct Product {
    std::size_t rank = 0;
    std::size_t columns = 0;
    std::vector<float> u;
    std::vector<float> packed_v;
  };
  // Null for operands of another kind.
  const Product* product(std::size_t operand) const {
    return products_[operand] ? &*products_[operand] : nullptr;
  }
  const Delta& delta(std::size_t operand) const { return *deltas_[operand]; }
  const RowMap& map(std::size_t operand) const { return *maps_[operand]; }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  void load_product(const Program& program, std::size_t operand_index);

  std::vector<std::optional<Product>> products_;
  std::vector<std::unique_ptr<Delta>> deltas_;
  std::vector<std::unique_ptr<RowMap>> maps_;
  std::uint64_t bytes_read_ = 0;
};

// Working space of one thread, large enough for every program of the plan.
struct Workspace {
  explicit Workspace(const Plan& plan);
  Buffer chunks;              // one float64 chunk per operand
  Buffer products;            // one float32 grain per product, and per operand that is decoded
  Buffer computed;            // one float64 grain per computed operand, and one that is mapped
  std::vector<double> lanes;  // the running sums of all pairs
};

// Elements [offset, offset + count) of a tile, at most a grain, as runs of float64.
class GrainView {
 public:
  // Computes the products of the range at once, and all that is decoded or computed.
  GrainView(const Program& program, const LoadedUpdates& updates, const Tile& tile,
            std::uint64_t offset, std::size_t count, Workspace& workspace);

  const Program& program() const { return program_; }
  std::size_t count() const { return count_; }
  // Index in the tensor of the grain's first element, and the block in which the grain lies.
  std::uint64_t first() const { return tile_.first + offset_; }
  std::size_t block() const { return tile_.block; }
  std::size_t operands() const { return program_.operands.size(); }
  std::vector<double>& lanes() { return space_.lanes; }
  // Elements [begin, begin + count) of the grain, at most a chunk, of every operand, padded with
  // zeros. Valid until the next call.
  enum class As {
    Exact,      // for the weighted sum
    Measured,   // at most 24 significant bits, for inner products
    FiniteOnly  // the same, with NaN and Inf as 0
  };
  const std::vector<const double*>& chunk(std::size_t begin, std::size_t count, As as);
  // The same elements as they are stored, from `begin`. Valid until the next call, for at most a
  // chunk.
  const std::vector<StoredRun>& stored(std::size_t begin);

 private:
  // Elements of the grain as float64, whatever the operand is, into `to`.
  void widen_operand(std::size_t operand, double* to) const;

  const Program& program_;
  const Tile& tile_;
  std::uint64_t offset_;  // in the tile, elements
  std::size_t count_;
  Workspace& space_;
  std::vector<const float*> products_;   // and what is decoded; null for all other operands
  std::vector<const double*> computed_;  // null for all other operands
  std::vector<const double*> pointers_;
  std::vector<StoredRun> runs_;
};

// The inner products of all pairs of operands over the grain, into `sums` (pairs(n) entries). With
// `finite_only`, elements that are NaN or Inf count as 0.
void measure(GrainView& grain, bool finite_only, std::span<double> sums);

// The same cell by cell, for a program that is solved by lines. `sums` are all of the program's
// cells (CellGrams); with Lines::Rows those of the grain's rows are set, with Lines::Columns the
// grain is added to those of its block: then one grain after the other, in order.
void measure_lines(GrainView& grain, bool finite_only, std::span<double> sums);

// The weighted sum of the grain, rounded to `dtype`, into `to`.
RoundingCounts blend_grain(GrainView& grain, std::span<const double> coefficients, Dtype dtype,
                           std::byte* to);

// The same for a program that is solved by lines; `coefficients` are all of its cells'.
RoundingCounts blend_lines(GrainView& grain, std::span<const double> coefficients, Dtype dtype,
                           std::byte* to);

// What one more rounding would do to the first kSample elements of a grain whose result is `stored`
// in `dtype` (of 16 bits): those that would differ had the models of the last node been rounded to
// `dtype` before it. Nothing is counted where one of them is NaN or Inf.
inline constexpr std::size_t kSample = 128;
struct StepCounts {
  std::uint64_t sampled = 0;
  std::uint64_t changed = 0;
};
StepCounts count_changed(GrainView& grain, const LastStep& last, Dtype dtype,
                         const std::byte* stored);

}  // namespace thorns
