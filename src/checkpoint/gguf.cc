#include "checkpoint/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>

#include "base/text.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/gguf_tokenizer.h"
#include "checkpoint/self_described.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kRotaryFactors = "rope_freqs.weight";
constexpr std::uint64_t kMostExperts = 4096;

// How llama.cpp has reordered the rows of a q or k projection, for rotating neighbours instead of
// halves: within a head of D rows, row t D/2 + i went to row 2 i + t.
struct Heads {
  std::uint64_t rows = 0;  // of a head; 0: the rows are as they were

  std::uint64_t stored(std::uint64_t row) const {
    if (rows == 0) return row;
    const std::uint64_t within = row % rows;
    const std::uint64_t half = rows / 2;
    return row - within + 2 * (within % half) + within / half;
  }
};

struct Place {
  GgufTensor stored;
  std::size_t file = 0;
  const GgufType* type = nullptr;
  Heads heads;
  std::uint64_t first = 0;  // element of the stored tensor: where an expert's own begin
  float above = 0;          // what the stored numbers are greater by
};

class MappedBlocks final : public CodedElements {
 public:
  // Element `first` of the tensor is `skipped` elements behind the first of `blocks`.
  MappedBlocks(const GgufType& type, std::uint64_t first, std::uint64_t skipped,
               std::unique_ptr<FilePart> blocks)
      : type_(type), first_(first), skipped_(skipped), blocks_(std::move(blocks)) {}

  void decode(std::uint64_t first, std::size_t count, float* to) const override {
    const std::uint64_t at = first - first_ + skipped_;
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(blocks_->bytes().data());
    decode_blocks(type_, bytes + at / type_.elements * type_.bytes, at % type_.elements, count,
                  reinterpret_cast<std::byte*>(to));
  }
  void require_intact() const override { blocks_->require_intact(); }

 private:
  const GgufType& type_;
  std::uint64_t first_;
  std::uint64_t skipped_;
  std::unique_ptr<FilePart> blocks_;
};

class GgufCheckpoint final : public Checkpoint, public SelfDescribed {
 public:
  // `parts`: the model's files in order; `side` what the folder says of it.
  GgufCheckpoint(std::string path, std::vector<std::unique_ptr<ReadFile>> parts, GgufSide side)
      : path_(std::move(path)), files_(std::move(parts)), side_(std::move(side)) {
    header_ = read_gguf_header(*files_.front());
    for (const auto& file : files_) inputs_.push_back({file->path(), file->size()});
    const GgufModel model(*files_.front(), header_);
    if (files_.size() > 1) {
      check_part(model, header_, 0);
    } else if (model.number("split.count").value_or(1) > 1) {
      model.refuse("is one of several parts, and its name does not say which",
                   "name the parts as they were: NAME-00001-of-00002.gguf");
    }
    std::vector<Stored> stored;
    take_part(model, std::move(header_.tensors), 0, stored);
    for (std::size_t i = 1; i < files_.size(); ++i) {
      GgufHeader part = read_gguf_header(*files_[i]);
      check_part(model, part, i);
      take_part(model, std::move(part.tensors), i, stored);
    }
    place(model, std::move(stored));
    const auto embedding = find("model.embed_tokens.weight");
    if (!embedding || infos_[*embedding].shape.size() != 2) {
      model.fail("it has no matrix `token_embd.weight`");
    }
    if (!side_.config.is_null()) return;
    makes_config_ = true;
    GgufModel::Facts facts;
    facts.vocabulary = infos_[*embedding].shape[0];
    facts.ties = !find("lm_head.weight");
    facts.has_bias = find("model.layers.0.self_attn.q_proj.bias").has_value();
    facts.dtype = infos_[*embedding].nominal.value_or(infos_[*embedding].dtype);
    facts.rotary_factors = rotary_factors_;
    side_.config = model.config(facts);
  }

  const std::string& path() const override { return path_; }
  const std::vector<InputFile>& files() const override { return inputs_; }
  const Json& config() const override { return side_.config; }
  bool makes_config() const override { return makes_config_; }
  const std::optional<std::string>& generation_config() const override {
    return side_.generation_config;
  }
  const std::vector<std::string>& tokenizer_files() const override { return side_.tokenizer; }
  bool holds_tokenizer() const override {
    return side_.tokenizer.empty() && header_.arrays.contains("tokenizer.ggml.tokens");
  }
  std::string why_no_tokenizer() const override { return thorns::why_no_tokenizer(header_); }
  std::vector<MadeFile> made_tokenizer() const override {
    if (!holds_tokenizer() || !why_no_tokenizer().empty()) return {};
    return make_tokenizer(*files_.front(), header_);
  }
  std::string quantisation() const override {
    if (formats_.empty()) return {};
    return fmt::format(
        "GGUF {} ({:.1f} bits a weight)", list_text({formats_.begin(), formats_.end()}),
        8.0 * static_cast<double>(block_bytes_) / static_cast<double>(block_elements_));
  }

