#include <gtest/gtest.h>

#include "base/convert.h"
#include "support/quantised_model.h"

namespace thorns {
namespace {

using test::error_of;
using test::expect_decoded;
using test::expect_refused;
using test::QuantisedModel;
using test::random_bytes;
using test::random_scales;
using Shape = std::vector<std::uint64_t>;
using Settings = nlohmann::ordered_json;

Settings settings(const char* format, Settings weights) {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"config_groups", {{"group_0", {{"weights", std::move(weights)}}}}}};
}

// Values of `bits` bits, 32 / bits to a word, each row of `columns` padded to whole words.
std::string packed_rows(const std::vector<int>& values, std::size_t columns, int bits) {
  const auto per_word = static_cast<std::size_t>(32 / bits);
  std::string bytes;
  for (std::size_t row = 0; row < values.size() / columns; ++row) {
    for (std::size_t word = 0; word * per_word < columns; ++word) {
      std::uint32_t packed = 0;
      for (std::size_t k = 0; k < per_word && word * per_word + k < columns; ++k) {
        const int value = values[row * columns + word * per_word + k] + (1 << (bits - 1));
        packed |= static_cast<std::uint32_t>(value) << (k * static_cast<std::size_t>(bits));
      }
      test::append_little_endian(bytes, packed);
    }
  }
  return bytes;
}

// The same down the columns: [ceil(rows / per word), columns].
std::string packed_columns(const std::vector<int>& values, std::size_t columns, int bits) {
  const std::size_t rows = values.size() / columns;
  const auto per_word = static_cast<std::size_t>(32 / bits);
  std::string bytes;
  for (std::size_t word = 0; word * per_word < rows; ++word) {
    for (std::size_t column = 0; column < columns; ++column) {
      std::uint32_t packed = 0;
      for (std::size_t k = 0; k < per_word && word * per_word + k < rows; ++k) {
        const int value = values[(word * per_word + k) * columns + column] + (1 << (bits - 1));
        packed |= static_cast<std::uint32_t>(value) << (k * static_cast<std::size_t>(bits));
      }
      test::append_little_endian(bytes, packed);
    }
  }
  return bytes;
}

std::vector<int> random_codes(std::size_t count, int bits, unsigned seed) {
  const std::string bytes = random_bytes(count, seed, (1U << bits) - 1);
  std::vector<int> codes;
  for (const char byte : bytes)
    codes.push_back(static_cast<std::uint8_t>(byte) - (1 << (bits - 1)));
  return codes;
}

std::string as_bytes(const std::vector<int>& codes) {
  std::string bytes;
  for (const int code : codes) bytes.push_back(static_cast<char>(code));
  return bytes;
}

TEST(CompressedTensors, FloatQuantized) {
  const std::string codes = random_bytes(60, 1);
  const std::vector<double> scales = random_scales(12, 2);
  struct Case {
    Settings weights;
    Shape scale;
    std::function<std::uint64_t(std::uint64_t)> which;
  };
  const Case cases[] = {
      {{{"num_bits", 8}, {"strategy", "tensor"}}, {1}, [](std::uint64_t) { return 0U; }},
      {{{"num_bits", 8}, {"strategy", "channel"}}, {6, 1}, [](std::uint64_t i) { return i / 10; }},
      {{{"num_bits", 8}, {"strategy", "group"}, {"group_size", 5}},
       {6, 2},
       [](std::uint64_t i) { return i / 10 * 2 + i % 10 / 5; }},
      {{{"num_bits", 8}, {"strategy", "block"}, {"block_structure", {4, 4}}},
       {2, 3},
       [](std::uint64_t i) { return i / 10 / 4 * 3 + i % 10 / 4; }},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.weights.dump());
    std::size_t count = 1;
    for (const std::uint64_t dim : test.scale) count *= dim;
    QuantisedModel model;
    model.settings = settings("float-quantized", test.weights);
    model.weights.add_bytes("a.weight", Dtype::F8E4M3, {6, 10}, codes)
        .add("a.weight_scale", Dtype::F32, test.scale,
             {scales.begin(), scales.begin() + static_cast<std::ptrdiff_t>(count)})
        .add("a.input_scale", Dtype::BF16, {1}, {1})
        .add("lm_head.weight", Dtype::BF16, {1}, {1});
    const auto checkpoint = model.open();
    EXPECT_EQ(checkpoint->tensors().size(), 2U);
    EXPECT_EQ(checkpoint->quantisation(), "compressed-tensors FP8");
    expect_decoded(*checkpoint, "a.weight", {6, 10}, [&](std::uint64_t i) {
      return static_cast<double>(float_from_e4m3(static_cast<std::uint8_t>(codes[i]))) *
             scales[test.which(i)];
    });
  }
}

