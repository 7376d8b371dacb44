#include "checkpoint/gguf_adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/gguf_model.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::array<std::string_view, 2> kMarks = {".lora_a", ".lora_b"};
constexpr std::array<std::string_view, 6> kArchitectures = {"llama", "qwen2",  "qwen3",
                                                            "gemma", "gemma2", "gemma3"};

class Reader {
 public:
  explicit Reader(const ReadFile& file) : file_(file), header_(read_gguf_header(file)) {}

  GgufAdapter read() {
    const std::string architecture = text("general.architecture");
    if (text("general.type") != "adapter" || text("adapter.type") != "lora") {
      refuse(fmt::format("is no LoRA: its type is `{}`",
                         text(text("general.type") == "adapter" ? "adapter.type" : "general.type")),
             "an adapter in GGUF says general.type=adapter and adapter.type=lora");
    }
    if (std::find(kArchitectures.begin(), kArchitectures.end(), architecture) ==
        kArchitectures.end()) {
      refuse(fmt::format("is a LoRA for the architecture `{}`; those for {} are read", architecture,
                         list_text({kArchitectures.begin(), kArchitectures.end()})),
             "use the adapter in PEFT's layout");
    }
    if (header_.arrays.contains("adapter.alora.invocation_tokens")) {
      refuse("is an activated LoRA, which acts only behind its invocation text", "");
    }
    GgufAdapter adapter;
    adapter.rotates_neighbours = architecture == "llama";
    adapter.base_model = text("general.base_model.0.name");
    adapter.alpha = alpha();
    for (const GgufTensor& tensor : header_.tensors) adapter.tensors.push_back(stored(tensor));
    return adapter;
  }

 private:
  [[noreturn]] void refuse(const std::string& what, const std::string& hint) const {
    throw Error(ErrorCode::Unsupported, fmt::format("`{}` {}", file_.path(), what),
                FilePlace{file_.path()}, hint);
  }

  std::string text(const std::string& name) const {
    const auto found = header_.fields.find(name);
    if (found == header_.fields.end() || !found->second.is_string()) return {};
    const auto value = found->second.get<std::string>();
    return is_utf8(value) ? value : std::string("?");
  }

  double alpha() const {
    const auto found = header_.fields.find("adapter.lora.alpha");
    const bool number = found != header_.fields.end() && found->second.is_number() &&
                        std::isfinite(found->second.get<double>());
    if (number) return found->second.get<double>();
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` has no number `adapter.lora.alpha`", file_.path()),
                FilePlace{file_.path()});
  }

  StoredTensor stored(const GgufTensor& tensor) const {
    const auto* const mark = std::find_if(kMarks.begin(), kMarks.end(), [&](std::string_view one) {
      return tensor.name.ends_with(one);
    });
    constexpr std::string_view kWeight = ".weight";
    std::string module;
    if (mark != kMarks.end()) {
      module = transformers_name(
          std::string_view(tensor.name).substr(0, tensor.name.size() - mark->size()));
    }
    if (!module.ends_with(kWeight)) {
      refuse(fmt::format("holds `{}`, which is no factor of a weight that is known",
                         is_utf8(tensor.name) ? tensor.name : "?"),
             "use the adapter in PEFT's layout");
    }
    const GgufType& type = *find_gguf_type(tensor.type);
    if (!type.is_read()) {
      refuse(fmt::format("holds `{}` in {}, which is not read", tensor.name, type.name),
             "convert the adapter with --outtype f32, f16, bf16 or q8_0");
    }
    module.resize(module.size() - kWeight.size());
    StoredTensor result;
    result.info = {module + std::string(*mark), type.plain.value_or(Dtype::F32), tensor.shape,
                   tensor.elements};
    result.offset = tensor.offset;
    if (!type.plain) result.blocks = &type;
    return result;
  }

  const ReadFile& file_;
  GgufHeader header_;
};

}  // namespace

bool is_gguf_file(const ReadFile& file) {
  std::array<char, 4> start{};
  if (file.size() < start.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(start)));
  return is_gguf({start.data(), start.size()});
}

GgufAdapter read_gguf_adapter(const ReadFile& file) { return Reader(file).read(); }

}  // namespace thorns
