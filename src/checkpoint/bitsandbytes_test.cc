#include <gtest/gtest.h>

#include "support/quantised_model.h"

namespace thorns {
namespace {

using test::expect_decoded;
using test::expect_refused;
using test::QuantisedModel;
using test::random_bytes;
using test::random_scales;
using Shape = std::vector<std::uint64_t>;

const nlohmann::ordered_json kEightBits = {{"quant_method", "bitsandbytes"},
                                           {"load_in_8bit", true}};

TEST(BitsAndBytes, EightBitsScaleEachRow) {
  const std::string codes = random_bytes(35, 1);
  const std::vector<double> scales = random_scales(5, 2);
  for (const auto& settings : {nlohmann::ordered_json(), kEightBits, {{"load_in_8bit", true}}}) {
    QuantisedModel model;
    model.settings = settings;
    model.weights.add_bytes("a.weight", Dtype::I8, {5, 7}, codes)
        .add("a.SCB", Dtype::F32, {5}, scales)
        .add("a.weight_format", Dtype::U8, {}, {0})
        .add("a.bias", Dtype::F16, {5}, {1, 2, 3, 4, 5});
    const auto checkpoint = model.open();
    EXPECT_EQ(checkpoint->tensors().size(), 2U);
    EXPECT_EQ(checkpoint->quantisation(), "bitsandbytes int8");
    expect_decoded(*checkpoint, "a.weight", {5, 7}, [&](std::uint64_t i) {
      return static_cast<std::int8_t>(codes[i]) * scales[i / 7] / 127;
    });
  }
}

TEST(BitsAndBytes, EightBitPartsThatDoNotFitAreErrors) {
  const auto model = [](Shape scale, double format) {
    QuantisedModel made;
    made.settings = kEightBits;
    made.weights.add_bytes("a.weight", Dtype::I8, {2, 2}, "abcd");
    if (!scale.empty()) {
      made.weights.add("a.SCB", Dtype::F32, scale, std::vector<double>(scale[0], 1.0));
    }
    made.weights.add("a.weight_format", Dtype::U8, {}, {format});
    return made;
  };
  QuantisedModel missing = model({}, 0);
  expect_refused(missing, "a.weight", "`a.SCB` is missing");
  QuantisedModel wrong = model({3}, 0);
  expect_refused(wrong, "a.SCB", "does not fit its weight of shape [2, 2]");
  QuantisedModel columns = model({2}, 1);
  expect_refused(columns, "a.weight_format", "not stored row by row", ErrorCode::Unsupported);
}

// A 4-bit weight of 3 x 15 elements in blocks of 8, whose parts a test may change before it is put
// together.
struct FourBitWeight {
  std::string kind = "nf4";
  std::string codes = random_bytes(23, 3);  // the last four bits stand for nothing
  std::vector<double> map = random_scales(16, 4);
  std::vector<double> absmax = random_scales(6, 5);
  bool nested = false;
  std::string nested_codes = random_bytes(6, 6);
  std::vector<double> nested_map = random_scales(256, 7);
  std::vector<double> nested_absmax = random_scales(2, 8);
  nlohmann::ordered_json state = {
      {"quant_type", "nf4"}, {"blocksize", 8}, {"dtype", "bfloat16"}, {"shape", {3, 15}}};
  std::string state_text;  // in place of `state`
  std::string left_out;

  double scale(std::uint64_t block) const {
    if (!nested) return absmax[block];
    // Each step is rounded to float32.
    const auto code = static_cast<std::uint8_t>(nested_codes[block]);
    const auto scaled = static_cast<float>(nested_map[code] * nested_absmax[block / 4]);
    return static_cast<float>(static_cast<double>(scaled) + 0.125);
  }
  double operator()(std::uint64_t i) const {
    const auto byte = static_cast<std::uint8_t>(codes[i / 2]);
    return map[i % 2 == 0 ? byte >> 4 : byte & 15] * scale(i / 8);
  }

