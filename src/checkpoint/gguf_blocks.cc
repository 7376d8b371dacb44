// A half d, in most types a second half m, and small codes q: x = d q or x = d q + m. The K types
// have 256 numbers in a block and scale each 16 or 32 of them by small integers of their own:
// x = d s q - m t. All products are exact in float32 (at most 11 + 7 + 6 bits), so that only the
// sum can round, once. They are products of floats all the same: a zero has the sign that ggml
// gives it.
//
// Source: ggml's block layouts (ggml-common.h, 2023 to 2025).
#include "checkpoint/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/convert.h"

namespace thorns {
namespace {

float half_at(const std::uint8_t* at) {
  return float_from_half(static_cast<std::uint16_t>(at[0] | at[1] << 8));
}

// 32 numbers: the low nibbles are the first 16, the high ones the others. `high` holds a fifth bit
// for each, or is null.
template <class Value>
void nibbles(const std::uint8_t* codes, const std::uint8_t* high, float* to, Value value) {
  for (int j = 0; j < 32; ++j) {
    int code = j < 16 ? codes[j] & 15 : codes[j - 16] >> 4;
    if (high != nullptr) code |= (high[j / 8] >> (j % 8) & 1) << 4;
    to[j] = value(static_cast<float>(code));
  }
}

void q4_0(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  nibbles(block + 2, nullptr, to, [=](float q) { return d * (q - 8); });
}
void q4_1(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  nibbles(block + 4, nullptr, to, [=](float q) { return d * q + m; });
}
void q5_0(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  nibbles(block + 6, block + 2, to, [=](float q) { return d * (q - 16); });
}
void q5_1(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  nibbles(block + 8, block + 4, to, [=](float q) { return d * q + m; });
}
void q8_0(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  for (int j = 0; j < 32; ++j) {
    to[j] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + j]));
  }
}

void q2_k(const std::uint8_t* block, float* to) {
  const std::uint8_t* codes = block + 16;
  const float d = half_at(block + 80);
  const float m = half_at(block + 82);
  for (int i = 0; i < 256; ++i) {
    const int q = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const int scales = block[i / 16];
    to[i] = d * static_cast<float>(scales & 15) * static_cast<float>(q) -
            m * static_cast<float>(scales >> 4);
  }
}

void q3_k(const std::uint8_t* block, float* to) {
  const std::uint8_t* codes = block + 32;
  const std::uint8_t* packed = block + 96;  // 16 scales: low nibbles, then the upper two bits
  const float d = half_at(block + 108);
  std::array<int, 16> scales{};
  for (int j = 0; j < 16; ++j) {
    const int low = packed[j % 8] >> (j / 8 * 4) & 15;
    const int high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    scales[static_cast<std::size_t>(j)] = (low | high << 4) - 32;
  }
  for (int i = 0; i < 256; ++i) {
    const int low = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const int high = block[i % 32] >> (i / 32) & 1;
    const int q = low - (high == 0 ? 4 : 0);
    to[i] =
        d * static_cast<float>(scales[static_cast<std::size_t>(i / 16)]) * static_cast<float>(q);
  }
}

// The scales and minima of Q4_K and Q5_K: 8 of 6 bits each in 12 bytes.
struct SixBits {
  std::array<float, 8> scale{};
  std::array<float, 8> minimum{};

  explicit SixBits(const std::uint8_t* b) {
    for (std::size_t j = 0; j < 8; ++j) {
      const bool first = j < 4;
      const int s = first ? b[j] & 63 : (b[j + 4] & 15) | b[j - 4] >> 6 << 4;
      const int m = first ? b[j + 4] & 63 : b[j + 4] >> 4 | b[j] >> 6 << 4;
      scale[j] = static_cast<float>(s);
      minimum[j] = static_cast<float>(m);
    }
  }
};

void q45_k(const std::uint8_t* block, const std::uint8_t* high, const std::uint8_t* codes,
           float* to) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const SixBits six(block + 4);
  for (int i = 0; i < 256; ++i) {
    const int sub = i / 32;
    int q = codes[i / 64 * 32 + i % 32] >> (sub % 2 * 4) & 15;
    if (high != nullptr) q |= (high[i % 32] >> sub & 1) << 4;
    const auto j = static_cast<std::size_t>(sub);
    to[i] = d * six.scale[j] * static_cast<float>(q) - m * six.minimum[j];
  }
}
void q4_k(const std::uint8_t* block, float* to) { q45_k(block, nullptr, block + 16, to); }
void q5_k(const std::uint8_t* block, float* to) { q45_k(block, block + 16, block + 48, to); }

void q6_k(const std::uint8_t* block, float* to) {
  const float d = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int at = i % 128;
    const int low = block[half * 64 + at % 64] >> (at / 64 * 4) & 15;
    const int high = block[128 + half * 32 + at % 32] >> (at / 32 * 2) & 3;
    const auto scale = static_cast<std::int8_t>(block[192 + i / 16]);
    to[i] = d * static_cast<float>(scale) * static_cast<float>((low | high << 4) - 32);
  }
}

// What the codes of IQ4 stand for: 16 values that lie closer together around zero.
constexpr std::array<float, 16> kIq4 = {-127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113};

void iq4_nl(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  nibbles(block + 2, nullptr, to, [=](float q) { return d * kIq4[static_cast<std::size_t>(q)]; });
}

