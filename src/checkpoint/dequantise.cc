#include "checkpoint/dequantise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/text.h"

namespace thorns {
namespace {

// All formats that are decoded, by the `quant_method` of the configuration. Where there is none,
// those are tried whose tensors cannot be mistaken.
struct FormatRow {
  std::string_view method;
  bool is_plain_to_see;
  void (*decode)(Decoding&);
};
constexpr std::array<FormatRow, 8> kFormats = {{
    {"fp8", true, decode_fp8},
    {"fbgemm_fp8", false, decode_fp8},
    {"modelopt", false, decode_fp8},
    {"compressed-tensors", false, decode_compressed_tensors},
    {"mxfp4", true, decode_mxfp4},
    {"bitsandbytes", true, decode_bitsandbytes},
    {"gptq", false, decode_gptq},
    {"awq", false, decode_awq},
}};

// Calls `use(part)` for pieces of at most `limit` elements, which together are the elements
// [first, first + count), in order: the rest of a row, whole rows, the beginning of a row.
template <class Use>
void for_each_part(const Stack& stack, std::uint64_t first, std::uint64_t count,
                   std::uint64_t limit, Use use) {
  const std::uint64_t end = first + count;
  while (first < end) {
    Part part;
    const std::uint64_t row = first / stack.columns;
    part.matrix = row / stack.rows;
    part.row = row % stack.rows;
    part.column = first % stack.columns;
    const std::uint64_t most = std::min(end - first, limit);
    if (part.column == 0 && most >= stack.columns) {
      part.rows = std::min(most / stack.columns, stack.rows - part.row);
      part.columns = stack.columns;
    } else {
      part.rows = 1;
      part.columns = std::min(most, stack.columns - part.column);
    }
    use(part);
    first += part.elements();
  }
}

// A run of elements whose codes are mapped part by part.
class MappedCodes final : public CodedElements {
 public:
  struct Mapped {
    std::uint64_t first = 0;  // element of the tensor
    std::uint64_t elements = 0;
    std::unique_ptr<Codes> codes;
  };
  // `parts` follow one another.
  MappedCodes(const Stack& stack, std::vector<Mapped> parts)
      : stack_(stack), parts_(std::move(parts)) {}

  void decode(std::uint64_t first, std::size_t count, float* to) const override {
    for (const Mapped& part : parts_) {
      const std::uint64_t begin = std::max(first, part.first);
      const std::uint64_t end = std::min(first + count, part.first + part.elements);
      if (begin >= end) continue;
      for_each_part(stack_, begin, end - begin, end - begin, [&](const Part& piece) {
        const auto elements = static_cast<std::size_t>(piece.elements());
        part.codes->decode(piece, Floats(std::as_writable_bytes(std::span(to, elements))));
        to += elements;
      });
    }
  }
  void require_intact() const override {
    for (const Mapped& part : parts_) part.codes->require_intact();
  }

 private:
  Stack stack_;
  std::vector<Mapped> parts_;
};

TensorInfo described(const DecodedTensor& tensor, Dtype nominal, const TensorReader& stored) {
  const auto elements = checked_product(tensor.shape);
  if (!elements || !checked_mul(*elements, sizeof(float))) {
    stored.fail(
        fmt::format("stands for one of shape {}, too large to count", shape_text(tensor.shape)));
  }
  return {tensor.name, Dtype::F32, tensor.shape, *elements, nominal};
}

}  // namespace

DequantisedSource::DequantisedSource(const TensorSource& stored, Decoding& decoding, Dtype nominal)
    : stored_(stored), format_(list_text({decoding.formats().begin(), decoding.formats().end()})) {
  struct Row {
    TensorInfo info;
    Origin origin;
  };
  std::vector<Row> rows;
  for (std::size_t i = 0; i < decoding.size(); ++i) {
    if (!decoding.is_taken(i)) rows.push_back({stored.tensors()[i], {i, nullptr}});
  }
  for (DecodedTensor& tensor : decoding.decoded()) {
    rows.push_back({described(tensor, nominal, decoding.tensor(tensor.stored)),
                    {tensor.stored, std::move(tensor.decoder)}});
  }
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return a.info.name < b.info.name; });
  for (Row& row : rows) {
    infos_.push_back(std::move(row.info));
    origins_.push_back(std::move(row.origin));
  }
}

