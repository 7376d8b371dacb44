// GPTQ and AWQ: linear layers as whole numbers of 2, 4 or 8 bits with a scale and a zero point for
// each group of inputs. Both store the transpose of the weight, `P.qweight`, beside `P.scales`
// [groups, out] and `P.qzeros` [groups, out * bits / 32]; several values share an int32.
//
//   GPTQ: qweight [in * bits / 32, out], packed along the inputs, the first in the lowest bits.
//         `P.g_idx` [in], where it is there, names the group of each input; else input i is in
//         group i / group_size. Zero points are stored less one in the format `gptq`, as they are
//         in `gptq_v2`.
//   AWQ:  qweight [in, out / 8], 4 bits, packed along the outputs, which lie in the order 0, 2, 4,
//   6,
//         1, 3, 5, 7 from the lowest bits up (version `gemm`); qzeros likewise.
//
//   w[out, in] = (q[in, out] - zero[group, out]) * scale[group, out]
//
// The product is exact in float32 where scales have 16 bits.
//
// Sources: AutoGPTQ's and GPTQModel's torch layers; AutoAWQ 0.2.9, utils/packing_utils.py; Frantar
// et al. 2022; Lin et al. 2023.
#include <fmt/format.h>

#include <array>

#include "checkpoint/block_grid.h"
#include "checkpoint/config.h"
#include "checkpoint/decoding.h"

namespace thorns {
namespace {

// Where each of eight values of 4 bits is found in its word, in values from the lowest bits.
constexpr std::array<std::uint64_t, 8> kAwqPlaces = {0, 4, 1, 5, 2, 6, 3, 7};

// What all layers of a checkpoint have in common.
struct Layout {
  bool is_awq = false;
  std::uint64_t bits = 0;
  std::int64_t group_size = 0;   // inputs; -1: one group for all
  std::int32_t zero_offset = 0;  // to add to stored zero points
};

struct GroupedLayer {
  Layout layout;
  TensorReader codes;
  TensorReader scales;
  TensorReader zeros;
  std::optional<TensorReader> order;  // g_idx
  std::uint64_t inputs = 0;
  std::uint64_t outputs = 0;
  std::uint64_t groups = 0;
  std::uint64_t group_size = 0;  // where there is no `order`
};

class GroupedCodes final : public Decoder {
 public:
  explicit GroupedCodes(const GroupedLayer& layer)
      : layer_(layer), outputs_words_(divide_up(layer_.outputs * layer_.layout.bits, 32)) {}

  // The part's rows are outputs, its columns inputs.
  void decode(const Part& part, Floats to) const override {
    const Groups groups = groups_of(part);
    const std::vector<float> scales = layer_.scales.float_rectangle(
        groups.first * layer_.outputs + part.row, groups.count, part.rows, layer_.outputs);
    const std::vector<std::int32_t> zeros = zeros_of(part, groups);
    const auto fill = [&](auto code) {
      std::size_t i = 0;
      for (std::uint64_t row = 0; row < part.rows; ++row) {
        for (std::uint64_t column = 0; column < part.columns; ++column, ++i) {
          const std::size_t at = groups.of[column] * part.rows + row;
          to.set(i, static_cast<float>(code(row, column) - zeros[at]) * scales[at]);
        }
      }
    };
    if (layer_.layout.is_awq) {
      const Words words = words_of(part, layer_.codes, part.column, part.columns);
      fill(
          [&](std::uint64_t row, std::uint64_t column) { return value(words, column, row, part); });
      return;
    }
    const std::uint64_t first = part.column * layer_.layout.bits / 32;
    const std::uint64_t count =
        divide_up((part.column + part.columns) * layer_.layout.bits, 32) - first;
    const auto words = layer_.codes.rectangle<std::uint32_t>(first * layer_.outputs + part.row,
                                                             count, part.rows, layer_.outputs);
    fill([&](std::uint64_t row, std::uint64_t column) {
      const std::uint64_t bit = (part.column + column) * layer_.layout.bits - first * 32;
      return cut(words[bit / 32 * part.rows + row], bit % 32);
    });
  }

  void will_need(const Part& part) const override {
    // Whatever the outputs, their words lie all over the tensor.
    if (part.row == 0) layer_.codes.will_need(0, layer_.codes.info().elements);
  }

 private:
  struct Groups {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    std::vector<std::uint32_t> of;  // for each column of the part, counted from `first`
  };
  Groups groups_of(const Part& part) const {
    Groups groups;
    if (layer_.order) {
      const auto all = read_group_index(*layer_.order, layer_.inputs, layer_.groups);
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(part.column);
      groups.of.assign(begin, begin + static_cast<std::ptrdiff_t>(part.columns));
      groups.count = layer_.groups;
      return groups;
    }
    groups.first = part.column / layer_.group_size;
    groups.count = divide_up(part.column + part.columns, layer_.group_size) - groups.first;
    for (std::uint64_t i = part.column; i < part.column + part.columns; ++i) {
      groups.of.push_back(static_cast<std::uint32_t>(i / layer_.group_size - groups.first));
    }
    return groups;
  }

