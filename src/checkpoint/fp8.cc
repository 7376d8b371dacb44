// FP8 weights: `P.weight` of type F8_E4M3 or F8_E5M2 with a number to multiply by,
// `P.weight_scale_inv` (DeepSeek's name; "inv" because it undoes the scaling), `P.weight_scale` or
// `P.qscale_weight` (Mistral's own files):
//
//   w[i, j] = fp8[i, j] * scale[i / block rows, j / block columns]
//
// with one scale for the tensor, for each row (fbgemm), or for each block of 128 x 128 or of
// `weight_block_size`; blocks at the edges are cut short. In a stack of matrices (experts) each has
// scales of its own. A checkpoint that is merely stored in FP8 has no scales at all.
//
// Sources: transformers' `FP8Linear` and `Fp8Dequantize` (finegrained_fp8.py), whose float32
// products these are; DeepSeek-V3's weight_dequant; ModelOpt's and fbgemm's checkpoints.
#include <array>

#include "checkpoint/config.h"
#include "checkpoint/decoding.h"
#include "checkpoint/scaled_bytes.h"

namespace thorns {
namespace {

constexpr ScaleBlock kTensor{ScaleBlock::kWhole, ScaleBlock::kWhole};
constexpr ScaleBlock kRow{1, ScaleBlock::kWhole};
constexpr ScaleBlock kColumn{ScaleBlock::kWhole, 1};
constexpr ScaleBlock kUsual{128, 128};

bool is_fp8(Dtype dtype) { return dtype == Dtype::F8E4M3 || dtype == Dtype::F8E5M2; }

// What scales may stand for: exactly what the configuration says, or all that are usual.
std::vector<ScaleBlock> blocks_of(const Decoding& decoding) {
  if (decoding.how() != nullptr) {
    const Json& settings = decoding.how()->settings;
    const auto size = settings.find("weight_block_size");
    if (size != settings.end() && !size->is_null()) {
      const bool valid = size->is_array() && size->size() == 2 && (*size)[0].is_number_unsigned() &&
                         (*size)[1].is_number_unsigned() && (*size)[0] > 0 && (*size)[1] > 0;
      if (!valid) decoding.refuse("`weight_block_size` is not two numbers");
      return {{(*size)[0].get<std::uint64_t>(), (*size)[1].get<std::uint64_t>()}};
    }
  }
  return {kTensor, kRow, kColumn, kUsual};
}

std::optional<TensorReader> take_scale(Decoding& decoding, const std::string& weight) {
  for (const char* ending : {"_scale_inv", "_scale"}) {
    if (auto scale = decoding.take(weight + ending)) return scale;
  }
  const auto module = without_ending(weight, "weight");
  return module ? decoding.take(*module + "qscale_weight") : std::nullopt;
}

}  // namespace

void decode_fp8(Decoding& decoding) {
  if (decoding.how() != nullptr && decoding.how()->method == "modelopt" &&
      text_field(decoding.how()->settings, "quant_algo") != "FP8") {
    decoding.refuse("only FP8 is decoded");
  }
  const std::vector<ScaleBlock> blocks = blocks_of(decoding);
  std::vector<ScaledBytes> weights;
  bool scaled = decoding.how() != nullptr;
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    const TensorReader tensor = decoding.tensor(i);
    if (!is_fp8(tensor.info().dtype) || decoding.is_taken(i)) continue;
    ScaledBytes weight(tensor);
    weight.scale = take_scale(decoding, tensor.name());
    if (weight.scale) {
      weight.scale->require_type({Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F8E8M0});
      weight.grid.emplace(tensor.info().shape, *weight.scale, blocks);
      scaled = true;
    }
    weights.push_back(weight);
  }
  if (weights.empty()) return;
  for (const ScaledBytes& weight : weights) {
    const TensorReader tensor = weight.weight;
    if (scaled && !weight.scale) {
      tensor.fail("has type " + std::string(to_string(tensor.info().dtype)) +
                  " and no scale beside it (`_scale_inv` or `_scale`)");
    }
    decoding.present(tensor, tensor.name(), tensor.info().shape, decode_scaled_bytes(weight),
                     scaled ? "scaled FP8" : "plain FP8");
  }
  decoding.hide_activation_scales();
}

}  // namespace thorns
