#include "adapter/contents.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "adapter/foreign.h"
#include "adapter/keys.h"
#include "adapter/numbers.h"
#include "base/path_within.h"
#include "base/text.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_facts.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";
// Of PEFT in the order in which it looks; of mlx-lm and diffusers.
constexpr std::array<const char*, 2> kPeftFiles = {kWeightsFile, "adapter_model.bin"};
constexpr std::array<const char*, 1> kMlxFiles = {"adapters.safetensors"};
constexpr std::array<const char*, 2> kLoneFiles = {"pytorch_lora_weights.safetensors",
                                                   "pytorch_lora_weights.bin"};

struct Located {
  std::string config;  // empty: there is none
  std::string weights;
};

bool is_file(Disk& disk, const std::string& path) {
  return disk.exists(path) && !disk.stat(path).is_folder;
}

// The first of the names that `folder` holds; empty where it holds none.
template <std::size_t N>
std::string first_of(Disk& disk, const std::string& folder,
                     const std::array<const char*, N>& names) {
  for (const char* name : names) {
    if (is_file(disk, join_path(folder, name))) return path_within(disk, folder, name);
  }
  return {};
}

// The weights beside a configuration.
std::string weights_in(Disk& disk, const std::string& folder) {
  std::string weights = first_of(disk, folder, kPeftFiles);
  if (weights.empty()) weights = first_of(disk, folder, kMlxFiles);
  if (!weights.empty()) return weights;
  throw Error(ErrorCode::NotFound, fmt::format("there is no {} in `{}`", kWeightsFile, folder),
              FilePlace{folder}, "fetch the adapter's weights, too");
}

// The folder's adapter. An adapter that is not called "default" is saved in a folder of its name
// within the one that was meant.
Located locate_in_folder(Disk& disk, const std::string& path) {
  if (is_file(disk, join_path(path, kConfigFile))) {
    return {path_within(disk, path, kConfigFile), weights_in(disk, path)};
  }
  const std::string lone = first_of(disk, path, kLoneFiles);
  if (!lone.empty()) return {{}, lone};
  std::vector<std::string> inner;
  for (const std::string& name : disk.list(path)) {
    if (is_file(disk, join_path(join_path(path, name), kConfigFile))) inner.push_back(name);
  }
  if (inner.size() > 1) {
    throw Error(ErrorCode::Mismatch,
                fmt::format("`{}` holds {} adapters: {}", path, inner.size(), list_text(inner)),
                FilePlace{path}, "name the one that is meant");
  }
  if (inner.empty()) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no {} in `{}`", kConfigFile, path),
                FilePlace{path}, "an adapter folder holds that file beside its weights");
  }
  const std::string folder = path_within(disk, path, inner.front());
  return {path_within(disk, folder, kConfigFile), weights_in(disk, folder)};
}

Located locate(Disk& disk, const std::string& path) {
  if (!disk.exists(path)) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no adapter at `{}`", path),
                FilePlace{path},
                "give an adapter folder, or a file beside its adapter_config.json");
  }
  if (disk.stat(path).is_folder) return locate_in_folder(disk, path);
  if (base_name(path) == kConfigFile) return {path, weights_in(disk, parent_path(path))};
  const std::string config = join_path(parent_path(path), kConfigFile);
  return {is_file(disk, config) ? config : std::string(), path};
}

template <typename T>
double integer(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return static_cast<double>(value);
}

// The number of a tensor with one element.
double read_number(Disk& disk, const std::string& path, const StoredTensor& tensor) {
  const auto source = open_tensors(disk, path, {tensor});
  const Dtype dtype = tensor.info.dtype;
  if (is_blendable(dtype)) return read_numbers(*source, 0).front();
  std::array<std::byte, 8> bytes{};
  const std::span<std::byte> read = std::span(bytes).first(size_of(dtype));
  source->read(0, 0, read);
  if (dtype == Dtype::I64) return integer<std::int64_t>(read);
  if (dtype == Dtype::I32) return integer<std::int32_t>(read);
  throw Error(
      ErrorCode::Unsupported,
      fmt::format("`{}` of `{}` is a number of type {}", tensor.info.name, path, to_string(dtype)),
      TensorPlace{tensor.info.name, std::nullopt, path});
}

ForeignFile read_file(Disk& disk, const std::string& path) {
  ForeignFile file;
  file.path = path;
  file.header = read_weights_header(*disk.open(path));
  file.read_number = [&disk, path](const StoredTensor& tensor) {
    return read_number(disk, path, tensor);
  };
  return file;
}

