#include <gtest/gtest.h>

#include <thread>

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

const nlohmann::ordered_json kBlocks = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};

double e4m3(const std::string& bytes, std::uint64_t i) {
  return static_cast<double>(float_from_e4m3(static_cast<std::uint8_t>(bytes[i])));
}

TEST(Fp8, BlocksAreCutShortAtTheEdges) {
  const std::string codes = random_bytes(200 * 300, 1);
  const std::vector<double> scales = random_scales(2 * 3, 2);
  QuantisedModel model;
  model.settings = kBlocks;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {200, 300}, codes)
      .add("a.weight_scale_inv", Dtype::F32, {2, 3}, scales)
      .add("norm.weight", Dtype::BF16, {2}, {1, 2});
  const auto checkpoint = model.open();
  expect_decoded(*checkpoint, "a.weight", {200, 300}, [&](std::uint64_t i) {
    return e4m3(codes, i) * scales[i / 300 / 128 * 3 + i % 300 / 128];
  });
  EXPECT_EQ(checkpoint->quantisation(), "scaled FP8");
  ASSERT_EQ(checkpoint->tensors().size(), 2U) << "scales are hidden";
  EXPECT_EQ(checkpoint->tensors()[1].name, "norm.weight");
  EXPECT_EQ(checkpoint->tensors()[1].dtype, Dtype::BF16) << "what is not quantised stays";
  EXPECT_FALSE(checkpoint->tensors()[1].nominal);
  EXPECT_EQ(checkpoint->file_of(0), "m/model.safetensors");
}

TEST(Fp8, BlocksHaveTheSizeOfTheConfiguration) {
  const std::string codes = random_bytes(6 * 10, 3);
  const std::vector<double> scales = random_scales(3 * 3, 4);
  QuantisedModel model;
  model.settings = {{"quant_method", "fp8"}, {"weight_block_size", {2, 4}}};
  model.weights.add_bytes("a.weight", Dtype::F8E5M2, {6, 10}, codes)
      .add("a.weight_scale_inv", Dtype::F32, {3, 3}, scales);
  expect_decoded(*model.open(), "a.weight", {6, 10}, [&](std::uint64_t i) {
    const float code =
        float_from_half(static_cast<std::uint16_t>(static_cast<std::uint8_t>(codes[i]) << 8));
    return static_cast<double>(code) * scales[i / 10 / 2 * 3 + i % 10 / 4];
  });
  for (const auto& bad : {nlohmann::ordered_json{128}, {0, 128}, {-1, 128}, {"a", "b"}}) {
    model.settings["weight_block_size"] = bad;
    EXPECT_EQ(error_of([&] { model.open(); }).code(), ErrorCode::Unsupported) << bad;
  }
}

TEST(Fp8, OneScaleForTheTensorOrForEachRowOrColumn) {
  const std::string codes = random_bytes(2 * 3 * 5, 5);
  const std::vector<double> scales = random_scales(6, 6);
  struct Case {
    Shape weight;
    Shape scale;
    std::function<std::uint64_t(std::uint64_t)> which;
  };
  const auto first = [](std::uint64_t) { return std::uint64_t{0}; };
  const auto row = [](std::uint64_t i) { return i / 5; };
  const Case cases[] = {
      {{30}, {}, first},
      {{6, 5}, {}, first},
      {{6, 5}, {1}, first},
      {{6, 5}, {1, 1}, first},
      {{6, 5}, {6}, row},
      {{6, 5}, {6, 1}, row},
      {{6, 5}, {1, 5}, [](std::uint64_t i) { return i % 5; }},
      {{2, 3, 5}, {1}, first},
      {{2, 3, 5}, {2}, [](std::uint64_t i) { return i / 15; }},
      {{2, 3, 5}, {2, 1, 1}, [](std::uint64_t i) { return i / 15; }},
      {{2, 3, 5}, {2, 3}, row},
      {{2, 3, 5}, {2, 3, 1}, row},
  };
  for (const Case& test : cases) {
    for (const char* scale : {"a.weight_scale", "a.weight_scale_inv", "a.qscale_weight"}) {
      QuantisedModel model;
      std::size_t count = 1;
      for (const std::uint64_t dim : test.scale) count *= dim;
      model.weights.add_bytes("a.weight", Dtype::F8E4M3, test.weight, codes)
          .add(scale, Dtype::F32, test.scale,
               {scales.begin(), scales.begin() + static_cast<std::ptrdiff_t>(count)});
      for (const char* method : {"", "fp8", "fbgemm_fp8", "modelopt"}) {
        model.settings = nlohmann::ordered_json();
        if (*method != '\0') {
          model.settings = {{"quant_method", method}, {"quant_algo", "FP8"}};
        }
        expect_decoded(*model.open(), "a.weight", test.weight,
                       [&](std::uint64_t i) { return e4m3(codes, i) * scales[test.which(i)]; });
      }
    }
  }
}