TEST(CompressedTensors, IntQuantizedWithZeroPointsByGroup) {
  const std::vector<int> codes = random_codes(60, 8, 3);
  const std::vector<int> zeros = random_codes(12, 8, 4);
  const std::vector<double> scales = random_scales(12, 5);
  for (const char* format : {"int-quantized", "naive-quantized"}) {
    QuantisedModel model;
    model.settings = settings(format, {{"num_bits", 8}, {"strategy", "group"}, {"group_size", 5}});
    model.weights.add_bytes("a.weight", Dtype::I8, {6, 10}, as_bytes(codes))
        .add("a.weight_scale", Dtype::F32, {6, 2}, scales)
        .add_bytes("a.weight_zero_point", Dtype::I8, {6, 2}, as_bytes(zeros));
    expect_decoded(*model.open(), "a.weight", {6, 10}, [&](std::uint64_t i) {
      const std::uint64_t at = i / 10 * 2 + i % 10 / 5;
      return (codes[i] - zeros[at]) * scales[at];
    });
  }
}

TEST(CompressedTensors, TheGroupIndexMovesColumns) {
  const std::vector<int> codes = random_codes(24, 8, 6);
  const std::vector<double> scales = random_scales(6, 7);
  const std::vector<double> index = {2, 0, 1, 1, 2, 0, 0, 2};
  for (const bool unset : {false, true}) {
    QuantisedModel model;
    model.settings =
        settings("int-quantized", {{"num_bits", 8}, {"strategy", "group"}, {"group_size", 3}});
    std::vector<double> stored = index;
    if (unset) stored.assign(8, -1);
    model.weights
        .add_bytes("a.weight", Dtype::I8, {2, 8}, as_bytes({codes.begin(), codes.begin() + 16}))
        .add("a.weight_scale", Dtype::F32, {2, 3}, scales)
        .add("a.weight_g_idx", Dtype::I32, {8}, stored);
    expect_decoded(*model.open(), "a.weight", {2, 8}, [&](std::uint64_t i) {
      const std::uint64_t group = unset ? i % 8 / 3 : static_cast<std::uint64_t>(index[i % 8]);
      return codes[i] * scales[i / 8 * 3 + group];
    });
    model.weights = {};
    stored[3] = 3;
    model.weights
        .add_bytes("a.weight", Dtype::I8, {2, 8}, as_bytes({codes.begin(), codes.begin() + 16}))
        .add("a.weight_scale", Dtype::F32, {2, 3}, scales)
        .add("a.weight_g_idx", Dtype::I32, {8}, stored);
    if (!unset) expect_refused(model, "a.weight_g_idx", "puts column 3 into group 3 of 3");
  }
}

TEST(CompressedTensors, PackQuantized) {
  constexpr std::size_t kRows = 7;
  constexpr std::size_t kColumns = 21;  // fills no word
  for (const int bits : {4, 8}) {
    for (const bool asymmetric : {false, true}) {
      SCOPED_TRACE(bits);
      const std::vector<int> codes = random_codes(kRows * kColumns, bits, 8);
      const std::vector<int> zeros = random_codes(kRows * 3, bits, 9);
      const std::vector<double> scales = random_scales(kRows * 3, 10);
      QuantisedModel model;
      model.settings = settings("pack-quantized",
                                {{"num_bits", bits}, {"strategy", "group"}, {"group_size", 7}});
      const std::uint64_t words = (kColumns * static_cast<unsigned>(bits) + 31) / 32;
      model.weights
          .add_bytes("a.weight_packed", Dtype::I32, {kRows, words},
                     packed_rows(codes, kColumns, bits))
          .add("a.weight_shape", bits == 4 ? Dtype::I32 : Dtype::I64, {2}, {kRows, kColumns})
          .add("a.weight_scale", Dtype::F32, {kRows, 3}, scales);
      if (asymmetric) {
        const std::uint64_t rows = (kRows * static_cast<unsigned>(bits) + 31) / 32;
        model.weights.add_bytes("a.weight_zero_point", Dtype::I32, {rows, 3},
                                packed_columns(zeros, 3, bits));
      }
      const auto checkpoint = model.open();
      EXPECT_EQ(checkpoint->tensors().size(), 1U);
      EXPECT_EQ(checkpoint->quantisation(), "compressed-tensors int" + std::to_string(bits));
      expect_decoded(*checkpoint, "a.weight", {kRows, kColumns}, [&](std::uint64_t i) {
        const std::uint64_t at = i / kColumns * 3 + i % kColumns / 7;
        return (codes[i] - (asymmetric ? zeros[at] : 0)) * scales[at];
      });
    }
  }
}

