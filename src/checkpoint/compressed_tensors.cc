// The formats of the library compressed-tensors (llm-compressor, vLLM), one set of tensors for each
// quantised layer P:
//
//   float-quantized, int-quantized, naive-quantized: P.weight (FP8 or int8), P.weight_scale and for
//     asymmetric schemes P.weight_zero_point, a number each for the tensor, for each row, for each
//     group of a row's columns, or for each block.
//   pack-quantized: P.weight_packed (int32), P.weight_shape (what shape it stands for),
//     P.weight_scale. 32 / bits values in a word, the first in its lowest bits, stored as
//     value + 2^(bits - 1); rows are padded to whole words. Zero points are packed in the same way,
//     but down the rows: [rows * bits / 32, groups].
//
//   w[i, j] = (q[i, j] - zero) * scale
//
// Where P.weight_g_idx is there and has no -1, it names the group of each column. The library
// computes this in the scale's type; here it is one product, rounded once to float32.
//
// Source: compressed_tensors 0.20: compressors/{naive_quantized,pack_quantized},
// quantization/lifecycle/forward_helpers.py; weight_g_idx as in 0.11. Packed values of other widths
// than 4 and 8 bits are not decoded: versions differ in whether they cross words.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/config.h"
#include "checkpoint/decoding.h"
#include "checkpoint/scaled_bytes.h"

namespace thorns {
namespace {

constexpr std::array<std::string_view, 5> kVariants = {
    "float-quantized", "int-quantized", "naive-quantized", "pack-quantized", "mixed-precision"};

// How the weights of some layers are quantised, one of the configuration's `config_groups`.
struct Scheme {
  std::uint64_t bits = 0;
  ScaleBlock block;
};

std::optional<ScaleBlock> block_of(const Json& weights) {
  const std::string strategy = text_field(weights, "strategy");
  const std::int64_t group = integer_field(weights, "group_size").value_or(0);
  if (strategy == "block") {
    const auto size = weights.find("block_structure");
    const bool valid = size != weights.end() && size->is_array() && size->size() == 2 &&
                       (*size)[0].is_number_unsigned() && (*size)[1].is_number_unsigned();
    if (!valid) return std::nullopt;
    return ScaleBlock{(*size)[0].get<std::uint64_t>(), (*size)[1].get<std::uint64_t>()};
  }
  if (group > 0 && (strategy == "group" || strategy.empty())) {
    return ScaleBlock{1, static_cast<std::uint64_t>(group)};
  }
  if (strategy == "channel" || (strategy.empty() && group == -1))
    return ScaleBlock{1, ScaleBlock::kWhole};
  if (strategy == "tensor" || (strategy.empty() && group == 0)) return ScaleBlock{};
  return std::nullopt;
}

bool has_entries(const Json& settings, const char* name) {
  const auto found = settings.find(name);
  return found != settings.end() && found->is_object() && !found->empty();
}

// Refuses what changes the weights in ways that are not decoded here.
void check_variant(const Decoding& decoding) {
  const auto known = [](const std::string& format) {
    return std::find(kVariants.begin(), kVariants.end(), format) != kVariants.end();
  };
  const Json& settings = decoding.how()->settings;
  if (!known(text_field(settings, "format"))) decoding.refuse("its `format`");
  if (has_entries(settings, "transform_config")) decoding.refuse("its weights are rotated");
  if (has_entries(settings, "sparsity_config")) {
    const std::string format = text_field(settings["sparsity_config"], "format");
    if (!format.empty() && format != "dense") decoding.refuse(format);
  }
  if (!has_entries(settings, "config_groups")) decoding.refuse("no `config_groups`");
  for (const auto& [name, group] : settings["config_groups"].items()) {
    const std::string format = text_field(group, "format");
    if (!format.empty() && !known(format)) decoding.refuse(format);
  }
}

std::vector<Scheme> schemes_of(const Decoding& decoding) {
  std::vector<Scheme> schemes;
  for (const auto& [name, group] : decoding.how()->settings["config_groups"].items()) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end() || !weights->is_object()) continue;
    const auto block = block_of(*weights);
    const auto bits = integer_field(*weights, "num_bits");
    if (!block) decoding.refuse(fmt::format("the strategy of `{}`", name));
    if (!bits || (*bits != 4 && *bits != 8)) {
      decoding.refuse(fmt::format("{} bits in `{}`", bits.value_or(0), name));
    }
    schemes.push_back({static_cast<std::uint64_t>(*bits), *block});
  }
  return schemes;
}