TEST(Fp8, StacksOfMatricesHaveBlocksOfTheirOwn) {
  const std::string codes = random_bytes(3 * 130 * 140, 7);
  const std::vector<double> scales = random_scales(3 * 2 * 2, 8);
  QuantisedModel model;
  model.settings = kBlocks;
  model.weights.add_bytes("mlp.experts.down_proj", Dtype::F8E4M3, {3, 130, 140}, codes)
      .add("mlp.experts.down_proj_scale_inv", Dtype::F32, {3, 2, 2}, scales);
  expect_decoded(*model.open(), "mlp.experts.down_proj", {3, 130, 140}, [&](std::uint64_t i) {
    const std::uint64_t matrix = i / (130 * 140);
    const std::uint64_t row = i / 140 % 130;
    return e4m3(codes, i) * scales[matrix * 4 + row / 128 * 2 + i % 140 / 128];
  });
}

TEST(Fp8, ScalesMayHaveFewerBits) {
  const std::string codes = random_bytes(4, 9, 126);
  for (const Dtype type : {Dtype::F16, Dtype::BF16, Dtype::F8E8M0}) {
    QuantisedModel model;
    model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, codes);
    if (type == Dtype::F8E8M0) {
      model.weights.add_bytes("a.weight_scale_inv", type, {1, 1}, "\x79");  // 2^(121 - 127)
    } else {
      model.weights.add("a.weight_scale_inv", type, {1, 1}, {0.015625});
    }
    expect_decoded(*model.open(), "a.weight", {2, 2},
                   [&](std::uint64_t i) { return e4m3(codes, i) / 64; });
  }
}

TEST(Fp8, PlainFp8HasNoScales) {
  const std::string codes = random_bytes(60, 10);
  QuantisedModel model;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {4, 15}, codes);
  const auto checkpoint = model.open();
  expect_decoded(*checkpoint, "a.weight", {4, 15}, [&](std::uint64_t i) { return e4m3(codes, i); });
  EXPECT_EQ(checkpoint->quantisation(), "plain FP8");
}

TEST(Fp8, AMissingScaleIsAnErrorWhereOthersAreScaled) {
  QuantisedModel model;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd")
      .add_bytes("b.weight", Dtype::F8E4M3, {2, 2}, "abcd")
      .add("b.weight_scale", Dtype::F32, {}, {2});
  expect_refused(model, "a.weight", "no scale beside it");
  QuantisedModel configured;
  configured.settings = kBlocks;
  configured.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd");
  expect_refused(configured, "a.weight", "no scale beside it");
}

TEST(Fp8, AScaleOfAnotherShapeOrTypeIsAnError) {
  for (const Shape& shape : {Shape{2, 2}, Shape{3}, Shape{1, 3, 1}, Shape{3, 2}, Shape{0}}) {
    QuantisedModel model;
    model.settings = kBlocks;
    std::uint64_t count = 1;
    for (const std::uint64_t dim : shape) count *= dim;
    model.weights.add_bytes("a.weight", Dtype::F8E4M3, {200, 300}, random_bytes(60000, 1))
        .add("a.weight_scale_inv", Dtype::F32, shape, random_scales(count, 1));
    expect_refused(model, "a.weight_scale_inv", "does not fit its weight of shape [200, 300]");
  }
  QuantisedModel model;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd")
      .add("a.weight_scale", Dtype::I32, {}, {2});
  expect_refused(model, "a.weight_scale", "has type I32, its format asks for F32");
}

TEST(Fp8, ScalesOfActivationsAreHidden) {
  QuantisedModel model;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd")
      .add("a.weight_scale", Dtype::F32, {}, {2})
      .add("a.input_scale", Dtype::F32, {}, {3})
      .add("a.input_scale_ub", Dtype::F32, {1}, {1200})
      .add("a.qscale_act", Dtype::F32, {}, {3})
      .add("attn.k_scale", Dtype::F32, {1}, {3})
      .add("attn.v_scale", Dtype::F32, {1}, {3})
      .add("a.bias", Dtype::BF16, {2}, {1, 2});
  const auto checkpoint = model.open();
  ASSERT_EQ(checkpoint->tensors().size(), 2U);
  EXPECT_TRUE(checkpoint->find("a.bias"));
  EXPECT_TRUE(checkpoint->find("a.weight"));
}

