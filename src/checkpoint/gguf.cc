#include "checkpoint/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "base/checked.h"
#include "base/text.h"
#include "checkpoint/gguf_blocks.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kLongestName = 65'535;      // of a field
constexpr std::uint64_t kLongestTensorName = 1024;  // ggml itself allows 63
constexpr std::uint64_t kLongestText = 4096;        // that is kept
constexpr std::uint32_t kMostGgmlDimensions = 4;
constexpr std::uint64_t kSmallestField = 8 + 4 + 1;
constexpr std::uint64_t kSmallestTensor = 8 + 4 + 4 + 8;

// The numbers of the types of fields.
enum Kind : std::uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64 };
constexpr std::array<std::uint64_t, 13> kKindBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Reads a header from its start to its end through a small window.
class Cursor {
 public:
  explicit Cursor(const ReadFile& file) : file_(file) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return file_.size() - at_; }

  [[noreturn]] void fail(const std::string& what) const { fail_at(at_, what); }
  [[noreturn]] void fail_at(std::uint64_t offset, const std::string& what) const {
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` is no sound GGUF file: {}", file_.path(), what),
                FilePlace{file_.path(), std::min(offset, file_.size())},
                "the file may be damaged; fetch it again");
  }

  void skip(std::uint64_t bytes) {
    if (bytes > left()) {
      fail(fmt::format("{} bytes should follow, {} are left", bytes, left()));
    }
    at_ += bytes;
  }
  template <class T>
  T number() {
    std::array<std::byte, sizeof(T)> bytes{};
    copy(bytes);
    return std::bit_cast<T>(bytes);
  }
  std::string text(std::uint64_t most, const char* what) {
    const auto length = number<std::uint64_t>();
    if (length > most || length > left()) {
      fail(fmt::format("{} has {} bytes, at most {} can be", what, length, std::min(most, left())));
    }
    std::string text(static_cast<std::size_t>(length), '\0');
    copy(std::as_writable_bytes(std::span(text)));
    return text;
  }

 private:
  void copy(std::span<std::byte> to) {
    const std::uint64_t begin = at_;
    skip(to.size());
    if (to.size() > window_.size()) return file_.read(begin, to);
    if (begin < window_begin_ || begin + to.size() > window_begin_ + held_) {
      window_begin_ = begin;
      held_ = std::min<std::uint64_t>(window_.size(), file_.size() - begin);
      file_.read(begin, std::span(window_).first(static_cast<std::size_t>(held_)));
    }
    if (!to.empty()) std::memcpy(to.data(), window_.data() + (begin - window_begin_), to.size());
  }

  const ReadFile& file_;
  std::uint64_t at_ = 0;
  std::vector<std::byte> window_ = std::vector<std::byte>(1 << 16);
  std::uint64_t window_begin_ = 0;
  std::uint64_t held_ = 0;
};

Json read_scalar(Cursor& cursor, std::uint32_t kind) {
  switch (kind) {
    case U8:
      return cursor.number<std::uint8_t>();
    case I8:
      return cursor.number<std::int8_t>();
    case U16:
      return cursor.number<std::uint16_t>();
    case I16:
      return cursor.number<std::int16_t>();
    case U32:
      return cursor.number<std::uint32_t>();
    case I32:
      return cursor.number<std::int32_t>();
    case F32:
      return cursor.number<float>();
    case Bool:
      return cursor.number<std::uint8_t>() != 0;
    case U64:
      return cursor.number<std::uint64_t>();
    case I64:
      return cursor.number<std::int64_t>();
    default:
      return cursor.number<double>();
  }
}

std::uint64_t skip_array(Cursor& cursor, const std::string& name) {
  const auto kind = cursor.number<std::uint32_t>();
  const auto count = cursor.number<std::uint64_t>();
  if (kind > F64 || kind == Array) {
    cursor.fail(fmt::format("field `{}` is an array of elements of type {}", name, kind));
  }
  if (kind == Text) {
    for (std::uint64_t i = 0; i < count; ++i) cursor.skip(cursor.number<std::uint64_t>());
    return count;
  }
  const auto bytes = checked_mul(count, kKindBytes[kind]);
  if (!bytes) cursor.fail(fmt::format("field `{}` has {} elements", name, count));
  cursor.skip(*bytes);
  return count;
}

void read_field(Cursor& cursor, GgufHeader& header) {
  const std::uint64_t begin = cursor.at();
  const std::string name = cursor.text(kLongestName, "the name of a field");
  if (header.fields.count(name) + header.arrays.count(name) != 0) {
    cursor.fail_at(begin, fmt::format("field `{}` is there twice", name));
  }
  const auto kind = cursor.number<std::uint32_t>();
  if (kind > F64) cursor.fail(fmt::format("field `{}` has the unknown type {}", name, kind));
  if (kind == Array) {
    header.arrays[name] = skip_array(cursor, name);
  } else if (kind == Text) {
    Cursor look = cursor;
    const auto length = look.number<std::uint64_t>();
    if (length <= kLongestText) {
      header.fields[name] = cursor.text(kLongestText, "a text");
    } else {
      cursor.skip(sizeof(std::uint64_t));
      cursor.skip(length);
      header.fields[name] = nullptr;
    }
  } else {
    header.fields[name] = read_scalar(cursor, kind);
  }
}

GgufTensor read_tensor_info(Cursor& cursor) {
  GgufTensor tensor;
  tensor.name = cursor.text(kLongestTensorName, "the name of a tensor");
  const auto dimensions = cursor.number<std::uint32_t>();
  if (dimensions > kMostGgmlDimensions) {
    cursor.fail(fmt::format("tensor `{}` has {} dimensions", tensor.name, dimensions));
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    tensor.shape.insert(tensor.shape.begin(), cursor.number<std::uint64_t>());
  }
  tensor.type = cursor.number<std::uint32_t>();
  tensor.offset = cursor.number<std::uint64_t>();
  const auto elements = checked_product(tensor.shape);
  if (!elements || *elements == 0 || *elements > std::numeric_limits<std::uint64_t>::max() / 8) {
    cursor.fail(fmt::format("tensor `{}` has the shape {}", tensor.name, shape_text(tensor.shape)));
  }
  tensor.elements = *elements;
  return tensor;
}

// Fills in offset and bytes of a tensor whose offset in the data should be `expected`.
void place(Cursor& cursor, const ReadFile& file, GgufTensor& tensor, std::uint64_t expected,
           std::uint64_t data_begin) {
  const GgufType* type = find_gguf_type(tensor.type);
  if (type == nullptr) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("tensor `{}` of `{}` has ggml's type {}, which is not read",
                            tensor.name, file.path(), tensor.type),
                FilePlace{file.path()},
                "F32, F16, BF16, F64, Q4_0 to Q8_0 and Q2_K to Q6_K are read");
  }
  const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % type->elements != 0) {
    cursor.fail(fmt::format("tensor `{}` has rows of {} elements and blocks of {}", tensor.name,
                            row, type->elements));
  }
  const auto bytes = checked_mul(tensor.elements / type->elements, type->bytes);
  if (!bytes || data_begin > file.size() || expected > file.size() - data_begin ||
      *bytes > file.size() - data_begin - expected) {
    cursor.fail(fmt::format("tensor `{}` reaches beyond the end of the file", tensor.name));
  }
  if (tensor.offset != expected) {
    cursor.fail(fmt::format("tensor `{}` begins at byte {} of the data instead of {}", tensor.name,
                            tensor.offset, expected));
  }
  tensor.offset += data_begin;
  tensor.bytes = *bytes;
}

// ---------------------------------------------------------------- from ggml's names to
// transformers'

struct NamePair {
  std::string_view ggml;
  std::string_view transformers;
};
constexpr std::array<NamePair, 3> kOutside = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};
constexpr std::array<NamePair, 9> kInLayer = {{{"attn_norm", "input_layernorm"},
                                               {"attn_q", "self_attn.q_proj"},
                                               {"attn_k", "self_attn.k_proj"},
                                               {"attn_v", "self_attn.v_proj"},
                                               {"attn_output", "self_attn.o_proj"},
                                               {"ffn_norm", "post_attention_layernorm"},
                                               {"ffn_gate", "mlp.gate_proj"},
                                               {"ffn_up", "mlp.up_proj"},
                                               {"ffn_down", "mlp.down_proj"}}};

// What the metadata says of a model, asked for by name.
class Model {
 public:
  Model(const GgufHeader& header, std::string path) : header_(header), path_(std::move(path)) {
    architecture_ = text("general.architecture");
    const std::string type = text("general.type");
    if (type == "adapter") {
      refuse("is an adapter, not a model", "an adapter is folded into a model: Model[Adapter]");
    }
    if (architecture_ != "llama" && architecture_ != "qwen2") {
      refuse(fmt::format("is of the architecture `{}`; llama (and mistral) and qwen2 are read",
                         architecture_),
             "convert the model to safetensors");
    }
    if (number("split.count").value_or(1) > 1) {
      refuse("is one of several parts, which are not read",
             "join them with llama-gguf-split --merge");
    }
    const std::string scaling = text(architecture_ + ".rope.scaling.type");
    if (!scaling.empty() && scaling != "none" && scaling != "linear") {
      refuse(fmt::format("scales its rotary embedding in the way `{}`", scaling),
             "convert the model to safetensors");
    }
  }

  const std::string& architecture() const { return architecture_; }
  bool permutes() const { return architecture_ == "llama"; }

  [[noreturn]] void refuse(const std::string& what, const std::string& hint) const {
    throw Error(ErrorCode::Unsupported, fmt::format("`{}` {}", path_, what), FilePlace{path_},
                hint);
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` is no sound GGUF file: {}", path_, what),
                FilePlace{path_});
  }

  std::string text(const std::string& name) const {
    const auto found = header_.fields.find(name);
    if (found == header_.fields.end() || !found->second.is_string()) return {};
    const auto text = found->second.get<std::string>();
    return is_utf8(text) ? text : std::string("?");
  }
  std::optional<std::uint64_t> number(const std::string& name) const {
    const auto found = header_.fields.find(name);
    if (found == header_.fields.end() || !found->second.is_number_integer()) return std::nullopt;
    if (found->second.is_number_unsigned()) return found->second.get<std::uint64_t>();
    const auto value = found->second.get<std::int64_t>();
    if (value < 0) return std::nullopt;
    return static_cast<std::uint64_t>(value);
  }
  std::uint64_t need(const std::string& name) const {
    const std::string full = architecture_ + "." + name;
    if (header_.arrays.contains(full)) {
      refuse(fmt::format("has a `{}` for each layer, which is not read", full),
             "convert the model to safetensors");
    }
    const auto value = number(full);
    if (!value || *value == 0) fail(fmt::format("its metadata has no `{}`", full));
    return *value;
  }
  std::uint64_t key_value_heads() const {
    const bool there = number(architecture_ + ".attention.head_count_kv").has_value() ||
                       header_.arrays.contains(architecture_ + ".attention.head_count_kv");
    return need(there ? "attention.head_count_kv" : "attention.head_count");
  }

  Json config(std::uint64_t vocabulary, bool ties, bool has_bias, Dtype dtype) const {
    const bool llama = architecture_ == "llama";
    Json config;
    config["architectures"] = {llama ? "LlamaForCausalLM" : "Qwen2ForCausalLM"};
    config["model_type"] = architecture_;
    config["hidden_size"] = need("embedding_length");
    config["intermediate_size"] = need("feed_forward_length");
    config["num_hidden_layers"] = need("block_count");
    config["num_attention_heads"] = need("attention.head_count");
    config["num_key_value_heads"] = key_value_heads();
    if (llama) {
      if (const auto length = number("llama.attention.key_length")) config["head_dim"] = *length;
      config["attention_bias"] = has_bias;
    }
    config["max_position_embeddings"] = need("context_length");
    config["rms_norm_eps"] = real("attention.layer_norm_rms_epsilon").value_or(1e-6);
    config["rope_theta"] = real("rope.freq_base").value_or(10000.0);
    if (text(architecture_ + ".rope.scaling.type") == "linear") {
      config["rope_scaling"] = {{"rope_type", "linear"},
                                {"type", "linear"},
                                {"factor", real("rope.scaling.factor").value_or(1.0)}};
    }
    config["hidden_act"] = "silu";
    config["vocab_size"] = vocabulary;
    config["tie_word_embeddings"] = ties;
    for (const char* name : {"bos_token_id", "eos_token_id"}) {
      if (const auto id = number(fmt::format("tokenizer.ggml.{}", name))) config[name] = *id;
    }
    config["torch_dtype"] = torch_name(dtype);
    return config;
  }

 private:
  // A float32 as the shortest decimal number that means it, so that 1e-5 is not 9.99999975e-06.
  std::optional<double> real(const std::string& name) const {
    const auto found = header_.fields.find(architecture_ + "." + name);
    if (found == header_.fields.end() || !found->second.is_number()) return std::nullopt;
    const auto value = found->second.get<float>();
    if (!std::isfinite(value)) fail(fmt::format("its `{}` is no number", found->first));
    return std::stod(fmt::format("{}", value));
  }

  const GgufHeader& header_;
  std::string path_;
  std::string architecture_;
};

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
  const GgufType* type = nullptr;
  Heads heads;
};

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::unique_ptr<ReadFile> file) : file_(std::move(file)) {
    GgufHeader header = read_gguf_header(*file_);
    files_.push_back({file_->path(), file_->size()});
    const Model model(header, file_->path());
    take_tensors(model, std::move(header.tensors));
    const auto embedding = find("model.embed_tokens.weight");
    if (!embedding || infos_[*embedding].shape.size() != 2) {
      model.fail("it has no matrix `token_embd.weight`");
    }
    config_ = model.config(infos_[*embedding].shape[0], !find("lm_head.weight"),
                           find("model.layers.0.self_attn.q_proj.bias").has_value(),
                           infos_[*embedding].nominal.value_or(infos_[*embedding].dtype));
  }

  const std::string& path() const override { return file_->path(); }
  const std::vector<InputFile>& files() const override { return files_; }
  const Json& config() const override { return config_; }
  const std::optional<std::string>& generation_config() const override { return generation_; }
  const std::vector<std::string>& tokenizer_files() const override { return tokenizer_; }
  std::string quantisation() const override {
    return list_text({formats_.begin(), formats_.end()});
  }

  std::span<const TensorInfo> tensors() const override { return infos_; }
  std::string file_of(std::size_t) const override { return file_->path(); }

  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override {
    const TensorInfo& info = infos_.at(tensor);
    const std::uint64_t size = size_of(info.dtype);
    const std::uint64_t count = to.size() / size;
    if (to.size() % size != 0 || first > info.elements || count > info.elements - first) {
      throw Error(ErrorCode::Internal,
                  fmt::format("{} bytes from element {} were asked for, the tensor has {} elements",
                              to.size(), first, info.elements),
                  TensorPlace{info.name, first, file_->path()});
    }
    for_each_run(tensor, first, count, [&](std::uint64_t stored, std::uint64_t run) {
      read_run(places_[tensor], stored, run, to.first(static_cast<std::size_t>(run * size)));
      to = to.subspan(static_cast<std::size_t>(run * size));
    });
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
    file_->will_need(place.stored.offset + begin / place.type->elements * place.type->bytes,
                     (end - begin) / place.type->elements * place.type->bytes);
  }

 private:
  void take_tensors(const Model& model, std::vector<GgufTensor> tensors) {
    std::vector<std::string> unknown;
    std::vector<std::pair<std::string, GgufTensor>> rows;
    Dtype plain = Dtype::F32;  // of the matrices, where all are stored as plain numbers
    for (GgufTensor& tensor : tensors) {
      std::string name = transformers_name(tensor.name);
      if (name.empty()) unknown.push_back(is_utf8(tensor.name) ? tensor.name : "?");
      const GgufType& type = *find_gguf_type(tensor.type);
      if (!type.plain) {
        formats_.insert(std::string("GGUF ") + type.name);
      } else if (tensor.shape.size() > 1 && *type.plain != Dtype::F32) {
        plain = *type.plain;
      }
      rows.emplace_back(std::move(name), std::move(tensor));
    }
    if (!unknown.empty()) {
      model.refuse(
          fmt::format("holds tensors that have no place in a model of the architecture {}: "
                      "{}",
                      model.architecture(), list_text(unknown, 12)),
          "convert the model to safetensors");
    }
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    const Dtype nominal = formats_.empty() ? plain : Dtype::BF16;
    for (auto& [name, tensor] : rows) {
      const GgufType& type = *find_gguf_type(tensor.type);
      TensorInfo info{name, type.plain.value_or(Dtype::F32), tensor.shape, tensor.elements};
      // Vectors are stored as float32 whatever they were before.
      const bool widened = info.dtype == Dtype::F32 && tensor.shape.size() == 1;
      if ((!type.plain || widened) && nominal != Dtype::F32) info.nominal = nominal;
      Place place{std::move(tensor), &type, heads_of(model, name, info.shape)};
      if (place.heads.rows != 0 && info.shape.size() == 1 && !type.plain) {
        model.fail(fmt::format("its vector `{}` is stored in blocks", place.stored.name));
      }
      infos_.push_back(std::move(info));
      places_.push_back(std::move(place));
    }
  }

  static Heads heads_of(const Model& model, const std::string& name,
                        const std::vector<std::uint64_t>& shape) {
    const bool query = name.find(".self_attn.q_proj.") != std::string::npos;
    if (!model.permutes() || (!query && name.find(".self_attn.k_proj.") == std::string::npos)) {
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

  // Elements that move together where rows are reordered.
  std::uint64_t row_length(std::size_t tensor) const {
    return infos_[tensor].shape.size() == 2 ? infos_[tensor].shape[1] : 1;
  }

  // Calls `use(first, count)` for runs of stored elements that follow one another in the tensor.
  template <class Use>
  void for_each_run(std::size_t tensor, std::uint64_t first, std::uint64_t count, Use use) const {
    const Heads& heads = places_[tensor].heads;
    if (heads.rows == 0) {
      if (count != 0) use(first, count);
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

  void read_run(const Place& place, std::uint64_t first, std::uint64_t count,
                std::span<std::byte> to) const {
    const GgufType& type = *place.type;
    if (type.plain) return file_->read(place.stored.offset + first * type.bytes, to);
    constexpr std::uint64_t kMostBlocks = 2048;  // read at once: about 430 kB at the most
    std::vector<std::uint8_t> bytes;
    std::array<float, 256> values{};
    while (count != 0) {
      const std::uint64_t block = first / type.elements;
      const std::uint64_t end = (first + count - 1) / type.elements + 1;
      const std::uint64_t blocks = std::min(end - block, kMostBlocks);
      bytes.resize(static_cast<std::size_t>(blocks * type.bytes));
      file_->read(place.stored.offset + block * type.bytes,
                  std::as_writable_bytes(std::span(bytes)));
      for (std::uint64_t i = 0; i < blocks; ++i) {
        type.decode(bytes.data() + i * type.bytes, values.data());
        const auto skipped = static_cast<std::size_t>(first % type.elements);
        const auto taken =
            static_cast<std::size_t>(std::min<std::uint64_t>(type.elements - skipped, count));
        std::memcpy(to.data(), values.data() + skipped, taken * sizeof(float));
        to = to.subspan(taken * sizeof(float));
        first += taken;
        count -= taken;
      }
    }
  }

  std::unique_ptr<ReadFile> file_;
  std::vector<InputFile> files_;
  Json config_;
  std::optional<std::string> generation_;
  std::vector<std::string> tokenizer_;
  std::set<std::string> formats_;  // of blocks
  std::vector<TensorInfo> infos_;  // sorted by name
  std::vector<Place> places_;      // parallel to infos_
};

}  // namespace

std::string transformers_name(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view ending = name.substr(dot);
  if (ending != ".weight" && ending != ".bias") return {};
  name = name.substr(0, dot);
  for (const auto& [ggml, transformers] : kOutside) {
    if (name == ggml) return fmt::format("{}{}", transformers, ending);
  }
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return {};
  name.remove_prefix(kBlock.size());
  const std::string_view layer = name.substr(0, name.find('.'));
  const bool counts = !layer.empty() && layer.size() <= 6 && (layer == "0" || layer[0] != '0') &&
                      layer.find_first_not_of("0123456789") == std::string_view::npos;
  if (!counts || layer.size() == name.size()) return {};
  name.remove_prefix(layer.size() + 1);
  for (const auto& [ggml, transformers] : kInLayer) {
    if (name == ggml) return fmt::format("model.layers.{}.{}{}", layer, transformers, ending);
  }
  return {};
}

bool is_gguf(std::string_view start) { return start.starts_with(kMagic); }

GgufHeader read_gguf_header(const ReadFile& file) {
  Cursor cursor(file);
  if (file.size() < kMagic.size()) cursor.fail("it is too short");
  const auto magic = cursor.number<std::array<char, 4>>();
  if (!is_gguf(std::string_view(magic.data(), magic.size()))) {
    cursor.fail_at(0, "it does not begin with `GGUF`");
  }
  const auto version = cursor.number<std::uint32_t>();
  if (version != 2 && version != 3) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("`{}` has {}", file.path(),
                            (version & 0xFFFF) == 0
                                ? std::string("the byte order of another machine")
                                : fmt::format("version {} of the GGUF format", version)),
                FilePlace{file.path(), kMagic.size()}, "versions 2 and 3, little endian, are read");
  }
  const auto tensors = cursor.number<std::uint64_t>();
  const auto fields = cursor.number<std::uint64_t>();
  if (fields > cursor.left() / kSmallestField) cursor.fail(fmt::format("it has {} fields", fields));
  GgufHeader header;
  for (std::uint64_t i = 0; i < fields; ++i) read_field(cursor, header);

  if (tensors > cursor.left() / kSmallestTensor) {
    cursor.fail(fmt::format("it has {} tensors", tensors));
  }
  std::set<std::string> names;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::uint64_t begin = cursor.at();
    header.tensors.push_back(read_tensor_info(cursor));
    if (!names.insert(header.tensors.back().name).second) {
      cursor.fail_at(begin, fmt::format("tensor `{}` is there twice", header.tensors.back().name));
    }
  }
  std::uint64_t alignment = 32;
  if (const auto found = header.fields.find("general.alignment"); found != header.fields.end()) {
    if (!found->second.is_number_unsigned()) cursor.fail("its alignment is no number");
    alignment = found->second.get<std::uint64_t>();
    if (!std::has_single_bit(alignment) || alignment > (1U << 30)) {
      cursor.fail(fmt::format("its alignment is {}", alignment));
    }
  }
  const auto aligned = [&](std::uint64_t at) { return (at + alignment - 1) & ~(alignment - 1); };
  const std::uint64_t data_begin = aligned(cursor.at());
  std::uint64_t expected = 0;
  for (GgufTensor& tensor : header.tensors) {
    place(cursor, file, tensor, expected, data_begin);
    expected = aligned(expected + tensor.bytes);  // at most the file's size, and some padding
  }
  return header;
}

std::unique_ptr<Checkpoint> open_gguf(Disk& disk, const std::string& path) {
  return std::make_unique<GgufCheckpoint>(disk.open(path));
}

}  // namespace thorns
