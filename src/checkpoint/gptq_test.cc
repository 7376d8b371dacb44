#include <gtest/gtest.h>

#include "support/quantised_model.h"

namespace thorns {
namespace {

using test::error_of;
using test::expect_decoded;
using test::expect_refused;
using test::QuantisedModel;
using test::random_bytes;
using test::random_scales;
using Settings = nlohmann::ordered_json;

constexpr std::size_t kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

// A layer of `inputs` x `outputs` numbers of `bits` bits, whose parts a test may change before they
// are put together.
struct IntegerLayer {
  std::size_t bits;
  std::size_t inputs;
  std::size_t outputs;
  std::size_t group;
  std::string codes;
  std::string zeros;
  std::vector<double> scales;
  std::vector<double> order;  // GPTQ's g_idx; empty: left out
  int zero_offset = 0;
  std::string left_out;

  IntegerLayer(std::size_t bits_, std::size_t inputs_, std::size_t outputs_, std::size_t group_)
      : bits(bits_), inputs(inputs_), outputs(outputs_), group(group_) {
    const unsigned most = (1U << bits) - 1;
    codes = random_bytes(inputs * outputs, 1, most);
    zeros = random_bytes(groups() * outputs, 2, most);
    scales = random_scales(groups() * outputs, 3);
  }

  std::size_t groups() const { return (inputs + group - 1) / group; }
  std::size_t per_word() const { return 32 / bits; }

  double operator()(std::uint64_t i) const {
    const std::size_t input = i % inputs;
    const std::size_t output = i / inputs;
    const std::size_t which =
        order.empty() ? input / group : static_cast<std::size_t>(order[input]);
    const std::size_t at = which * outputs + output;
    const int code = static_cast<std::uint8_t>(codes[input * outputs + output]);
    const int zero = (static_cast<std::uint8_t>(zeros[at]) + zero_offset) % (1 << bits);
    return (code - zero) * scales[at];
  }

  // Lines of `outputs` values, several to a word, in `places`.
  std::string along_outputs(const std::string& values, const std::size_t* places) const {
    std::string bytes;
    for (std::size_t line = 0; line < values.size() / outputs; ++line) {
      for (std::size_t word = 0; word * per_word() < outputs; ++word) {
        std::uint32_t packed = 0;
        for (std::size_t k = 0; k < per_word(); ++k) {
          const std::size_t output = word * per_word() + (places != nullptr ? places[k] : k);
          if (output >= outputs) continue;
          packed |= std::uint32_t{static_cast<std::uint8_t>(values[line * outputs + output])}
                    << (k * bits);
        }
        test::append_little_endian(bytes, packed);
      }
    }
    return bytes;
  }
  std::string along_inputs() const {
    std::string bytes;
    for (std::size_t word = 0; word < inputs / per_word(); ++word) {
      for (std::size_t output = 0; output < outputs; ++output) {
        std::uint32_t packed = 0;
        for (std::size_t k = 0; k < per_word(); ++k) {
          const auto code =
              static_cast<std::uint8_t>(codes[(word * per_word() + k) * outputs + output]);
          packed |= std::uint32_t{code} << (k * bits);
        }
        test::append_little_endian(bytes, packed);
      }
    }
    return bytes;
  }

