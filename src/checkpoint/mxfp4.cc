// MXFP4 as in gpt-oss: `P_blocks` (U8 [..., rows, blocks, 16]) and `P_scales` (U8 [..., rows,
// blocks]). A block is 32 numbers of E2M1 that share a power of two (E8M0); a byte holds the even
// one in its low four bits and the odd one in its high four:
//
//   w[row, 32 b + 2 k]     = e2m1(low  of blocks[row, b, k]) * 2^(scales[row, b] - 127)
//   w[row, 32 b + 2 k + 1] = e2m1(high of blocks[row, b, k]) * 2^(scales[row, b] - 127)
//
// The model's own parameter is the transpose: `P` of shape [..., columns, rows]. Gate and up stay
// interleaved, as the model has them. Every value is exact, in float32 and in bfloat16 alike.
//
// Source: the OCP Microscaling specification (2023); transformers' integrations/mxfp4.py,
// convert_moe_packed_tensors.
#include <array>

#include "base/convert.h"
#include "checkpoint/block_grid.h"
#include "checkpoint/decoding.h"

namespace thorns {
namespace {

constexpr std::uint64_t kBlock = 32;
constexpr std::uint64_t kBlockBytes = 16;

// A part's rows run along the stored columns, its columns along the stored rows.
class Mxfp4 final : public Decoder {
 public:
  Mxfp4(TensorReader blocks, TensorReader scales, Stack stack)
      : blocks_(blocks), scales_(scales), stack_(stack) {}

  void decode(const Part& part, Floats to) const override {
    const std::uint64_t line = part.matrix * stack_.columns + part.column;
    const std::uint64_t first_byte = part.row / 2;
    const std::uint64_t bytes = divide_up(part.row + part.rows, 2) - first_byte;
    const std::uint64_t first_block = part.row / kBlock;
    const std::uint64_t blocks = divide_up(part.row + part.rows, kBlock) - first_block;
    const std::uint64_t line_bytes = stack_.rows / 2;
    const std::uint64_t line_blocks = stack_.rows / kBlock;
    const auto codes = blocks_.rectangle<std::uint8_t>(line * line_bytes + first_byte, part.columns,
                                                       bytes, line_bytes);
    const auto exponents = scales_.rectangle<std::uint8_t>(line * line_blocks + first_block,
                                                           part.columns, blocks, line_blocks);
    std::size_t i = 0;
    for (std::uint64_t row = part.row; row < part.row + part.rows; ++row) {
      const std::size_t byte = row / 2 - first_byte;
      const std::size_t block = row / kBlock - first_block;
      const int shift = row % 2 == 0 ? 0 : 4;
      for (std::size_t column = 0; column < part.columns; ++column, ++i) {
        const int code = codes[column * bytes + byte] >> shift & 0xF;
        to.set(i, values_.codes[static_cast<std::size_t>(code)] *
                      values_.powers[exponents[column * blocks + block]]);
      }
    }
  }

  void will_need(const Part& part) const override {
    // Whatever the rows, the bytes lie all over the matrix.
    const std::uint64_t bytes = stack_.columns * stack_.rows / 2;
    if (part.row == 0) blocks_.will_need(part.matrix * bytes, bytes);
  }

 private:
  struct Values {
    Values() {
      for (std::size_t i = 0; i < 16; ++i) codes[i] = float_from_e2m1(static_cast<std::uint8_t>(i));
      for (std::size_t i = 0; i < 256; ++i) {
        powers[i] = float_from_e8m0(static_cast<std::uint8_t>(i));
      }
    }
    std::array<float, 16> codes;
    std::array<float, 256> powers;
  };

  TensorReader blocks_;
  TensorReader scales_;
  Stack stack_;  // of the result
  Values values_;
};

void decode_blocks(Decoding& decoding, const TensorReader& blocks, const std::string& name) {
  const TensorReader scales = decoding.need(blocks, name + "_scales");
  blocks.require_type({Dtype::U8});
  scales.require_type({Dtype::U8});
  const std::vector<std::uint64_t>& stored = blocks.info().shape;
  if (stored.size() < 3 || stored.back() != kBlockBytes) {
    blocks.fail("is no matrix of blocks of 16 bytes");
  }
  scales.require_shape(std::span(stored).first(stored.size() - 1));
  std::vector<std::uint64_t> shape(stored.begin(), stored.end() - 3);
  shape.push_back(stored[stored.size() - 2] * kBlock);
  shape.push_back(stored[stored.size() - 3]);
  decoding.present(blocks, name, shape, std::make_unique<Mxfp4>(blocks, scales, stack_of(shape)),
                   "MXFP4");
}

}  // namespace

void decode_mxfp4(Decoding& decoding) {
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    const TensorReader tensor = decoding.tensor(i);
    // Without a configuration, only the two names that gpt-oss has.
    const bool known = tensor.name().ends_with(".gate_up_proj_blocks") ||
                       tensor.name().ends_with(".down_proj_blocks");
    if (!known && decoding.how() == nullptr) continue;
    if (const auto name = without_ending(tensor.name(), "_blocks")) {
      decode_blocks(decoding, tensor, *name);
    }
  }
}

}  // namespace thorns