// The tensors of one layer.
struct Layer {
  TensorReader codes;
  TensorReader scale;
  std::optional<TensorReader> zero;
  BlockGrid grid;
};

Layer take_layer(Decoding& decoding, const TensorReader& codes, const std::string& module,
                 std::span<const std::uint64_t> shape, const std::vector<Scheme>& schemes) {
  std::vector<ScaleBlock> blocks;
  for (const Scheme& scheme : schemes) blocks.push_back(scheme.block);
  const TensorReader scale = decoding.need(codes, module + ".weight_scale");
  scale.require_type({Dtype::F32, Dtype::BF16, Dtype::F16});
  Layer layer{codes, scale, decoding.take(module + ".weight_zero_point"), {shape, scale, blocks}};
  const auto index = decoding.take(module + ".weight_g_idx");
  if (!index) return layer;
  const std::vector<std::int64_t> group = index->integers();
  if (std::find(group.begin(), group.end(), -1) == group.end()) layer.grid.reorder(*index);
  return layer;
}

// Several values to a word, along the rows; zero points along the columns.
class Packed final : public Decoder {
 public:
  Packed(const Layer& layer, std::span<const std::uint64_t> shape, std::uint64_t bits)
      : layer_(layer),
        stack_(stack_of(shape)),
        bits_(bits),
        words_(divide_up(stack_.columns * bits, 32)) {}

  void decode(const Part& part, Floats to) const override {
    const std::uint64_t first_word = part.column * bits_ / 32;
    const std::uint64_t width = divide_up((part.column + part.columns) * bits_, 32) - first_word;
    const auto words = layer_.codes.rectangle<std::uint32_t>(row_start(part) + first_word,
                                                             part.rows, width, words_);
    const GridWindow window = layer_.grid.window(part);
    const std::vector<float> scales = read_window(layer_.scale, window);
    const std::vector<std::uint32_t> zeros = read_zeros(part, window);
    const std::uint64_t skipped = part.column - first_word * 32 / bits_;
    std::size_t i = 0;
    for (std::uint64_t row = 0; row < part.rows; ++row) {
      const std::size_t above = layer_.grid.row_in(window, part, row) * window.columns;
      const std::uint32_t* const line = words.data() + row * width;
      for (std::size_t column = 0; column < part.columns; ++column, ++i) {
        const std::size_t at = above + window.group[column];
        // Both carry the same offset, which goes away in the difference.
        const auto code = static_cast<std::int32_t>(value(line, skipped + column));
        to.set(i, static_cast<float>(code - static_cast<std::int32_t>(zeros[at])) * scales[at]);
      }
    }
  }

  void will_need(const Part& part) const override {
    layer_.codes.will_need(row_start(part), part.rows * words_);
  }

 private:
  std::uint64_t row_start(const Part& part) const {
    return (part.matrix * stack_.rows + part.row) * words_;
  }

  // The index-th value of a run of words.
  std::uint32_t value(const std::uint32_t* words, std::uint64_t index) const {
    const std::uint64_t bit = index * bits_;
    return words[bit / 32] >> bit % 32 & ((1U << bits_) - 1);
  }

  // Of each number of the window, stored with its offset.
  std::vector<std::uint32_t> read_zeros(const Part& part, const GridWindow& window) const {
    std::vector<std::uint32_t> zeros(static_cast<std::size_t>(window.rows * window.columns),
                                     1U << (bits_ - 1));
    if (!layer_.zero) return zeros;
    const std::uint64_t first_row = window.row * bits_ / 32;
    const std::uint64_t rows = divide_up((window.row + window.rows) * bits_, 32) - first_row;
    const std::uint64_t packed_rows = divide_up(layer_.grid.rows() * bits_, 32);
    const auto words = layer_.zero->rectangle<std::uint32_t>(
        (part.matrix * packed_rows + first_row) * window.stride + window.column, rows,
        window.columns, window.stride);
    std::size_t i = 0;
    for (std::uint64_t row = window.row; row < window.row + window.rows; ++row) {
      const std::uint64_t bit = row * bits_ - first_row * 32;
      for (std::uint64_t column = 0; column < window.columns; ++column, ++i) {
        zeros[i] = words[bit / 32 * window.columns + column] >> bit % 32 & ((1U << bits_) - 1);
      }
    }
    return zeros;
  }

