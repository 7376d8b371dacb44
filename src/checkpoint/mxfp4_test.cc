#include <gtest/gtest.h>

#include "support/quantised_model.h"

namespace thorns {
namespace {

using test::expect_decoded;
using test::expect_refused;
using test::QuantisedModel;
using test::random_bytes;
using Shape = std::vector<std::uint64_t>;

constexpr double kCodes[16] = {0.0,  0.5,  1.0,  1.5,  2.0,  3.0,  4.0,  6.0,
                               -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0};

// Blocks of a stack [experts, rows, 32 * blocks].
struct Stacked {
  std::uint64_t rows;
  std::uint64_t blocks;
  std::string codes;
  std::string scales;

  Stacked(std::uint64_t experts, std::uint64_t rows_, std::uint64_t blocks_, unsigned seed)
      : rows(rows_),
        blocks(blocks_),
        codes(random_bytes(experts * rows * blocks * 16, seed)),
        scales(random_bytes(experts * rows * blocks, seed + 1)) {}

  // Element i of the transpose [experts, 32 * blocks, rows].
  double operator()(std::uint64_t i) const {
    const std::uint64_t expert = i / (rows * blocks * 32);
    const std::uint64_t column = i / rows % (blocks * 32);
    const std::uint64_t line = expert * rows + i % rows;
    const auto byte = static_cast<std::uint8_t>(codes[line * blocks * 16 + column / 2]);
    const auto exponent = static_cast<std::uint8_t>(scales[line * blocks + column / 32]);
    if (exponent == 255) return std::nan("");
    return std::ldexp(kCodes[column % 2 == 0 ? byte & 15 : byte >> 4], exponent - 127);
  }
};

TEST(Mxfp4, BlocksBecomeTheTransposedParameter) {
  const Stacked gate_up(2, 10, 3, 1);
  const Stacked down(2, 96, 1, 2);
  for (const bool configured : {false, true}) {
    QuantisedModel model;
    if (configured) model.settings = {{"quant_method", "mxfp4"}};
    model.weights
        .add_bytes("mlp.experts.gate_up_proj_blocks", Dtype::U8, {2, 10, 3, 16}, gate_up.codes)
        .add_bytes("mlp.experts.gate_up_proj_scales", Dtype::U8, {2, 10, 3}, gate_up.scales)
        .add("mlp.experts.gate_up_proj_bias", Dtype::BF16, {2, 10}, std::vector<double>(20))
        .add_bytes("mlp.experts.down_proj_blocks", Dtype::U8, {2, 96, 1, 16}, down.codes)
        .add_bytes("mlp.experts.down_proj_scales", Dtype::U8, {2, 96, 1}, down.scales);
    const auto checkpoint = model.open();
    EXPECT_EQ(checkpoint->tensors().size(), 3U);
    EXPECT_EQ(checkpoint->quantisation(), "MXFP4");
    expect_decoded(*checkpoint, "mlp.experts.gate_up_proj", {2, 96, 10}, gate_up);
    expect_decoded(*checkpoint, "mlp.experts.down_proj", {2, 32, 96}, down);
  }
}

TEST(Mxfp4, OtherNamesNeedAConfiguration) {
  const Stacked one(1, 4, 2, 3);
  QuantisedModel model;
  model.weights.add_bytes("w_blocks", Dtype::U8, {4, 2, 16}, one.codes)
      .add_bytes("w_scales", Dtype::U8, {4, 2}, one.scales);
  EXPECT_TRUE(model.open()->find("w_blocks"));
  model.settings = {{"quant_method", "mxfp4"}};
  expect_decoded(*model.open(), "w", {64, 4}, one);
}

TEST(Mxfp4, PartsThatDoNotFitAreErrors) {
  struct Case {
    Shape blocks;
    Dtype blocks_type;
    Shape scales;
    Dtype scales_type;
    const char* tensor;
    const char* message;
  };
  const Case cases[] = {
      {{2, 3, 16}, Dtype::U8, {}, Dtype::U8, "e.down_proj_scales", "asks for [2, 3]"},
      {{2, 3, 16}, Dtype::U8, {3, 2}, Dtype::U8, "e.down_proj_scales", "asks for [2, 3]"},
      {{2, 3, 16}, Dtype::U8, {2, 3}, Dtype::I8, "e.down_proj_scales", "type I8"},
      {{2, 3, 16}, Dtype::I8, {2, 3}, Dtype::U8, "e.down_proj_blocks", "type I8"},
      {{2, 3, 8}, Dtype::U8, {2, 3}, Dtype::U8, "e.down_proj_blocks", "blocks of 16 bytes"},
      {{6, 16}, Dtype::U8, {6}, Dtype::U8, "e.down_proj_blocks", "blocks of 16 bytes"},
  };
  const auto bytes = [](const Shape& shape) {
    std::size_t count = 1;
    for (const std::uint64_t dim : shape) count *= dim;
    return std::string(count, '\1');
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.message);
    QuantisedModel model;
    model.weights.add_bytes("e.down_proj_blocks", test.blocks_type, test.blocks, bytes(test.blocks))
        .add_bytes("e.down_proj_scales", test.scales_type, test.scales, bytes(test.scales));
    expect_refused(model, test.tensor, test.message);
  }
  QuantisedModel model;
  model.weights.add_bytes("e.down_proj_blocks", Dtype::U8, {1, 1, 16}, std::string(16, '\1'));
  expect_refused(model, "e.down_proj_blocks", "`e.down_proj_scales` is missing");
}

}  // namespace
}  // namespace thorns
