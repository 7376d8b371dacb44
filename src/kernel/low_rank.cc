// Products of an adapter's two thin factors.
#include <algorithm>
#include <cstring>

#include "kernel/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernel/low_rank.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernel/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thorns {
namespace HWY_NAMESPACE {

// sum += value, the rounding error of that into `error` (two-sum: Knuth 1969).
HWY_INLINE void AddTo(float* sum, hn::Vec<DF> value, float* error) {
  const DF d;
  const auto before = hn::LoadU(d, sum);
  const auto after = hn::Add(before, value);
  const auto added = hn::Sub(after, before);
  const auto lost = hn::Add(hn::Sub(before, hn::Sub(after, added)), hn::Sub(value, added));
  hn::StoreU(after, d, sum);
  hn::StoreU(hn::Add(hn::LoadU(d, error), lost), d, error);
}

// One block of ranks [first, last) of Rows.
template <std::size_t kRows>
HWY_INLINE void Block(const float* u, const float* panel, std::size_t rank, std::size_t first,
                      std::size_t last, std::size_t c, float* const* to, float (*errors)[kPanel]) {
  const DF d;
  const std::size_t step = hn::Lanes(d);
  hn::Vec<DF> low[kRows];
  hn::Vec<DF> high[kRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) low[r] = high[r] = hn::Zero(d);
  for (std::size_t k = first; k < last; ++k) {
    const auto v_low = hn::LoadU(d, panel + k * kPanel + c);
    const auto v_high = hn::LoadU(d, panel + k * kPanel + c + step);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, u[r * rank + k]);
      low[r] = FusedMulAdd(factor, v_low, low[r]);
      high[r] = FusedMulAdd(factor, v_high, high[r]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
    if (first > 0) {
      AddTo(to[r] + c, low[r], errors[r]);
      AddTo(to[r] + c + step, high[r], errors[r] + step);
    } else {
      hn::StoreU(low[r], d, to[r] + c);
      hn::StoreU(high[r], d, to[r] + c + step);
    }
  }
}

// kRows rows of U times two vectors of a panel's columns, starting at column `c` of the panel. The
// panel is short enough to stay in the first-level cache while all rows pass over it.
template <std::size_t kRows>
HWY_INLINE void Rows(const float* u, const float* panel, std::size_t rank, std::size_t c,
                     float* const* to) {
  const DF d;
  const std::size_t step = hn::Lanes(d);
  if (rank <= kRankBlock) {
    Block<kRows>(u, panel, rank, 0, rank, c, to, nullptr);
    return;
  }
  HWY_ALIGN float errors[kRows][kPanel] = {};
  for (std::size_t first = 0; first < rank; first += kRankBlock) {
    Block<kRows>(u, panel, rank, first, std::min(rank, first + kRankBlock), c, to, errors);
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (const std::size_t at : {std::size_t{0}, step}) {
      float* const sum = to[r] + c + at;
      hn::StoreU(hn::Add(hn::LoadU(d, sum), hn::LoadU(d, errors[r] + at)), d, sum);
    }
  }
}
// Rows that are computed together: as many as keep their sums in registers.
inline constexpr std::size_t kRowBlock =
    HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 8 : 4;

// `rows` (1, 2, 4 or 8) rows of one whole panel.
void PanelRows(const float* u, const float* panel, std::size_t rank, std::size_t rows,
               float* const* to) {
  for (std::size_t c = 0; c < kPanel; c += 2 * hn::Lanes(DF())) {
    switch (rows) {
      case 1:
        Rows<1>(u, panel, rank, c, to);
        break;
      case 2:
        Rows<2>(u, panel, rank, c, to);
        break;
      case 4:
        Rows<4>(u, panel, rank, c, to);
        break;
      default:
        Rows<kRowBlock>(u, panel, rank, c, to);
        break;
    }
  }
}

std::size_t BlockOf(std::size_t rows) {
  std::size_t block = kRowBlock;
  while (block > rows) block /= 2;
  return block;
}

// Columns [begin, end) of `rows` rows, written to `to` with stride `columns`: to[0] is column
// `begin` of the first row. Panels that stick out of the range go through a buffer.
void Rectangle(const float* u, const float* packed, std::size_t rank, std::size_t columns,
               std::size_t rows, std::size_t begin, std::size_t end, float* to) {
  HWY_ALIGN float buffer[kRowBlock][kPanel];
  for (std::size_t panel = begin / kPanel; panel * kPanel < end; ++panel) {
    const float* const v = packed + panel * kPanel * rank;
    const std::size_t first = std::max(begin, panel * kPanel);
    const std::size_t last = std::min(end, (panel + 1) * kPanel);
    const bool whole = last - first == kPanel;
    for (std::size_t row = 0; row < rows;) {
      const std::size_t block = BlockOf(rows - row);
      float* targets[kRowBlock];
      for (std::size_t r = 0; r < block; ++r) {
        targets[r] = whole ? to + (row + r) * columns + (first - begin) : buffer[r];
      }
      PanelRows(u + row * rank, v, rank, block, targets);
      if (!whole) {
        for (std::size_t r = 0; r < block; ++r) {
          std::memcpy(to + (row + r) * columns + (first - begin),
                      buffer[r] + (first - panel * kPanel), (last - first) * sizeof(float));
        }
      }
      row += block;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thorns
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thorns {

HWY_EXPORT(Rectangle);

void pack_panels(const float* v, std::size_t rank, std::size_t columns, float* packed) {
  for (std::size_t first = 0; first < columns; first += kPanel) {
    const std::size_t width = std::min(kPanel, columns - first);
    for (std::size_t k = 0; k < rank; ++k) {
      std::memcpy(packed, v + k * columns + first, width * sizeof(float));
      std::memset(packed + width, 0, (kPanel - width) * sizeof(float));
      packed += kPanel;
    }
  }
}

void low_rank(const float* u, const float* packed_v, std::size_t rank, std::size_t columns,
              std::uint64_t first, std::size_t count, float* to) {
  const auto rectangle = HWY_DYNAMIC_DISPATCH(Rectangle);
  // The range is the end of one row, whole rows, and the beginning of one more.
  while (count > 0) {
    const std::uint64_t row = first / columns;
    const auto begin = static_cast<std::size_t>(first % columns);
    const bool aligned = begin == 0 && count >= columns;
    const std::size_t rows = aligned ? count / columns : 1;
    const std::size_t end = aligned ? columns : std::min(columns, begin + count);
    rectangle(u + row * rank, packed_v, rank, columns, rows, begin, end, to);
    const std::size_t done = rows * (end - begin);
    first += done;
    to += done;
    count -= done;
  }
}

}  // namespace thorns
#endif  // HWY_ONCE
