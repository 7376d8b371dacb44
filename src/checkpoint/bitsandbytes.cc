// Checkpoints saved by bitsandbytes.
//
// 8-bit (LLM.int8): `P.weight` (I8 [rows, columns]), `P.SCB` (the largest magnitude of each row)
// and `P.weight_format` (0: row-major, the only one that is left in use):
//
//   w[i, j] = q[i, j] * SCB[i] / 127
//
// 4-bit (nf4, fp4): `P.weight` (U8, two codes a byte, the first in the high four bits, of all
// elements in one row) with companions `P.weight.<...>`: `quant_map` (the number of each code),
// `absmax` (the scale of each block), and JSON in `quant_state.bitsandbytes__nf4` or `__fp4`
// (shape, block size). Double quantisation stores absmax as bytes with a map, a scale for each
// larger block, and an offset of their own:
//
//   w[i] = quant_map[code] * absmax[i / blocksize]
//   absmax[k] = nested_quant_map[byte] * nested_absmax[k / nested_blocksize] + nested_offset
//
// in float32, each step rounded, as the library does it.
//
// Source: bitsandbytes 0.50: functional.py (QuantState, dequantize_4bit, int8_vectorwise_dequant),
// backends/default/ops.py, nn/modules.py; Dettmers et al. 2022 and 2023.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "checkpoint/decoding.h"
#include "checkpoint/scaled_bytes.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostStateBytes = 65536;
constexpr std::array<const char*, 2> kStates = {".quant_state.bitsandbytes__nf4",
                                                ".quant_state.bitsandbytes__fp4"};

// ---------------------------------------------------------------- 8 bits

void decode_int8(Decoding& decoding, const TensorReader& weight, const std::string& module) {
  ScaledBytes bytes(weight);
  bytes.scale = decoding.need(weight, module + ".SCB");
  bytes.scale->require_type({Dtype::F32});
  const ScaleBlock row[] = {{1, ScaleBlock::kWhole}};
  bytes.grid.emplace(weight.info().shape, *bytes.scale, row);
  bytes.divisor = 127.0;
  if (const auto format = decoding.take(module + ".weight_format")) {
    format->require_type({Dtype::U8});
    if (format->info().elements != 1 || format->floats(0, 1)[0] != 0) {
      format->fail("says that the weight is not stored row by row, which cannot be merged",
                   ErrorCode::Unsupported);
    }
  }
  decoding.present(weight, weight.name(), weight.info().shape, decode_scaled_bytes(bytes),
                   "bitsandbytes int8");
}

// ---------------------------------------------------------------- 4 bits

struct FourBits {
  TensorReader codes;
  TensorReader map;
  TensorReader absmax;
  std::uint64_t block = 0;
  struct Nested {  // of absmax
    TensorReader map;
    TensorReader absmax;
    std::uint64_t block = 0;
    float offset = 0;
  };
  std::optional<Nested> nested;
};

class FourBitDecoder final : public Decoder {
 public:
  FourBitDecoder(const FourBits& what, const Stack& stack) : what_(what), stack_(stack) {}

  void decode(const Part& part, Floats to) const override {
    const std::uint64_t first = part.first(stack_);
    const std::uint64_t end = first + part.elements();
    const std::uint64_t first_byte = first / 2;
    const std::uint64_t bytes = divide_up(end, 2) - first_byte;
    const auto codes = what_.codes.rectangle<std::uint8_t>(first_byte, 1, bytes, bytes);
    const std::vector<float> map = what_.map.floats(0, 16);
    const std::uint64_t first_block = first / what_.block;
    const std::vector<float> absmax =
        scales(first_block, divide_up(end, what_.block) - first_block);
    for (std::uint64_t i = first; i < end; ++i) {
      const int byte = codes[i / 2 - first_byte];
      const int code = i % 2 == 0 ? byte >> 4 : byte & 0xF;
      to.set(i - first,
             map[static_cast<std::size_t>(code)] * absmax[i / what_.block - first_block]);
    }
  }

  void will_need(const Part& part) const override {
    const std::uint64_t first = part.first(stack_);
    what_.codes.will_need(first / 2, part.elements() / 2 + 1);
  }

 private:
  // Those of blocks [first, first + count).
  std::vector<float> scales(std::uint64_t first, std::uint64_t count) const {
    std::vector<float> values = what_.absmax.floats(first, count);
    if (!what_.nested) return values;
    const FourBits::Nested& nested = *what_.nested;
    const std::vector<float> map = nested.map.floats(0, 256);
    const std::uint64_t first_outer = first / nested.block;
    const std::vector<float> outer =
        nested.absmax.floats(first_outer, divide_up(first + count, nested.block) - first_outer);
    for (std::uint64_t i = 0; i < count; ++i) {
      const float scaled = map[static_cast<std::size_t>(values[i])] *
                           outer[(first + i) / nested.block - first_outer];
      values[i] = scaled + nested.offset;
    }
    return values;
  }

