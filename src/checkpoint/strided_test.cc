#include "checkpoint/strided.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "support/byte_disk.h"

namespace thorns {
namespace {

constexpr const char* kStridedPath = "w";

// A file that remembers how it was read.
class CountingFile final : public ReadFile {
 public:
  explicit CountingFile(std::string bytes) { disk_.files[kStridedPath] = std::move(bytes); }
  void read(std::uint64_t offset, std::span<std::byte> to) const override {
    ++calls;
    fetched += to.size();
    largest = std::max(largest, to.size());
    disk_.open(kStridedPath)->read(offset, to);
  }
  void will_need(std::uint64_t offset, std::uint64_t bytes) const override {
    EXPECT_LE(offset + bytes, size());
    needed_begin = offset;
    needed_end = offset + bytes;
  }
  std::uint64_t size() const override { return disk_.files.at(kStridedPath).size(); }
  const std::string& path() const override { return path_; }

  mutable std::size_t calls = 0;
  mutable std::size_t fetched = 0;
  mutable std::size_t largest = 0;
  mutable std::uint64_t needed_begin = 0;
  mutable std::uint64_t needed_end = 0;

 private:
  mutable test::ByteDisk disk_;
  std::string path_ = kStridedPath;
};

std::string noise(std::size_t bytes) {
  std::mt19937 random(7);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>(random() & 0xFF);
  return text;
}

struct View {
  std::uint64_t offset = 0;  // in bytes
  std::size_t size = 1;
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> strides;

  StridedLayout layout() const { return {offset, size, shape, strides}; }
  std::uint64_t elements() const {
    std::uint64_t product = 1;
    for (const std::uint64_t dim : shape) product *= dim;
    return product;
  }
};

// Element by element.
std::string plainly(const std::string& bytes, const View& view) {
  std::string result;
  for (std::uint64_t i = 0; i < view.elements(); ++i) {
    std::uint64_t rest = i;
    std::uint64_t at = 0;
    for (std::size_t d = view.shape.size(); d-- > 0;) {
      at += rest % view.shape[d] * view.strides[d];
      rest /= view.shape[d];
    }
    result += bytes.substr(view.offset + at * view.size, view.size);
  }
  return result;
}

std::string read(const ReadFile& file, const View& view, std::uint64_t first, std::uint64_t count) {
  std::string result(count * view.size, '?');
  read_strided(file, view.layout(), first, std::as_writable_bytes(std::span(result)));
  return result;
}

TEST(Strided, EveryRunOfManyViews) {
  const std::string bytes = noise(3000);
  const View views[] = {
      {0, 1, {}, {}},
      {7, 8, {5}, {3}},
      {3, 2, {6, 8}, {1, 6}},         // transposed
      {0, 2, {4, 5}, {16, 2}},        // cut, with steps
      {1, 4, {5, 3, 4}, {1, 20, 5}},  // permuted
      {0, 4, {3, 4, 5}, {0, 5, 1}},   // expanded
      {0, 8, {4, 3}, {1, 0}},         // expanded the other way
      {40, 2, {3, 3}, {0, 0}},        // one element
      {0, 1, {6, 4}, {2, 1}},         // overlapping
      {0, 2, {1, 7, 1, 2}, {99, 2, 50, 21}},
      {0, 1, {2, 3, 2, 2, 2}, {1, 500, 4, 2, 40}},
  };
  for (const View& view : views) {
    const CountingFile file(bytes);
    const std::string whole = plainly(bytes, view);
    for (std::uint64_t first = 0; first < view.elements(); ++first) {
      for (std::uint64_t count = 0; count <= view.elements() - first; ++count) {
        ASSERT_EQ(read(file, view, first, count),
                  whole.substr(first * view.size, count * view.size))
            << first << " " << count;
        will_need_strided(file, view.layout(), first, count);
      }
    }
  }
}

TEST(Strided, LargeOnesTakeBoundedMemoryAndFewReads) {
  const std::string bytes = noise(2 * 1000 * 1500);
  {  // Transposed: every read of rows fetches each byte about once.
    const CountingFile file(bytes);
    const View view{0, 2, {1500, 1000}, {1, 1500}};
    EXPECT_EQ(read(file, view, 0, view.elements()), plainly(bytes, view));
    EXPECT_LE(file.largest, 256U << 10);
    EXPECT_LE(file.fetched, 2 * bytes.size());
    EXPECT_LE(file.calls, 2000U);
  }
  {  // A hundred rows of it: a hundred elements lie together.
    const CountingFile file(bytes);
    const View view{0, 2, {1500, 1000}, {1, 1500}};
    EXPECT_EQ(read(file, view, 500 * 1000, 100 * 1000),
              plainly(bytes, view).substr(2 * 500 * 1000, 2 * 100 * 1000));
    EXPECT_LE(file.calls, 1000U);
    EXPECT_LE(file.fetched, 2U * 8 * 100 * 1000);
  }
  {  // Rows cut out of longer ones are fetched straight.
    const CountingFile file(bytes);
    const View view{200, 2, {100, 700}, {1500, 1}};
    EXPECT_EQ(read(file, view, 0, view.elements()), plainly(bytes, view));
    EXPECT_LE(file.fetched, 4U * 2 * 100 * 700);
    EXPECT_LE(file.calls, 100U);
  }
  {  // Expanded from little: fetched once.
    const CountingFile file(bytes);
    const View view{0, 2, {5000, 10}, {0, 1}};
    EXPECT_EQ(read(file, view, 0, view.elements()), plainly(bytes, view));
    EXPECT_EQ(file.calls, 1U);
  }
}

TEST(Strided, SaysWhatItWillNeed) {
  const CountingFile file(noise(1000));
  const View view{100, 2, {10, 4}, {40, 1}};
  will_need_strided(file, view.layout(), 4, 8);  // rows 1 and 2
  EXPECT_EQ(file.needed_begin, 180U);
  EXPECT_EQ(file.needed_end, 100U + 2 * (80 + 4));
  will_need_strided(file, {0, 1, {}, {}}, 0, 1);
}

TEST(Strided, RowMajor) {
  using Numbers = std::vector<std::uint64_t>;
  EXPECT_TRUE(is_row_major(Numbers{}, Numbers{}));
  EXPECT_TRUE(is_row_major(Numbers{3, 4}, Numbers{4, 1}));
  EXPECT_TRUE(is_row_major(Numbers{3, 1, 4}, Numbers{4, 77, 1}));
  EXPECT_TRUE(is_row_major(Numbers{1, 4}, Numbers{0, 1}));
  EXPECT_TRUE(is_row_major(Numbers{0, 4}, Numbers{9, 9}));
  EXPECT_FALSE(is_row_major(Numbers{3, 4}, Numbers{1, 3}));
  EXPECT_FALSE(is_row_major(Numbers{3, 4}, Numbers{5, 1}));
  EXPECT_FALSE(is_row_major(Numbers{3}, Numbers{0}));
}

}  // namespace
}  // namespace thorns