  StoredAs stored_as(std::size_t tensor) const override {
    const Place& place = places_[tensor];
    return {place.type->name, place.stored.bytes};
  }

  std::span<const TensorInfo> tensors() const override { return infos_; }
  std::string file_of(std::size_t tensor) const override {
    return tensor < places_.size() ? files_[places_[tensor].file]->path() : std::string();
  }

  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override {
    const TensorInfo& info = infos_.at(tensor);
    const std::uint64_t size = size_of(info.dtype);
    const std::uint64_t count = to.size() / size;
    if (to.size() % size != 0 || first > info.elements || count > info.elements - first) {
      throw Error(ErrorCode::Internal,
                  fmt::format("{} bytes from element {} were asked for, the tensor has {} elements",
                              to.size(), first, info.elements),
                  TensorPlace{info.name, first, file_of(tensor)});
    }
    const std::span<std::byte> whole = to;
    for_each_run(tensor, first, count, [&](std::uint64_t stored, std::uint64_t run) {
      read_run(places_[tensor], stored, to.first(static_cast<std::size_t>(run * size)));
      to = to.subspan(static_cast<std::size_t>(run * size));
    });
    if (places_[tensor].above != 0) lower(whole, places_[tensor].above);
  }

  std::unique_ptr<FilePart> map(std::size_t tensor, std::uint64_t first,
                                std::uint64_t count) const override {
    const Place& place = places_.at(tensor);
    const std::uint64_t size = place.type->bytes;
    const std::uint64_t offset = place.stored.offset + (place.first + first) * size;
    if (!place.type->plain || !lies_as_it_is(place) || offset % size != 0) return nullptr;
    return files_[place.file]->map(offset, static_cast<std::size_t>(count * size));
  }

  std::unique_ptr<CodedElements> map_codes(std::size_t tensor, std::uint64_t first,
                                           std::uint64_t count) const override {
    const Place& place = places_.at(tensor);
    const GgufType& type = *place.type;
    if (type.plain || !lies_as_it_is(place) || count == 0) return nullptr;
    const std::uint64_t stored = place.first + first;
    const std::uint64_t block = stored / type.elements;
    const std::uint64_t blocks = (stored + count - 1) / type.elements + 1 - block;
    auto bytes = files_[place.file]->map(place.stored.offset + block * type.bytes,
                                         static_cast<std::size_t>(blocks * type.bytes));
    if (bytes == nullptr) return nullptr;
    return std::make_unique<MappedBlocks>(type, first, stored % type.elements, std::move(bytes));
  }

  void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const override {
    if (tensor >= infos_.size() || first >= infos_[tensor].elements || count == 0) return;
    const Place& place = places_[tensor];
    // Rows move within their head only.
    const std::uint64_t grain =
        std::max<std::uint64_t>(place.heads.rows * row_length(tensor), place.type->elements);
    const std::uint64_t begin = first / grain * grain;
    const std::uint64_t last = first + std::min(count, infos_[tensor].elements - first) - 1;
    const std::uint64_t end = std::min(infos_[tensor].elements, (last / grain + 1) * grain);
    const std::uint64_t stored = (place.first + begin) / place.type->elements * place.type->bytes;
    files_[place.file]->will_need(place.stored.offset + stored,
                                  (end - begin) / place.type->elements * place.type->bytes);
  }

 private:
  struct Stored {
    TransformersName name;
    GgufTensor tensor;
    std::size_t file = 0;
  };

  void check_part(const GgufModel& model, const GgufHeader& part, std::size_t number) const {
    const auto field = [&](const char* name) -> std::uint64_t {
      const auto found = part.fields.find(name);
      const bool counts = found != part.fields.end() && found->second.is_number_integer() &&
                          found->second.get<std::int64_t>() >= 0;
      return counts ? found->second.get<std::uint64_t>() : 0;
    };
    if (field("split.no") == number && field("split.count") == files_.size()) return;
    model.fail(fmt::format("its part {} says that it is number {} of {}", number + 1,
                           field("split.no") + 1, field("split.count")));
  }