  // Words packed along the outputs: those that hold the part's outputs, of some lines.
  struct Words {
    std::vector<std::uint32_t> words;
    std::uint64_t first = 0;  // word of a line
    std::uint64_t width = 0;
  };
  Words words_of(const Part& part, const TensorReader& tensor, std::uint64_t line,
                 std::uint64_t lines) const {
    Words words;
    words.first = part.row * layer_.layout.bits / 32;
    words.width = divide_up((part.row + part.rows) * layer_.layout.bits, 32) - words.first;
    words.words = tensor.rectangle<std::uint32_t>(line * outputs_words_ + words.first, lines,
                                                  words.width, outputs_words_);
    return words;
  }
  std::int32_t value(const Words& words, std::uint64_t line, std::uint64_t row,
                     const Part& part) const {
    const std::uint64_t per_word = 32 / layer_.layout.bits;
    const std::uint64_t output = part.row + row;
    const std::uint64_t within = output % per_word;
    const std::uint64_t place = layer_.layout.is_awq ? kAwqPlaces[within] : within;
    return cut(words.words[line * words.width + output / per_word - words.first],
               place * layer_.layout.bits);
  }
  std::int32_t cut(std::uint32_t word, std::uint64_t bit) const {
    return static_cast<std::int32_t>(word >> bit & ((1U << layer_.layout.bits) - 1));
  }

  std::vector<std::int32_t> zeros_of(const Part& part, const Groups& groups) const {
    const Words words = words_of(part, layer_.zeros, groups.first, groups.count);
    std::vector<std::int32_t> zeros;
    zeros.reserve(static_cast<std::size_t>(groups.count * part.rows));
    for (std::uint64_t group = 0; group < groups.count; ++group) {
      for (std::uint64_t row = 0; row < part.rows; ++row) {
        // Less one, a zero point of 0 is stored as the largest number.
        zeros.push_back((value(words, group, row, part) + layer_.layout.zero_offset) &
                        ((1 << layer_.layout.bits) - 1));
      }
    }
    return zeros;
  }

  GroupedLayer layer_;
  std::uint64_t outputs_words_;
};

// Takes the companions of `P.qweight` and checks the shapes of all.
GroupedLayer take_grouped_layer(Decoding& decoding, const TensorReader& codes,
                                const std::string& module, const Layout& layout) {
  GroupedLayer layer{layout, codes, decoding.need(codes, module + ".scales"),
                     decoding.need(codes, module + ".qzeros"), decoding.take(module + ".g_idx")};
  codes.require_type({Dtype::I32});
  layer.zeros.require_type({Dtype::I32});
  layer.scales.require_type({Dtype::F16, Dtype::BF16, Dtype::F32});
  if (codes.info().shape.size() != 2 || codes.info().elements == 0) codes.fail("is no matrix");
  if (layer.scales.info().shape.size() != 2) layer.scales.fail("is no matrix");

  const std::uint64_t per_word = 32 / layout.bits;
  const std::uint64_t lines = codes.info().shape[0];
  layer.inputs = layout.is_awq ? lines : lines * per_word;
  layer.outputs = layer.scales.info().shape[1];
  const std::uint64_t output_words = divide_up(layer.outputs, per_word);
  const std::uint64_t code_shape[] = {lines, layout.is_awq ? output_words : layer.outputs};
  codes.require_shape(code_shape);
  layer.group_size =
      layout.group_size > 0 ? static_cast<std::uint64_t>(layout.group_size) : layer.inputs;
  layer.groups =
      layer.order ? layer.scales.info().shape[0] : divide_up(layer.inputs, layer.group_size);
  const std::uint64_t scale_shape[] = {layer.groups, layer.outputs};
  layer.scales.require_shape(scale_shape);
  const std::uint64_t zero_shape[] = {layer.groups, output_words};
  layer.zeros.require_shape(zero_shape);
  if (layer.order) read_group_index(*layer.order, layer.inputs, layer.groups);
  return layer;
}

void decode_layers(Decoding& decoding, const Layout& layout, const std::string& format) {
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    const TensorReader codes = decoding.tensor(i);
    const auto module = without_ending(codes.name(), ".qweight");
    if (!module) continue;
    const GroupedLayer layer = take_grouped_layer(decoding, codes, *module, layout);
    decoding.present(codes, *module + ".weight", {layer.outputs, layer.inputs},
                     std::make_unique<GroupedCodes>(layer), format);
  }
}

// The first of two names of a setting that is there.
std::int64_t setting(const Decoding& decoding, const char* name, const char* old_name) {
  for (const char* candidate : {name, old_name}) {
    if (const auto value = integer_field(decoding.how()->settings, candidate)) return *value;
  }
  decoding.refuse(fmt::format("no `{}`", name));
}

}  // namespace

void decode_gptq(Decoding& decoding) {
  const Json& settings = decoding.how()->settings;
  const std::string version = text_field(settings, "checkpoint_format");
  if (!version.empty() && version != "gptq" && version != "gptq_v2") {
    decoding.refuse(fmt::format("`checkpoint_format` {}", version));
  }
  const auto marlin = settings.find("is_marlin_format");
  if (marlin != settings.end() && *marlin == true) decoding.refuse("the marlin format");
  const std::int64_t bits = setting(decoding, "bits", "w_bit");
  if (bits != 2 && bits != 4 && bits != 8) decoding.refuse(fmt::format("{} bits", bits));
  const Layout layout{false, static_cast<std::uint64_t>(bits),
                      setting(decoding, "group_size", "q_group_size"),
                      version == "gptq_v2" ? 0 : 1};
  decode_layers(decoding, layout, fmt::format("GPTQ with {} bits", bits));
}

void decode_awq(Decoding& decoding) {
  const std::string version = text_field(decoding.how()->settings, "version");
  if (!version.empty() && version != "gemm" && version != "GEMM") {
    decoding.refuse(fmt::format("`version` {}", version));
  }
  const std::int64_t bits = setting(decoding, "bits", "w_bit");
  if (bits != 4) decoding.refuse(fmt::format("{} bits", bits));
  const Layout layout{true, 4, setting(decoding, "group_size", "q_group_size"), 0};
  decode_layers(decoding, layout, "AWQ with 4 bits");
}

}  // namespace thorns