TEST(Fp8, OtherModelOptAlgorithmsAreRefused) {
  QuantisedModel model;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd");
  model.settings = {{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}};
  const Error error = error_of([&] { model.open(); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("modelopt NVFP4"), std::string::npos) << error.message();
}

TEST(Fp8, AConfigurationWithoutQuantisedTensorsIsAMismatch) {
  QuantisedModel model;
  model.settings = kBlocks;
  model.weights.add("a.weight", Dtype::BF16, {1}, {1});
  const Error error = error_of([&] { model.open(); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("none of its tensors is"), std::string::npos);
  EXPECT_EQ(test::path_of(error), "m/config.json");
}

TEST(Fp8, AScaleMayLieInAnotherShard) {
  test::ByteDisk disk;
  const std::string codes = random_bytes(12, 11);
  disk.files["m/config.json"] = R"({"quantization_config":{"quant_method":"fp8"}})";
  disk.files["m/model-00001-of-00002.safetensors"] =
      test::SafetensorsBuilder().add_bytes("a.weight", Dtype::F8E4M3, {3, 4}, codes).bytes();
  disk.files["m/model-00002-of-00002.safetensors"] =
      test::SafetensorsBuilder().add("a.weight_scale", Dtype::F32, {3, 1}, {1, 2, 3}).bytes();
  disk.files["m/model.safetensors.index.json"] =
      R"({"metadata":{},"weight_map":{"a.weight":"model-00001-of-00002.safetensors",)"
      R"("a.weight_scale":"model-00002-of-00002.safetensors"}})";
  const auto checkpoint = open_checkpoint(disk, "m");
  expect_decoded(*checkpoint, "a.weight", {3, 4},
                 [&](std::uint64_t i) { return e4m3(codes, i) * static_cast<double>(i / 4 + 1); });
  EXPECT_EQ(checkpoint->file_of(0), "m/model-00001-of-00002.safetensors");
  EXPECT_EQ(checkpoint->files().size(), 2U);
}

TEST(Fp8, RunsLongerThanAPartAndManyThreads) {
  constexpr std::uint64_t kRows = 1500;
  constexpr std::uint64_t kColumns = 1100;  // more than one part of 2^20 elements
  const std::string codes = random_bytes(kRows * kColumns, 12, 126);
  const std::vector<double> scales = random_scales(12 * 9, 13);
  QuantisedModel model;
  model.settings = kBlocks;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {kRows, kColumns}, codes)
      .add("a.weight_scale_inv", Dtype::F32, {12, 9}, scales);
  const auto checkpoint = model.open();
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::uint64_t first = t * 1000;
      const std::uint64_t count = kRows * kColumns - 5000;
      const auto values = test::decoded_run(*checkpoint, 0, first, count);
      for (std::uint64_t k = 0; k < count; ++k) {
        const std::uint64_t i = first + k;
        const double scale = scales[i / kColumns / 128 * 9 + i % kColumns / 128];
        ASSERT_EQ(values[k], static_cast<float>(e4m3(codes, i) * scale)) << i;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Fp8, CodesInPlaceWhereOneMultiplicationDecodesThem) {
  QuantisedModel model;
  model.settings = kBlocks;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd")
      .add("a.weight_scale_inv", Dtype::F32, {1, 1}, {3})
      .add("b.weight", Dtype::BF16, {2}, {1, 2});
  const auto checkpoint = model.open();
  const auto codes = checkpoint->map_codes(0, 1, 2);
  ASSERT_NE(codes, nullptr);
  float value = 0;
  codes->decode(2, 1, &value);
  EXPECT_EQ(value, static_cast<float>(3 * e4m3("abcd", 2)));
  EXPECT_EQ(checkpoint->map(0, 1, 2), nullptr) << "the bytes are no float32";
  EXPECT_EQ(checkpoint->map_codes(1, 0, 2), nullptr) << "it has no codes";
  EXPECT_NE(checkpoint->map(1, 0, 2), nullptr);
}

TEST(Fp8, ReadingBeyondTheEndIsABug) {
  QuantisedModel model;
  model.weights.add_bytes("a.weight", Dtype::F8E4M3, {2, 2}, "abcd");
  const auto checkpoint = model.open();
  EXPECT_EQ(error_of([&] { test::decoded_run(*checkpoint, 0, 3, 2); }).code(), ErrorCode::Internal);
  EXPECT_EQ(error_of([&] { test::decoded_run(*checkpoint, 0, 5, 0); }).code(), ErrorCode::Internal);
}

TEST(Fp8, TheNominalTypeIsThatOfTheConfiguration) {
  const std::pair<const char*, Dtype> cases[] = {
      {R"({})", Dtype::BF16},
      {R"({"torch_dtype":"float16"})", Dtype::F16},
      {R"({"dtype":"float32"})", Dtype::BF16},
      {R"({"text_config":{"dtype":"float16"}})", Dtype::F16},
  };
  for (const auto& [config, dtype] : cases) {
    test::ByteDisk disk;
    disk.files["m/config.json"] = config;
    disk.files["m/model.safetensors"] =
        test::SafetensorsBuilder().add_bytes("a.weight", Dtype::F8E4M3, {2}, "ab").bytes();
    EXPECT_EQ(open_checkpoint(disk, "m")->tensors()[0].nominal, dtype) << config;
  }
}

}  // namespace
}  // namespace thorns
