// The arithmetic of a merge on small runs of elements ("chunks") that stay in the first-level
// cache. Every kernel is compiled for every SIMD target of the CPU family and chosen at run time;
// all targets give the same bits (kernel/reference.h holds the slow twin of each, and the tests
// compare them).
//
// All functions are pure and may be called from any thread. Pointers need no alignment but are
// faster on 64 bytes. Elements are little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "thorns/dtype.h"

namespace thorns {

// Longest run that is worth handing to a kernel at once: a handful of them fit the first-level
// cache.
inline constexpr std::size_t kChunk = 512;
// Runs of float64 are padded with zeros to a multiple of this, which is also the number of lanes in
// which inner products are summed.
inline constexpr std::size_t kLanes = 8;
inline std::size_t padded(std::size_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

// Stored elements as float64, exactly, followed by zeros up to padded(count). The dtype must be
// blendable.
void widen(Dtype dtype, const std::byte* from, std::size_t count, double* to);
// The same with F64 rounded to float32: 24 significant bits are all that any value has.
void widen_to_24_bits(Dtype dtype, const std::byte* from, std::size_t count, double* to);

// Adds the inner products of every pair (i <= j) of `vectors` (`count` elements each, padded, of at
// most 24 significant bits) to `lanes`, in float64: products of two such values are exact in it.
// Lane l of a pair sums the elements whose index is l modulo kLanes, in order, so the bits do not
// depend on the width of the CPU's vectors. `lanes` has pairs(n) * kLanes entries, pair-major;
// pairs are ordered (0,0) (0,1)
// ... (0,n-1) (1,1) ...
void gram(const double* const* vectors, std::size_t n, std::size_t count, double* lanes);
inline std::size_t pairs(std::size_t n) { return n * (n + 1) / 2; }
inline std::size_t pair_index(std::size_t i, std::size_t j, std::size_t n) {
  return i * n - i * (i + 1) / 2 + j;  // i <= j < n
}
// The sum of one pair's lanes, by a fixed tree.
double sum_lanes(const double* lanes);

// V of a low-rank product, rearranged so that a panel of kPanel columns lies together for all
// ranks.
inline constexpr std::size_t kPanel = 32;
inline std::size_t packed_size(std::size_t rank, std::size_t columns) {
  return rank * ((columns + kPanel - 1) / kPanel) * kPanel;
}
// `v` is rank x columns, row-major; `packed` has packed_size() elements, 64-byte aligned is best.
void pack_panels(const float* v, std::size_t rank, std::size_t columns, float* packed);

// Elements [first, first + count) of the row-major product U * V, U rows x rank (row-major), V
// packed, in float32. Every kRankBlock steps of the rank are one chain of fused multiply-adds, in
// order; the chains are added up with their rounding errors kept (Knuth's two-sum), so that the
// error does not grow with the rank. Every CPU gives the same bits, emulated exactly where it has
// no fused multiply-add.
inline constexpr std::size_t kRankBlock = 16;
void low_rank(const float* u, const float* packed_v, std::size_t rank, std::size_t columns,
              std::uint64_t first, std::size_t count, float* to);

// `rows` runs of `size` elements, `stride` apart, each multiplied from the right by a row-major
// `size` x `size` matrix, into runs that lie alike at `to` (which may not overlap). Sums are formed
// in order; products and sums are rounded to float64, never fused.
void multiply_rows(const double* from, std::size_t rows, std::size_t stride, const double* matrix,
                   std::size_t size, double* to);

// What happened when float64 sums were rounded to the output type.
struct RoundingCounts {
  std::uint64_t rounded = 0;    // the stored value is not the sum
  std::uint64_t clipped = 0;    // a finite sum became infinite
  std::uint64_t nonfinite = 0;  // the stored value is NaN or Inf (clipped ones included)
};

// to[e] = round(sum over i of coefficients[i] * vectors[i][e]) for `count` elements (vectors
// padded): each product and each addition is rounded to float64, in order and never fused, and the
// sum is rounded once to `dtype` (F32, F16 or BF16). NaN is stored as the positive quiet one.
void blend(const double* const* vectors, const double* coefficients, std::size_t n,
           std::size_t count, Dtype dtype, std::byte* to, RoundingCounts& counts);

// The same straight from stored elements, widened in registers: the bits of widen() and blend().
// `count` must be a multiple of kBlendStep. Returns false, and counts nothing, where some stored
// value is not finite: blend() then tells overflow from what came in.
struct StoredRun {
  const std::byte* from = nullptr;  // any blendable dtype
  Dtype dtype = Dtype::F32;
};
inline constexpr std::size_t kBlendStep = 64;
bool blend_stored(const StoredRun* runs, const double* coefficients, std::size_t n,
                  std::size_t count, Dtype dtype, std::byte* to, RoundingCounts& counts);

// Whether no element is NaN or Inf; any blendable dtype.
bool all_finite(Dtype dtype, const std::byte* from, std::size_t count);

// The SIMD targets this CPU can run, best first ("AVX3_DL", "AVX2", "SSE4", ...).
std::vector<std::string> simd_targets();
// Uses only this target from now on, or the best one again for an empty name. For tests and
// measurements: not thread-safe against running kernels.
void force_simd_target(const std::string& name);

}  // namespace thorns
