#include "checkpoint/strided.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "checkpoint/stored_tensor.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostWindow = 256 << 10;  // bytes fetched in one call and picked from
constexpr std::uint64_t kSmallWindow = 4096;      // fetched whole, however few bytes are wanted
constexpr std::uint64_t kMostWaste = 4;           // else at most this many bytes for a wanted one

// A block of a tensor: `count` indices in every dimension.
struct Box {
  std::array<std::uint64_t, kMostDimensions> count{};
  std::uint64_t from = 0;   // its first element in the file, in elements from the tensor's first
  std::byte* to = nullptr;  // its first element in memory
};

template <std::size_t kSize>
void copy_line(const std::byte* from, std::uint64_t from_step, std::byte* to, std::uint64_t to_step,
               std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    std::memcpy(to + i * to_step * kSize, from + i * from_step * kSize, kSize);
  }
}

class Gatherer {
 public:
  Gatherer(const ReadFile& file, const StridedLayout& layout)
      : file_(file), layout_(layout), rank_(layout.shape.size()), size_(layout.element_size) {
    std::uint64_t step = 1;
    for (std::size_t d = rank_; d-- > 0;) {
      steps_[d] = step;
      step *= layout_.shape[d];
    }
  }

  // Elements [first, first + count) of the sub-tensor that dimensions `dim` and up make, whose own
  // first element is number `from`: part of a row, whole rows, part of a row.
  void run(std::size_t dim, std::uint64_t from, std::uint64_t first, std::uint64_t count,
           std::byte* to) {
    if (count == 0) return;
    Box box;
    box.count.fill(1);
    if (dim == rank_) {  // a scalar
      box.from = from;
      box.to = to;
      return gather(box);
    }
    const std::uint64_t row = steps_[dim];
    const std::uint64_t stride = layout_.strides[dim];
    if (const std::uint64_t skipped = first % row; skipped != 0) {
      const std::uint64_t head = std::min(count, row - skipped);
      run(dim + 1, from + first / row * stride, skipped, head, to);
      first += head;
      count -= head;
      to += head * size_;
    }
    if (const std::uint64_t rows = count / row; rows != 0) {
      box.count[dim] = rows;
      for (std::size_t d = dim + 1; d < rank_; ++d) box.count[d] = layout_.shape[d];
      box.from = from + first / row * stride;
      box.to = to;
      gather(box);
      first += rows * row;
      count -= rows * row;
      to += rows * row * size_;
    }
    if (count != 0) run(dim + 1, from + first / row * stride, 0, count, to);
  }

 private:
  // Fetches a box whole where its elements lie near each other, and in halves where they do not.
  void gather(const Box& box) {
    std::uint64_t span = 1;    // elements of the file from its first to its last
    std::uint64_t wanted = 1;  // of them at most
    std::size_t longest = 0;
    std::uint64_t longest_extent = 0;
    std::size_t lines = 0;  // dimensions with more than one index
    std::size_t last = 0;   // the innermost of them
    for (std::size_t d = 0; d < rank_; ++d) {
      if (box.count[d] == 1) continue;
      ++lines;
      last = d;
      if (layout_.strides[d] != 0) wanted *= box.count[d];
      const std::uint64_t extent = (box.count[d] - 1) * layout_.strides[d];
      span += extent;
      if (extent > longest_extent) {
        longest = d;
        longest_extent = extent;
      }
    }
    const std::uint64_t begin = layout_.offset + box.from * size_;
    if (lines == 0 || (lines == 1 && layout_.strides[last] == 1 && steps_[last] == 1)) {
      return file_.read(begin, std::span(box.to, span * size_));
    }
    const bool near = span <= kMostWindow / size_ &&
                      (span <= kSmallWindow / size_ || span / kMostWaste <= wanted);
    if (near) {
      window_.resize(span * size_);
      file_.read(begin, window_);
      return pick(box, last);
    }
    Box half = box;
    half.count[longest] = box.count[longest] / 2;
    gather(half);
    half.from += half.count[longest] * layout_.strides[longest];
    half.to += half.count[longest] * steps_[longest] * size_;
    half.count[longest] = box.count[longest] - half.count[longest];
    gather(half);
  }

  // Copies a box out of the window, line by line along dimension `last`.
  void pick(const Box& box, std::size_t last) const {
    std::array<std::uint64_t, kMostDimensions> index{};
    for (;;) {
      std::uint64_t from = 0;
      std::uint64_t to = 0;
      for (std::size_t d = 0; d < last; ++d) {
        from += index[d] * layout_.strides[d];
        to += index[d] * steps_[d];
      }
      copy(window_.data() + from * size_, layout_.strides[last], box.to + to * size_, steps_[last],
           box.count[last]);
      std::size_t d = last;
      while (d > 0 && ++index[d - 1] == box.count[d - 1]) index[--d] = 0;
      if (d == 0) return;
    }
  }

  void copy(const std::byte* from, std::uint64_t from_step, std::byte* to, std::uint64_t to_step,
            std::uint64_t count) const {
    switch (size_) {
      case 1:
        return copy_line<1>(from, from_step, to, to_step, count);
      case 2:
        return copy_line<2>(from, from_step, to, to_step, count);
      case 4:
        return copy_line<4>(from, from_step, to, to_step, count);
      default:
        return copy_line<8>(from, from_step, to, to_step, count);
    }
  }

  const ReadFile& file_;
  const StridedLayout& layout_;
  std::size_t rank_;
  std::size_t size_;
  std::array<std::uint64_t, kMostDimensions> steps_{};  // strides of the row-major order
  std::vector<std::byte> window_;
};

}  // namespace

bool is_row_major(std::span<const std::uint64_t> shape, std::span<const std::uint64_t> strides) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return true;
  std::uint64_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 1) continue;
    if (strides[d] != step) return false;
    step *= shape[d];
  }
  return true;
}

void read_strided(const ReadFile& file, const StridedLayout& layout, std::uint64_t first,
                  std::span<std::byte> to) {
  Gatherer(file, layout).run(0, 0, first, to.size() / layout.element_size, to.data());
}

void will_need_strided(const ReadFile& file, const StridedLayout& layout, std::uint64_t first,
                       std::uint64_t count) {
  if (count == 0 || layout.shape.empty()) return;
  // The rows of the first dimension that are touched, whole.
  std::uint64_t row = 1;
  std::uint64_t row_extent = 0;
  for (std::size_t d = 1; d < layout.shape.size(); ++d) {
    row *= layout.shape[d];
    row_extent += (layout.shape[d] - 1) * layout.strides[d];
  }
  const std::uint64_t begin = first / row * layout.strides[0];
  const std::uint64_t end = (first + count - 1) / row * layout.strides[0] + row_extent + 1;
  file.will_need(layout.offset + begin * layout.element_size, (end - begin) * layout.element_size);
}

}  // namespace thorns