  void take_part(const GgufModel& model, std::vector<GgufTensor> tensors, std::size_t file,
                 std::vector<Stored>& stored) {
    std::vector<std::string> unknown;
    for (GgufTensor& tensor : tensors) {
      if (const GgufType& type = *find_gguf_type(tensor.type); !type.is_read()) {
        model.refuse(fmt::format("holds `{}` in {}, which is not read", tensor.name, type.name),
                     "F32, F16, BF16, F64, Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL and IQ4_XS are read");
      }
      if (tensor.name == kRotaryFactors) {
        read_rotary_factors(model, tensor, file);
        continue;
      }
      auto name = transformers_name(model.family(), tensor.name);
      if (!name) {
        unknown.push_back(is_utf8(tensor.name) ? tensor.name : "?");
        continue;
      }
      stored.push_back({std::move(*name), std::move(tensor), file});
    }
    if (unknown.empty()) return;
    model.refuse(fmt::format("holds tensors that have no place in a model of the architecture {}: "
                             "{}",
                             model.family().ggml, list_text(unknown, 12)),
                 "convert the model to safetensors");
  }

  void read_rotary_factors(const GgufModel& model, const GgufTensor& tensor, std::size_t file) {
    constexpr std::uint64_t kMostFactors = 4096;
    if (find_gguf_type(tensor.type)->plain != Dtype::F32 || tensor.shape.size() != 1 ||
        tensor.elements > kMostFactors) {
      model.fail(fmt::format("its `{}` is no short vector of float32", kRotaryFactors));
    }
    rotary_factors_.resize(static_cast<std::size_t>(tensor.elements));
    files_[file]->read(tensor.offset, std::as_writable_bytes(std::span(rotary_factors_)));
  }

  void place(const GgufModel& model, std::vector<Stored> stored) {
    Dtype plain = Dtype::F32;  // of the matrices, where all are stored as plain numbers
    for (const Stored& one : stored) {
      const GgufType& type = *find_gguf_type(one.tensor.type);
      if (!type.plain) {
        formats_.insert(type.name);
        block_bytes_ += one.tensor.bytes;
        block_elements_ += one.tensor.elements;
      } else if (one.tensor.shape.size() > 1 && *type.plain != Dtype::F32) {
        plain = *type.plain;
      }
    }
    const Dtype nominal = formats_.empty() ? plain : Dtype::BF16;
    std::map<std::string, std::pair<TensorInfo, Place>> by_name;
    for (Stored& one : stored) {
      const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape,
                           std::uint64_t expert) {
        const GgufType& type = *find_gguf_type(one.tensor.type);
        std::uint64_t elements = 1;
        for (const std::uint64_t extent : shape) elements *= extent;
        TensorInfo info{name, type.plain.value_or(Dtype::F32), std::move(shape), elements};
        // Vectors are stored as float32 whatever they were before.
        const bool widened = info.dtype == Dtype::F32 && one.tensor.shape.size() == 1;
        if ((!type.plain || widened) && nominal != Dtype::F32) info.nominal = nominal;
        Place place{one.tensor, one.file, &type, heads_of(model, name, info.shape)};
        place.first = expert * elements;
        if (model.family().norms_from_one && name.ends_with("norm.weight")) place.above = 1;
        if ((place.heads.rows != 0 || place.above != 0) && info.shape.size() == 1 &&
            info.dtype != Dtype::F32) {
          model.fail(fmt::format("its vector `{}` is not stored in float32", one.tensor.name));
        }
        if (!by_name.emplace(name, std::pair(std::move(info), std::move(place))).second) {
          model.fail(fmt::format("it holds `{}` twice", name));
        }
      };
      const std::vector<std::uint64_t>& shape = one.tensor.shape;
      if (!one.name.stacked()) {
        const bool row =
            one.name.before.ends_with("shared_expert_gate.weight") && shape.size() == 1;
        add(one.name.before, row ? std::vector<std::uint64_t>{1, shape[0]} : shape, 0);
        continue;
      }
      if (shape.size() != 3 || shape[0] != model.need("expert_count") || shape[0] > kMostExperts) {
        model.fail(fmt::format("its `{}` is no stack of as many matrices as it has experts",
                               one.tensor.name));
      }
      for (std::uint64_t expert = 0; expert < shape[0]; ++expert) {
        add(fmt::format("{}{}{}", one.name.before, expert, one.name.after), {shape[1], shape[2]},
            expert);
      }
    }
    for (auto& [name, both] : by_name) {
      infos_.push_back(std::move(both.first));
      places_.push_back(std::move(both.second));
    }
  }

  static Heads heads_of(const GgufModel& model, const std::string& name,
                        const std::vector<std::uint64_t>& shape) {
    const bool query = name.find(".self_attn.q_proj.") != std::string::npos;
    if (!model.family().rotates_neighbours ||
        (!query && name.find(".self_attn.k_proj.") == std::string::npos)) {
      return {};
    }
    const std::uint64_t heads =
        query ? model.need("attention.head_count") : model.key_value_heads();
    if (shape.empty() || shape.size() > 2 || shape[0] % heads != 0 || shape[0] / heads % 2 != 0) {
      model.fail(fmt::format("`{}` of shape {} does not divide into {} heads", name,
                             shape_text(shape), heads));
    }
    return {shape[0] / heads};
  }

  static bool lies_as_it_is(const Place& place) {
    return place.heads.rows == 0 && place.above == 0;
  }

  // Of float32 numbers.
  static void lower(std::span<std::byte> numbers, float by) {
    for (std::size_t at = 0; at < numbers.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, numbers.data() + at, sizeof value);
      value -= by;
      std::memcpy(numbers.data() + at, &value, sizeof value);
    }
  }

  // Elements that move together where rows are reordered.
  std::uint64_t row_length(std::size_t tensor) const {
    return infos_[tensor].shape.size() == 2 ? infos_[tensor].shape[1] : 1;
  }

  // Calls `use(first, count)` for runs of stored elements that follow one another in the tensor.
  template <class Use>
  void for_each_run(std::size_t tensor, std::uint64_t first, std::uint64_t count, Use use) const {
    const Heads& heads = places_[tensor].heads;
    if (heads.rows == 0) {
      if (count != 0) use(places_[tensor].first + first, count);
      return;
    }
    const std::uint64_t length = row_length(tensor);
    while (count != 0) {
      const std::uint64_t column = first % length;
      const std::uint64_t run = std::min(count, length - column);
      use(heads.stored(first / length) * length + column, run);
      first += run;
      count -= run;
    }
  }

  void read_run(const Place& place, std::uint64_t first, std::span<std::byte> to) const {
    const ReadFile& file = *files_[place.file];
    const GgufType& type = *place.type;
    if (type.plain) return file.read(place.stored.offset + first * type.bytes, to);
    read_blocks(file, place.stored.offset, type, first, to);
  }

  std::string path_;
  std::vector<std::unique_ptr<ReadFile>> files_;
  std::vector<InputFile> inputs_;
  GgufSide side_;
  bool makes_config_ = false;
  GgufHeader header_;                  // of the first part, without its tensors
  std::vector<float> rotary_factors_;  // of Llama 3.1
  std::set<std::string> formats_;      // of blocks, whose bytes and elements are:
  std::uint64_t block_bytes_ = 0;
  std::uint64_t block_elements_ = 0;
  std::vector<TensorInfo> infos_;  // sorted by name
  std::vector<Place> places_;      // parallel to infos_
};