void DequantisedSource::read(std::size_t tensor, std::uint64_t first,
                             std::span<std::byte> to) const {
  const Origin& origin = origins_.at(tensor);
  if (!origin.decoder) return stored_.read(origin.stored, first, to);
  const TensorInfo& info = infos_[tensor];
  const std::uint64_t count = to.size() / sizeof(float);
  if (to.size() % sizeof(float) != 0 || first > info.elements || count > info.elements - first) {
    throw Error(ErrorCode::Internal,
                fmt::format("{} bytes from element {} were asked for, the tensor has {} elements",
                            to.size(), first, info.elements),
                TensorPlace{info.name, first, file_of(tensor)});
  }
  const auto decode = [&](const Part& part) {
    const std::size_t bytes = static_cast<std::size_t>(part.elements()) * sizeof(float);
    origin.decoder->decode(part, Floats(to.first(bytes)));
    to = to.subspan(bytes);
  };
  for_each_part(stack_of(info.shape), first, count, Decoder::kMostElements, decode);
}

std::unique_ptr<FilePart> DequantisedSource::map(std::size_t tensor, std::uint64_t first,
                                                 std::uint64_t count) const {
  const Origin& origin = origins_.at(tensor);
  return origin.decoder ? nullptr : stored_.map(origin.stored, first, count);
}

std::unique_ptr<CodedElements> DequantisedSource::map_codes(std::size_t tensor, std::uint64_t first,
                                                            std::uint64_t count) const {
  const Origin& origin = origins_.at(tensor);
  if (!origin.decoder || count == 0) return nullptr;
  const Stack stack = stack_of(infos_[tensor].shape);
  std::vector<MappedCodes::Mapped> parts;
  for_each_part(stack, first, count, count, [&](const Part& part) {
    parts.push_back({part.first(stack), part.elements(), origin.decoder->map(part)});
  });
  const bool all = std::all_of(parts.begin(), parts.end(),
                               [](const auto& part) { return part.codes != nullptr; });
  return all ? std::make_unique<MappedCodes>(stack, std::move(parts)) : nullptr;
}

void DequantisedSource::will_need(std::size_t tensor, std::uint64_t first,
                                  std::uint64_t count) const {
  if (tensor >= infos_.size() || first >= infos_[tensor].elements) return;
  const Origin& origin = origins_[tensor];
  if (!origin.decoder) return stored_.will_need(origin.stored, first, count);
  const TensorInfo& info = infos_[tensor];
  for_each_part(stack_of(info.shape), first, std::min(count, info.elements - first),
                Decoder::kMostElements, [&](const Part& part) { origin.decoder->will_need(part); });
}

std::string DequantisedSource::file_of(std::size_t tensor) const {
  return tensor < origins_.size() ? stored_.file_of(origins_[tensor].stored) : std::string();
}

bool can_dequantise(const std::string& method) {
  return std::any_of(kFormats.begin(), kFormats.end(),
                     [&](const FormatRow& row) { return row.method == method; });
}

std::unique_ptr<DequantisedSource> dequantise(const TensorSource& stored,
                                              const std::optional<Quantisation>& how, Dtype nominal,
                                              const std::string& path) {
  Decoding decoding(stored, how ? &*how : nullptr, path);
  for (const FormatRow& row : kFormats) {
    if (how ? how->method == row.method : row.is_plain_to_see) row.decode(decoding);
  }
  if (decoding.decoded().empty()) {
    if (!how) return nullptr;
    throw Error(ErrorCode::Mismatch,
                fmt::format("`{}` should be quantised with {} ({}), but none of its tensors is",
                            path, how->method, how->evidence),
                FilePlace{how->file}, "remove that entry if the weights are plain numbers");
  }
  return std::make_unique<DequantisedSource>(stored, decoding, nominal);
}

}  // namespace thorns