  QuantisedModel model() const {
    QuantisedModel made;
    const auto add = [&](const std::string& name, Dtype dtype, Shape shape,
                         const std::string& bytes) {
      if (name != left_out) made.weights.add_bytes(name, dtype, std::move(shape), bytes);
    };
    const auto numbers = [&](const std::string& name, const std::vector<double>& values) {
      add(name, Dtype::F32, {values.size()}, test::encode(Dtype::F32, values));
    };
    add("a.weight", Dtype::U8, {codes.size(), 1}, codes);
    numbers("a.weight.quant_map", map);
    nlohmann::ordered_json settings = state;
    if (nested) {
      add("a.weight.absmax", Dtype::U8, {nested_codes.size()}, nested_codes);
      numbers("a.weight.nested_absmax", nested_absmax);
      numbers("a.weight.nested_quant_map", nested_map);
      settings.update({{"nested_blocksize", 4}, {"nested_offset", 0.125}});
      settings.update(state);
    } else {
      numbers("a.weight.absmax", absmax);
    }
    const std::string text = state_text.empty() ? settings.dump() : state_text;
    add("a.weight.quant_state.bitsandbytes__" + kind, Dtype::U8, {text.size()}, text);
    return made;
  }
};

TEST(BitsAndBytes, FourBits) {
  for (const char* kind : {"nf4", "fp4"}) {
    for (const bool nested : {false, true}) {
      FourBitWeight weight;
      weight.kind = kind;
      weight.nested = nested;
      QuantisedModel model = weight.model();
      for (const bool configured : {false, true}) {
        if (configured) model.settings = {{"load_in_4bit", true}};
        const auto checkpoint = model.open();
        EXPECT_EQ(checkpoint->tensors().size(), 1U);
        EXPECT_EQ(checkpoint->quantisation(), std::string("bitsandbytes ") + kind);
        expect_decoded(*checkpoint, "a.weight", {3, 15}, weight);
      }
    }
  }
}

TEST(BitsAndBytes, FourBitPartsThatDoNotFitAreErrors) {
  const std::string state = "a.weight.quant_state.bitsandbytes__nf4";
  for (const char* companion : {"", ".quant_map", ".absmax", ".nested_quant_map"}) {
    FourBitWeight weight;
    weight.nested = std::string(companion) == ".nested_quant_map";
    weight.left_out = std::string("a.weight") + companion;
    QuantisedModel model = weight.model();
    expect_refused(model, state, "`" + weight.left_out + "` is missing");
  }
  struct Case {
    void (*change)(FourBitWeight&);
    std::string tensor;
    const char* message;
  };
  const Case cases[] = {
      {[](FourBitWeight& w) { w.codes.pop_back(); }, "a.weight", "22 bytes, its shape in"},
      {[](FourBitWeight& w) { w.map.pop_back(); }, "a.weight.quant_map", "asks for [16]"},
      {[](FourBitWeight& w) { w.absmax.pop_back(); }, "a.weight.absmax", "asks for [6]"},
      {[](FourBitWeight& w) { w.state["blocksize"] = 0; }, state, "`blocksize`"},
      {[](FourBitWeight& w) { w.state["shape"] = 45; }, state, "`shape`"},
      {[](FourBitWeight& w) {
         w.state["shape"] = {-3, 15};
       },
       state, "`shape`"},
      {[](FourBitWeight& w) {
         w.state["shape"] = {1ULL << 40, 1ULL << 40};
       },
       "a.weight", "bytes"},
      {[](FourBitWeight& w) { w.state_text = "[1, 2]"; }, state, "no JSON object"},
      {[](FourBitWeight& w) { w.state_text = "{\"shape\""; }, state, "cannot be read"},
      {[](FourBitWeight& w) { w.state_text.assign(70000, ' '); }, state, "too large"},
      {[](FourBitWeight& w) {
         w.nested = true;
         w.nested_absmax.pop_back();
       },
       "a.weight.nested_absmax", "asks for [2]"},
      {[](FourBitWeight& w) {
         w.nested = true;
         w.nested_codes.pop_back();
       },
       "a.weight.absmax", "asks for [6]"},
      {[](FourBitWeight& w) {
         w.nested = true;
         w.state["nested_offset"] = nullptr;
       },
       state, "`nested_offset`"},
      {[](FourBitWeight& w) {
         w.nested = true;
         w.state["nested_blocksize"] = -4;
       },
       state, "`nested_blocksize`"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.message);
    FourBitWeight weight;
    test.change(weight);
    QuantisedModel model = weight.model();
    expect_refused(model, test.tensor, test.message);
  }
}

}  // namespace
}  // namespace thorns