TEST(CompressedTensors, PackedStacksOfMatrices) {
  const std::vector<int> codes = random_codes(2 * 3 * 10, 4, 11);
  const std::vector<int> zeros = random_codes(6, 4, 12);
  const std::vector<double> scales = random_scales(6, 13);
  QuantisedModel model;
  model.settings = settings("pack-quantized", {{"num_bits", 4}, {"strategy", "channel"}});
  model.weights.add_bytes("a.weight_packed", Dtype::I32, {2, 3, 2}, packed_rows(codes, 10, 4))
      .add("a.weight_shape", Dtype::I64, {3}, {2, 3, 10})
      .add("a.weight_scale", Dtype::F32, {2, 3, 1}, scales)
      .add_bytes("a.weight_zero_point", Dtype::I32, {2, 1, 1},
                 packed_columns({zeros.begin(), zeros.begin() + 3}, 1, 4) +
                     packed_columns({zeros.begin() + 3, zeros.end()}, 1, 4));
  expect_decoded(*model.open(), "a.weight", {2, 3, 10},
                 [&](std::uint64_t i) { return (codes[i] - zeros[i / 10]) * scales[i / 10]; });
}

TEST(CompressedTensors, LayersOfSeveralSchemes) {
  Settings mixed = settings("mixed-precision", {{"num_bits", 4}, {"strategy", "channel"}});
  mixed["config_groups"]["group_1"] = {{"format", "pack-quantized"},
                                       {"weights", {{"num_bits", 8}, {"group_size", 8}}}};
  const std::vector<int> four = random_codes(32, 4, 14);
  const std::vector<int> eight = random_codes(32, 8, 15);
  const std::vector<double> scales = random_scales(4, 16);
  QuantisedModel model;
  model.settings = mixed;
  model.weights.add_bytes("a.weight_packed", Dtype::I32, {2, 2}, packed_rows(four, 16, 4))
      .add("a.weight_shape", Dtype::I32, {2}, {2, 16})
      .add("a.weight_scale", Dtype::F32, {2, 1}, {scales[0], scales[1]})
      .add_bytes("b.weight_packed", Dtype::I32, {2, 4}, packed_rows(eight, 16, 8))
      .add("b.weight_shape", Dtype::I32, {2}, {2, 16})
      .add("b.weight_scale", Dtype::F32, {2, 2}, scales);
  const auto checkpoint = model.open();
  EXPECT_EQ(checkpoint->quantisation(), "compressed-tensors int4, compressed-tensors int8");
  expect_decoded(*checkpoint, "a.weight", {2, 16},
                 [&](std::uint64_t i) { return four[i] * scales[i / 16]; });
  expect_decoded(*checkpoint, "b.weight", {2, 16},
                 [&](std::uint64_t i) { return eight[i] * scales[i / 16 * 2 + i % 16 / 8]; });
}