  FourBits what_;
  Stack stack_;
};

Json read_state(const TensorReader& state) {
  state.require_type({Dtype::U8});
  if (state.info().elements > kMostStateBytes) state.fail("is too large for a few settings");
  const auto bytes = state.rectangle<char>(0, 1, state.info().elements, state.info().elements);
  Json json;
  try {
    json = parse_json({bytes.begin(), bytes.end()}, state.name());
  } catch (const Error& error) {
    state.fail("cannot be read: " + error.message());
  }
  if (!json.is_object()) state.fail("is no JSON object");
  return json;
}

std::uint64_t positive_field(const TensorReader& state, const Json& json, const char* name) {
  const auto value = integer_field(json, name);
  if (!value || *value <= 0) state.fail(fmt::format("has no positive whole number `{}`", name));
  return static_cast<std::uint64_t>(*value);
}

std::vector<std::uint64_t> shape_field(const TensorReader& state, const Json& json) {
  std::vector<std::uint64_t> shape;
  const auto field = json.find("shape");
  const bool valid = field != json.end() && field->is_array() &&
                     std::all_of(field->begin(), field->end(),
                                 [](const Json& dim) { return dim.is_number_unsigned(); });
  if (!valid) state.fail("has no `shape` of whole numbers");
  for (const Json& dim : *field) shape.push_back(dim.get<std::uint64_t>());
  return shape;
}

void require_numbers(const TensorReader& tensor, Dtype dtype, std::uint64_t count) {
  tensor.require_type({dtype});
  const std::uint64_t shape[] = {count};
  tensor.require_shape(shape);
}

void decode_four_bits(Decoding& decoding, const TensorReader& state, const std::string& weight) {
  const Json settings = read_state(state);
  const std::vector<std::uint64_t> shape = shape_field(state, settings);
  const std::uint64_t elements = checked_product(shape).value_or(UINT64_MAX);
  FourBits what{decoding.need(state, weight), decoding.need(state, weight + ".quant_map"),
                decoding.need(state, weight + ".absmax"),
                positive_field(state, settings, "blocksize"), std::nullopt};
  what.codes.require_type({Dtype::U8});
  if (what.codes.info().elements != divide_up(elements, 2)) {
    what.codes.fail(fmt::format("has {} bytes, its shape in `{}` asks for {}",
                                what.codes.info().elements, state.name(), divide_up(elements, 2)));
  }
  require_numbers(what.map, Dtype::F32, 16);
  const std::uint64_t blocks = divide_up(elements, what.block);
  if (const auto nested = decoding.take(weight + ".nested_absmax")) {
    const auto offset = settings.find("nested_offset");
    if (offset == settings.end() || !offset->is_number()) state.fail("has no `nested_offset`");
    what.nested = {decoding.need(state, weight + ".nested_quant_map"), *nested,
                   positive_field(state, settings, "nested_blocksize"), offset->get<float>()};
    require_numbers(what.nested->map, Dtype::F32, 256);
    require_numbers(what.nested->absmax, Dtype::F32, divide_up(blocks, what.nested->block));
    require_numbers(what.absmax, Dtype::U8, blocks);
  } else {
    require_numbers(what.absmax, Dtype::F32, blocks);
  }
  const TensorReader codes = what.codes;
  decoding.take(state.name());
  decoding.present(codes, weight, shape, std::make_unique<FourBitDecoder>(what, stack_of(shape)),
                   state.name().ends_with("nf4") ? "bitsandbytes nf4" : "bitsandbytes fp4");
}

}  // namespace

void decode_bitsandbytes(Decoding& decoding) {
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    const TensorReader tensor = decoding.tensor(i);
    for (const char* ending : kStates) {
      if (const auto weight = without_ending(tensor.name(), ending)) {
        decode_four_bits(decoding, tensor, *weight);
      }
    }
    if (tensor.info().dtype != Dtype::I8) continue;
    const auto module = without_ending(tensor.name(), ".weight");
    // Where nothing says that this is bitsandbytes, its scale must.
    if (!module || (decoding.how() == nullptr && !decoding.has(*module + ".SCB"))) continue;
    decode_int8(decoding, tensor, *module);
  }
}

}  // namespace thorns