  void add(QuantisedModel& model, const std::string& name, Dtype dtype,
           std::vector<std::uint64_t> shape, const std::string& bytes) const {
    if (name != left_out) model.weights.add_bytes(name, dtype, std::move(shape), bytes);
  }
  void add_scales(QuantisedModel& model, const std::string& zero_bytes) const {
    add(model, "a.qzeros", Dtype::I32, {groups(), (outputs * bits + 31) / 32}, zero_bytes);
    add(model, "a.scales", Dtype::F32, {groups(), outputs}, test::encode(Dtype::F32, scales));
  }
  QuantisedModel gptq(const char* version) const {
    QuantisedModel model;
    model.settings = {{"quant_method", "gptq"}, {"bits", bits}, {"group_size", group}};
    if (*version != '\0') model.settings["checkpoint_format"] = version;
    add(model, "a.qweight", Dtype::I32, {inputs / per_word(), outputs}, along_inputs());
    add_scales(model, along_outputs(zeros, nullptr));
    if (!order.empty()) {
      add(model, "a.g_idx", Dtype::I32, {order.size()}, test::encode(Dtype::I32, order));
    }
    return model;
  }
  QuantisedModel awq() const {
    QuantisedModel model;
    model.settings = {
        {"quant_method", "awq"}, {"bits", 4}, {"group_size", group}, {"version", "gemm"}};
    add(model, "a.qweight", Dtype::I32, {inputs, (outputs + 7) / 8},
        along_outputs(codes, kAwqOrder));
    add_scales(model, along_outputs(zeros, kAwqOrder));
    return model;
  }
};

TEST(Gptq, EveryWidthAndBothVersions) {
  for (const std::size_t bits : {2, 4, 8}) {
    for (const char* version : {"", "gptq", "gptq_v2"}) {
      SCOPED_TRACE(version + std::to_string(bits));
      IntegerLayer layer(bits, 48, 16, 20);
      layer.zero_offset = std::string(version) == "gptq_v2" ? 0 : 1;
      QuantisedModel model = layer.gptq(version);
      model.weights.add("a.bias", Dtype::F16, {1}, {0});
      const auto checkpoint = model.open();
      EXPECT_EQ(checkpoint->tensors().size(), 2U);
      EXPECT_EQ(checkpoint->quantisation(), "GPTQ with " + std::to_string(bits) + " bits");
      expect_decoded(*checkpoint, "a.weight", {16, 48}, layer);
    }
  }
}

TEST(Gptq, InputsInTheOrderOfTheirActivations) {
  IntegerLayer layer(4, 32, 24, 8);
  layer.zero_offset = 1;
  for (std::size_t i = 0; i < 32; ++i) layer.order.push_back(static_cast<double>(i * 7 % 32 / 8));
  QuantisedModel model = layer.gptq("");
  expect_decoded(*model.open(), "a.weight", {24, 32}, layer);
}

TEST(Gptq, OneGroupForAll) {
  IntegerLayer layer(4, 32, 8, 32);
  layer.zero_offset = 1;
  QuantisedModel model = layer.gptq("");
  model.settings["group_size"] = -1;
  expect_decoded(*model.open(), "a.weight", {8, 32}, layer);
}

TEST(Gptq, TheOlderFileBesideTheConfiguration) {
  IntegerLayer layer(4, 32, 8, 16);
  layer.zero_offset = 1;
  QuantisedModel model = layer.gptq("");
  test::ByteDisk disk;
  disk.files["m/model.safetensors"] = model.weights.bytes();
  disk.files["m/quantize_config.json"] = R"({"bits":4,"group_size":16,"desc_act":false})";
  disk.files["m/config.json"] = "{}";
  expect_decoded(*open_checkpoint(disk, "m"), "a.weight", {8, 32}, layer);
}

TEST(Awq, OutputsLieInTheirOrder) {
  for (const std::size_t outputs : {8, 24}) {
    const IntegerLayer layer(4, 40, outputs, 16);
    QuantisedModel model = layer.awq();
    const auto checkpoint = model.open();
    EXPECT_EQ(checkpoint->quantisation(), "AWQ with 4 bits");
    expect_decoded(*checkpoint, "a.weight", {outputs, 40}, layer);
  }
}

TEST(Awq, TheOlderFileBesideTheConfiguration) {
  const IntegerLayer layer(4, 32, 8, 16);
  QuantisedModel model = layer.awq();
  test::ByteDisk disk;
  disk.files["m/model.safetensors"] = model.weights.bytes();
  disk.files["m/quant_config.json"] =
      R"({"zero_point":true,"q_group_size":16,"w_bit":4,"version":"GEMM"})";
  expect_decoded(*open_checkpoint(disk, "m"), "a.weight", {8, 32}, layer);
}

TEST(Gptq, OtherVariantsAreRefusedByName) {
  const IntegerLayer layer(4, 32, 8, 16);
  struct Case {
    bool awq;
    Settings change;
    const char* message;
  };
  const Case cases[] = {
      {false, {{"bits", 3}}, "3 bits"},
      {false, {{"bits", nullptr}}, "no `bits`"},
      {false, {{"group_size", "all"}}, "no `group_size`"},
      {false, {{"checkpoint_format", "marlin"}}, "`checkpoint_format` marlin"},
      {false, {{"is_marlin_format", true}}, "marlin"},
      {true, {{"bits", 8}}, "8 bits"},
      {true, {{"version", "gemv"}}, "`version` gemv"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.message);
    QuantisedModel model = test.awq ? layer.awq() : layer.gptq("");
    model.settings.update(test.change);
    const Error error = error_of([&] { model.open(); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(test.awq ? "with awq" : "with gptq"), std::string::npos);
    EXPECT_NE(error.message().find(test.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find("16-bit"), std::string::npos);
  }
}

TEST(Gptq, PartsThatDoNotFitAreErrors) {
  for (const char* part : {"a.scales", "a.qzeros"}) {
    IntegerLayer layer(4, 32, 8, 16);
    layer.left_out = part;
    QuantisedModel gptq = layer.gptq("");
    expect_refused(gptq, "a.qweight", "`" + layer.left_out + "` is missing");
    QuantisedModel awq = layer.awq();
    expect_refused(awq, "a.qweight", "`" + layer.left_out + "` is missing");
  }
  struct Case {
    const char* part;
    Dtype dtype;
    std::vector<std::uint64_t> shape;
    const char* message;
  };
  const Case cases[] = {
      {"a.qweight", Dtype::I32, {4, 7}, "has shape [4, 7], its format asks for [4, 8]"},
      {"a.qweight", Dtype::I32, {32}, "is no matrix"},
      {"a.qweight", Dtype::I32, {0, 8}, "is no matrix"},
      {"a.qweight", Dtype::I64, {4, 8}, "type I64"},
      {"a.scales", Dtype::F32, {3, 8}, "has shape [3, 8], its format asks for [2, 8]"},
      {"a.scales", Dtype::F32, {16}, "is no matrix"},
      {"a.scales", Dtype::I32, {2, 8}, "type I32"},
      {"a.qzeros", Dtype::I32, {2, 2}, "has shape [2, 2], its format asks for [2, 1]"},
      {"a.qzeros", Dtype::U8, {2, 1}, "type U8"},
      {"a.g_idx", Dtype::I32, {31}, "has shape [31], its format asks for [32]"},
      {"a.g_idx", Dtype::F32, {32}, "type F32"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.message);
    IntegerLayer layer(4, 32, 8, 16);
    layer.left_out = test.part;
    QuantisedModel model = layer.gptq("");
    std::size_t count = size_of(test.dtype);
    for (const std::uint64_t dim : test.shape) count *= dim;
    model.weights.add_bytes(test.part, test.dtype, test.shape, std::string(count, '\0'));
    expect_refused(model, test.part, test.message);
  }
  for (const double group : {2.0, -1.0}) {
    IntegerLayer layer(4, 32, 8, 16);
    layer.order.assign(32, 1);
    layer.order[5] = group;
    QuantisedModel model = layer.gptq("");
    expect_refused(model, "a.g_idx", "puts column 5 into group");
  }
}

}  // namespace
}  // namespace thorns