  Layer layer_;
  Stack stack_;
  std::uint64_t bits_;
  std::uint64_t words_;  // in a row
};

void decode_bytes(Decoding& decoding, const TensorReader& weight, const std::string& module,
                  const std::vector<Scheme>& schemes) {
  const Layer layer = take_layer(decoding, weight, module, weight.info().shape, schemes);
  ScaledBytes bytes(weight);
  bytes.scale = layer.scale;
  bytes.zero = layer.zero;
  bytes.grid = layer.grid;
  if (layer.zero) {
    layer.zero->require_type({Dtype::I8, weight.info().dtype});
    layer.zero->require_shape(layer.scale.info().shape);
  }
  const bool integers = weight.info().dtype == Dtype::I8;
  decoding.present(weight, weight.name(), weight.info().shape, decode_scaled_bytes(bytes),
                   integers ? "compressed-tensors int8" : "compressed-tensors FP8");
}

std::vector<std::uint64_t> true_shape(const TensorReader& packed, const TensorReader& stored) {
  std::vector<std::uint64_t> shape;
  for (const std::int64_t dim : stored.integers()) {
    if (dim < 0) stored.fail("holds a negative number");
    shape.push_back(static_cast<std::uint64_t>(dim));
  }
  const std::uint64_t dimensions[] = {packed.info().shape.size()};
  if (dimensions[0] < 2) packed.fail("is no matrix");
  stored.require_shape(dimensions);
  return shape;
}

void decode_packed(Decoding& decoding, const TensorReader& packed, const std::string& module,
                   const std::vector<Scheme>& schemes) {
  packed.require_type({Dtype::I32});
  const std::vector<std::uint64_t> shape =
      true_shape(packed, decoding.need(packed, module + ".weight_shape"));
  std::vector<std::uint64_t> words = shape;
  std::uint64_t bits = 0;
  for (const Scheme& scheme : schemes) {
    // Not wrapping: a number of columns that is too large does not come back as a small one.
    words.back() = divide_up(shape.back(), 32 / scheme.bits);
    if (words == packed.info().shape) bits = scheme.bits;
  }
  if (bits == 0) packed.require_shape(words);
  Layer layer = take_layer(decoding, packed, module, shape, schemes);
  if (layer.zero) {
    layer.zero->require_type({Dtype::I32});
    std::vector<std::uint64_t> zeros(shape.begin(), shape.end() - 2);
    zeros.push_back(divide_up(layer.grid.rows() * bits, 32));
    zeros.push_back(layer.grid.columns());
    layer.zero->require_shape(zeros);
  }
  decoding.present(packed, module + ".weight", shape, std::make_unique<Packed>(layer, shape, bits),
                   fmt::format("compressed-tensors int{}", bits));
}

}  // namespace

void decode_compressed_tensors(Decoding& decoding) {
  check_variant(decoding);
  const std::vector<Scheme> schemes = schemes_of(decoding);
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    const TensorReader tensor = decoding.tensor(i);
    if (const auto packed = without_ending(tensor.name(), ".weight_packed")) {
      decode_packed(decoding, tensor, *packed, schemes);
      continue;
    }
    const Dtype dtype = tensor.info().dtype;
    if (dtype != Dtype::I8 && dtype != Dtype::F8E4M3 && dtype != Dtype::F8E5M2) continue;
    if (const auto module = without_ending(tensor.name(), ".weight")) {
      decode_bytes(decoding, tensor, *module, schemes);
    }
  }
  decoding.hide_activation_scales();
}

}  // namespace thorns