// Like IQ4_NL, and a scale of 6 bits for each 32 numbers: four low bits in a nibble, two high ones.
void iq4_xs(const std::uint8_t* block, float* to) {
  const float d = half_at(block);
  const int high = block[2] | block[3] << 8;
  for (std::size_t sub = 0; sub < 8; ++sub) {
    const int low = block[4 + sub / 2] >> (sub % 2 * 4) & 15;
    const float scale = d * static_cast<float>((low | (high >> (2 * sub) & 3) << 4) - 32);
    nibbles(block + 8 + sub * 16, nullptr, to + sub * 32,
            [=](float q) { return scale * kIq4[static_cast<std::size_t>(q)]; });
  }
}

constexpr std::array<GgufType, 35> kTypes = {{
    {0, "F32", 1, 4, Dtype::F32, nullptr},
    {1, "F16", 1, 2, Dtype::F16, nullptr},
    {2, "Q4_0", 32, 18, std::nullopt, q4_0},
    {3, "Q4_1", 32, 20, std::nullopt, q4_1},
    {6, "Q5_0", 32, 22, std::nullopt, q5_0},
    {7, "Q5_1", 32, 24, std::nullopt, q5_1},
    {8, "Q8_0", 32, 34, std::nullopt, q8_0},
    {10, "Q2_K", 256, 84, std::nullopt, q2_k},
    {11, "Q3_K", 256, 110, std::nullopt, q3_k},
    {12, "Q4_K", 256, 144, std::nullopt, q4_k},
    {13, "Q5_K", 256, 176, std::nullopt, q5_k},
    {14, "Q6_K", 256, 210, std::nullopt, q6_k},
    {20, "IQ4_NL", 32, 18, std::nullopt, iq4_nl},
    {23, "IQ4_XS", 256, 136, std::nullopt, iq4_xs},
    {28, "F64", 1, 8, Dtype::F64, nullptr},
    {30, "BF16", 1, 2, Dtype::BF16, nullptr},
    // Not read.
    {9, "Q8_1", 32, 36},
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {26, "I32", 1, 4},
    {27, "I64", 1, 8},
    {29, "IQ1_M", 256, 56},
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},
    {42, "Q2_0", 64, 18},
}};

class DecodedBlocks final : public ReadFile {
 public:
  DecodedBlocks(const ReadFile& file, std::uint64_t offset, const GgufType& type,
                std::uint64_t elements)
      : file_(file), offset_(offset), type_(type), elements_(elements) {}

  void read(std::uint64_t offset, std::span<std::byte> to) const override {
    read_blocks(file_, offset_, type_, offset / sizeof(float), to);
  }
  void will_need(std::uint64_t offset, std::uint64_t bytes) const override {
    if (bytes == 0) return;
    const std::uint64_t in_block = type_.elements * sizeof(float);
    const std::uint64_t block = offset / in_block;
    const std::uint64_t end = (offset + bytes - 1) / in_block + 1;
    file_.will_need(offset_ + block * type_.bytes, (end - block) * type_.bytes);
  }
  std::uint64_t size() const override { return elements_ * sizeof(float); }
  const std::string& path() const override { return file_.path(); }

 private:
  const ReadFile& file_;
  std::uint64_t offset_;
  const GgufType& type_;
  std::uint64_t elements_;
};

}  // namespace

const GgufType* find_gguf_type(std::uint32_t number) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](const GgufType& type) { return type.number == number; });
  return found == kTypes.end() ? nullptr : &*found;
}

void decode_blocks(const GgufType& type, const std::uint8_t* block, std::uint64_t skipped,
                   std::uint64_t count, std::byte* to) {
  std::array<float, 256> values{};
  for (; count != 0; block += type.bytes) {
    type.decode(block, values.data());
    const std::uint64_t taken = std::min(type.elements - skipped, count);
    std::memcpy(to, values.data() + skipped, static_cast<std::size_t>(taken) * sizeof(float));
    to += taken * sizeof(float);
    count -= taken;
    skipped = 0;
  }
}

void read_blocks(const ReadFile& file, std::uint64_t offset, const GgufType& type,
                 std::uint64_t first, std::span<std::byte> to) {
  constexpr std::uint64_t kMostBlocks = 2048;  // at once
  std::vector<std::uint8_t> bytes;
  for (std::uint64_t count = to.size() / sizeof(float); count != 0;) {
    const std::uint64_t block = first / type.elements;
    const std::uint64_t end = (first + count - 1) / type.elements + 1;
    const std::uint64_t blocks = std::min(end - block, kMostBlocks);
    bytes.resize(static_cast<std::size_t>(blocks * type.bytes));
    file.read(offset + block * type.bytes, std::as_writable_bytes(std::span(bytes)));
    const std::uint64_t taken = std::min((block + blocks) * type.elements - first, count);
    decode_blocks(type, bytes.data(), first % type.elements, taken, to.data());
    to = to.subspan(static_cast<std::size_t>(taken) * sizeof(float));
    first += taken;
    count -= taken;
  }
}

std::unique_ptr<ReadFile> decoded_blocks(const ReadFile& file, std::uint64_t offset,
                                         const GgufType& type, std::uint64_t elements) {
  return std::make_unique<DecodedBlocks>(file, offset, type, elements);
}

}  // namespace thorns