// "model-00002-of-00003.gguf": what stands before the number of the part, and how many there are.
struct PartName {
  std::string stem;
  std::uint64_t count = 1;
};
std::optional<PartName> part_name(const std::string& path) {
  constexpr std::string_view kPattern = "-00001-of-00003.gguf";
  if (path.size() < kPattern.size()) return std::nullopt;
  const std::string end = path.substr(path.size() - kPattern.size());
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < kPattern.size(); ++i) {
    const bool digit = end[i] >= '0' && end[i] <= '9';
    const bool wanted = kPattern[i] >= '0' && kPattern[i] <= '9';
    if (wanted ? !digit : end[i] != kPattern[i]) return std::nullopt;
    if (wanted && i > end.find("-of-"))
      count = count * 10 + static_cast<std::uint64_t>(end[i] - '0');
  }
  return PartName{path.substr(0, path.size() - kPattern.size()), count};
}

}  // namespace

std::vector<std::string> gguf_parts(const std::string& path) {
  const auto part = part_name(path);
  if (!part || part->count == 0) return {path};
  std::vector<std::string> paths;
  for (std::uint64_t i = 1; i <= part->count; ++i)
    paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", part->stem, i, part->count));
  return paths;
}

std::string gguf_model_name(const std::string& file_name) {
  constexpr std::string_view kEnding = ".gguf";
  if (!file_name.ends_with(kEnding) || gguf_parts(file_name).front() != file_name) return {};
  const auto part = part_name(file_name);
  return part ? part->stem : file_name.substr(0, file_name.size() - kEnding.size());
}

std::unique_ptr<Checkpoint> open_gguf(Disk& disk, const std::string& path,
                                      const std::string& weights, GgufSide side) {
  std::vector<std::unique_ptr<ReadFile>> parts;
  std::vector<std::string> missing;
  for (const std::string& part : gguf_parts(weights)) {
    if (!disk.exists(part)) {
      missing.push_back(base_name(part));
    } else {
      parts.push_back(disk.open(part));
    }
  }
  if (!missing.empty()) {
    throw Error(ErrorCode::NotFound,
                fmt::format("parts of `{}` are missing: {}", weights, list_text(missing)),
                FilePlace{weights}, "fetch the missing files");
  }
  return std::make_unique<GgufCheckpoint>(path, std::move(parts), std::move(side));
}

}  // namespace thorns