// Every name begins with a part of a pipeline: a file of diffusers, whose alpha is the rank unless
// it says otherwise.
bool is_of_a_pipeline(const ForeignFile& file) {
  return std::all_of(
      file.header.tensors.begin(), file.header.tensors.end(), [](const StoredTensor& tensor) {
        const std::string_view part = pipeline_part(tensor.info.name);
        // GPT-2 and its kin have a `transformer`, too.
        return !part.empty() && (part != "transformer" ||
                                 tensor.info.name.find("transformer_blocks.") != std::string::npos);
      });
}

AdapterContents contents_of(Disk& disk, const Located& located, ForeignAdapter told) {
  AdapterContents contents;
  contents.config = std::move(told.config);
  contents.config_path = located.config.empty() ? located.weights : located.config;
  contents.weights_path = located.weights;
  contents.source = open_tensors(disk, located.weights, std::move(told.tensors));
  contents.warnings = std::move(told.warnings);
  contents.rotates_neighbours = told.rotates_neighbours;
  for (const std::string& file : {located.config, located.weights}) {
    if (!file.empty()) contents.files.push_back({file, disk.stat(file).size});
  }
  return contents;
}

// A file that has no configuration beside it.
ForeignAdapter tell_alone(const ForeignFile& file) {
  if (has_mlx_names(file)) {
    file.refuse(
        ErrorCode::NotFound,
        fmt::format("is LoRA in the layout of MLX, but there is no {} beside it", kConfigFile), {},
        "its scale stands in that file; fetch it, too");
  }
  if (!has_kohya_names(file) && !says_alpha(file) && !is_of_a_pipeline(file)) {
    file.refuse(ErrorCode::NotFound,
                fmt::format("does not say its alpha, and there is no {} beside it", kConfigFile),
                {},
                R"(fetch that file, too, or write one: {"peft_type": "LORA", "r": RANK, )"
                R"("lora_alpha": ALPHA} with the numbers that it was trained with)");
  }
  return tell_kohya(file, std::nullopt);
}

// Kohya's names beside a configuration of PEFT, which then says what the file does not.
ForeignAdapter tell_beside(const ForeignFile& file, const Json& config) {
  std::optional<double> alpha;
  if (const auto found = config.find("lora_alpha"); found != config.end() && found->is_number()) {
    alpha = found->get<double>();
  }
  ForeignAdapter told = tell_kohya(file, alpha);
  const auto base = config.find("base_model_name_or_path");
  if (base != config.end()) told.config["base_model_name_or_path"] = *base;
  return told;
}

bool has_adapter_names(const ForeignFile& file) {
  if (has_kohya_names(file) || has_mlx_names(file)) return true;
  return std::any_of(file.header.tensors.begin(), file.header.tensors.end(),
                     [](const StoredTensor& tensor) {
                       return tensor.info.name.starts_with("base_model.model.") ||
                              parse_adapter_key(tensor.info.name).role != AdapterKey::Role::Tensor;
                     });
}

}  // namespace

bool is_adapter(Disk& disk, const std::string& path) {
  if (!disk.stat(path).is_folder) {
    const auto weights = disk.open(path);
    if (const auto gguf = read_gguf_facts(*weights)) return gguf->type == "adapter";
    return has_adapter_names(read_file(disk, path));
  }
  const auto holds = [&](const std::string& name) { return is_file(disk, join_path(path, name)); };
  if (holds(kConfigFile) || std::any_of(kPeftFiles.begin(), kPeftFiles.end(), holds) ||
      std::any_of(kLoneFiles.begin(), kLoneFiles.end(), holds)) {
    return true;
  }
  if (holds("config.json")) return false;  // a model's folder may keep adapters in others
  const std::vector<std::string> names = disk.list(path);
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return holds(join_path(name, kConfigFile)); });
}

AdapterContents read_contents(Disk& disk, const std::string& path) {
  Located located = locate(disk, path);
  if (const auto weights = disk.open(located.weights); is_gguf_file(*weights)) {
    located.config.clear();  // whatever lies beside it
    ForeignFile file;
    file.path = located.weights;
    return contents_of(disk, located, tell_gguf(file, read_gguf_adapter(*weights)));
  }
  ForeignFile file = read_file(disk, located.weights);
  if (located.config.empty()) return contents_of(disk, located, tell_alone(file));
  Json config = read_json_file(disk, located.config);
  if (is_mlx_config(config)) {
    return contents_of(disk, located, tell_mlx(file, config, located.config));
  }
  if (config.is_object() && has_kohya_names(file)) {
    return contents_of(disk, located, tell_beside(file, config));
  }
  ForeignAdapter own;
  own.config = std::move(config);
  own.tensors = std::move(file.header.tensors);
  return contents_of(disk, located, std::move(own));
}

}  // namespace thorns