TEST(CompressedTensors, WhatIsNotDecodedIsRefusedByName) {
  const Settings fine = {{"num_bits", 8}, {"strategy", "channel"}};
  Settings sparse = settings("int-quantized", fine);
  sparse["sparsity_config"] = {{"format", "sparse-24-bitmask"}};
  Settings rotated = settings("int-quantized", fine);
  rotated["transform_config"] = {{"config_groups", {{"u", 1}}}};
  Settings mixed = settings("mixed-precision", fine);
  mixed["config_groups"]["group_0"]["format"] = "nvfp4-pack-quantized";
  Settings none = settings("int-quantized", fine);
  none.erase("config_groups");
  const Settings cases[] = {
      settings("nvfp4-pack-quantized", fine),
      settings("marlin-24", fine),
      settings("pack-quantized", {{"num_bits", 3}, {"strategy", "channel"}}),
      settings("pack-quantized", {{"strategy", "channel"}}),
      settings("int-quantized", {{"num_bits", 8}, {"strategy", "attn_head"}}),
      settings("int-quantized", {{"num_bits", 8}, {"strategy", "block"}}),
      sparse,
      rotated,
      mixed,
      none,
  };
  for (const Settings& test : cases) {
    SCOPED_TRACE(test.dump());
    QuantisedModel model;
    model.settings = test;
    model.weights.add_bytes("a.weight", Dtype::I8, {2, 2}, "abcd")
        .add("a.weight_scale", Dtype::F32, {2, 1}, {1, 2});
    const Error error = error_of([&] { model.open(); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find("quantised with compressed-tensors"), std::string::npos);
    EXPECT_NE(error.message().find(test["format"].get<std::string>()), std::string::npos);
    EXPECT_NE(error.hint().find("16-bit"), std::string::npos);
  }
}

// A packed layer with one part replaced, or left out where `bytes` is empty.
QuantisedModel broken(const std::string& part, Dtype dtype, Shape shape,
                      const std::vector<double>& values) {
  QuantisedModel model;
  model.settings = settings("pack-quantized", {{"num_bits", 4}, {"strategy", "channel"}});
  const auto add = [&](const std::string& name, Dtype type, Shape dims,
                       const std::vector<double>& numbers) {
    if (name != part) {
      model.weights.add(name, type, std::move(dims), numbers);
    } else if (!values.empty()) {
      model.weights.add(name, dtype, shape, values);
    }
  };
  add("a.weight_packed", Dtype::I32, {2, 2}, {1, 2, 3, 4});
  add("a.weight_shape", Dtype::I32, {2}, {2, 16});
  add("a.weight_scale", Dtype::F32, {2, 1}, {1, 2});
  add("a.weight_zero_point", Dtype::I32, {1, 1}, {0});
  return model;
}

TEST(CompressedTensors, PartsThatDoNotFitAreErrors) {
  struct Case {
    QuantisedModel model;
    const char* tensor;
    const char* message;
  };
  Case cases[] = {
      {broken("a.weight_scale", {}, {}, {}), "a.weight_packed", "`a.weight_scale` is missing"},
      {broken("a.weight_shape", {}, {}, {}), "a.weight_packed", "`a.weight_shape` is missing"},
      {broken("a.weight_packed", Dtype::I32, {2, 1}, {1, 2}), "a.weight_packed",
       "has shape [2, 1], its format asks for [2, 2]"},
      {broken("a.weight_packed", Dtype::I64, {2, 2}, {1, 2, 3, 4}), "a.weight_packed", "type I64"},
      {broken("a.weight_packed", Dtype::I32, {4}, {1, 2, 3, 4}), "a.weight_packed", "is no matrix"},
      {broken("a.weight_shape", Dtype::I32, {3}, {2, 16, 1}), "a.weight_shape", "shape [3]"},
      {broken("a.weight_shape", Dtype::I32, {2}, {2, -16}), "a.weight_shape", "negative"},
      {broken("a.weight_shape", Dtype::F32, {2}, {2, 16}), "a.weight_shape", "type F32"},
      {broken("a.weight_shape", Dtype::I64, {2}, {2, 9.0e18}), "a.weight_packed", "shape [2, 2]"},
      {broken("a.weight_scale", Dtype::F32, {2, 2}, {1, 2, 3, 4}), "a.weight_scale",
       "does not fit its weight of shape [2, 16]"},
      {broken("a.weight_zero_point", Dtype::I32, {2, 1}, {0, 0}), "a.weight_zero_point",
       "has shape [2, 1], its format asks for [1, 1]"},
      {broken("a.weight_zero_point", Dtype::I8, {1, 1}, {0}), "a.weight_zero_point", "type I8"},
  };
  for (Case& test : cases) {
    SCOPED_TRACE(test.message);
    expect_refused(test.model, test.tensor, test.message);
  }
}

TEST(CompressedTensors, OneWeightIsNotEncodedTwice) {
  QuantisedModel model = broken("", {}, {}, {});
  model.weights.add("a.weight", Dtype::BF16, {2, 16}, std::vector<double>(32));
  expect_refused(model, "a.weight_packed", "stands for `a.weight`, which is there, too");
}

}  // namespace
}  // namespace thorns
