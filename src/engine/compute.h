// The arithmetic of one grain of one program: the innermost work of a merge, done by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/tiles.h"
#include "kernel/kernels.h"
#include "plan/plan.h"

namespace thorns {

// The factors of a program's low-rank operands, ready for the kernel. Read once per program.
class Factors {
 public:
  // Reads what `program` needs. Throws what the adapter's source throws.
  explicit Factors(const Program& program);

  struct Product {
    std::size_t rank = 0;
    std::size_t columns = 0;
    std::vector<float> u;
    std::vector<float> packed_v;
  };
  // Null for operands that are not products.
  const Product* of(std::size_t operand) const {
    return products_[operand] ? &*products_[operand] : nullptr;
  }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  std::vector<std::optional<Product>> products_;
  std::uint64_t bytes_read_ = 0;
};

// Working space of one thread, large enough for every program of the plan.
struct Workspace {
  explicit Workspace(const Plan& plan);
  Buffer chunks;              // one float64 chunk per operand
  Buffer products;            // one float32 grain per product
  std::vector<double> lanes;  // the running sums of all pairs
};

// Elements [offset, offset + count) of a tile, at most a grain, as runs of float64.
class GrainView {
 public:
  // Computes the products of the range at once.
  GrainView(const Program& program, const Factors& factors, const Tile& tile, std::uint64_t offset,
            std::size_t count, Workspace& workspace);

  std::size_t count() const { return count_; }
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
  const Program& program_;
  const Tile& tile_;
  std::uint64_t offset_;  // in the tile, elements
  std::size_t count_;
  Workspace& space_;
  std::vector<const float*> products_;  // null for stored operands
  std::vector<const double*> pointers_;
  std::vector<StoredRun> runs_;
};

// The inner products of all pairs of operands over the grain, into `sums` (pairs(n) entries). With
// `finite_only`, elements that are NaN or Inf count as 0.
void measure(GrainView& grain, bool finite_only, std::span<double> sums);

// The weighted sum of the grain, rounded to `dtype`, into `to`.
RoundingCounts blend_grain(GrainView& grain, std::span<const double> coefficients, Dtype dtype,
                           std::byte* to);

}  // namespace thorns
