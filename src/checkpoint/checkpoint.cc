#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/path_within.h"
#include "base/text.h"
#include "checkpoint/config.h"
#include "checkpoint/dequantise.h"
#include "checkpoint/folder.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/index.h"
#include "checkpoint/json_events.h"
#include "checkpoint/quantised.h"
#include "checkpoint/shards.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostGenerationConfigBytes = 1'000'000;

// What a model folder holds besides its weights.
struct SideFiles {
  Json config;
  std::optional<std::string> generation_config;
  std::vector<std::string> tokenizer;
};

class OpenCheckpoint final : public Checkpoint {
 public:
  // `decoded` may be null; else it presents `source`.
  OpenCheckpoint(std::string path, std::unique_ptr<ShardedSource> source,
                 std::unique_ptr<DequantisedSource> decoded, SideFiles side)
      : path_(std::move(path)),
        source_(std::move(source)),
        decoded_(std::move(decoded)),
        side_(std::move(side)) {
    for (std::size_t i = 0; i < source_->file_count(); ++i) {
      files_.push_back({source_->file_path(i), source_->file_size(i)});
    }
    std::sort(files_.begin(), files_.end(),
              [](const InputFile& a, const InputFile& b) { return a.path < b.path; });
  }

  const std::string& path() const override { return path_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const Json& config() const override { return side_.config; }
  const std::optional<std::string>& generation_config() const override {
    return side_.generation_config;
  }
  const std::vector<std::string>& tokenizer_files() const override { return side_.tokenizer; }

  std::string quantisation() const override {
    return decoded_ ? decoded_->format() : std::string();
  }

  StoredAs stored_as(std::size_t tensor) const override {
    const TensorInfo& info = decoded_ ? decoded_->stored(tensor) : source_->tensors()[tensor];
    return {to_string(info.dtype), info.bytes()};
  }

  std::span<const TensorInfo> tensors() const override { return view().tensors(); }
  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override {
    view().read(tensor, first, to);
  }
  std::unique_ptr<FilePart> map(std::size_t tensor, std::uint64_t first,
                                std::uint64_t count) const override {
    return view().map(tensor, first, count);
  }
  std::unique_ptr<CodedElements> map_codes(std::size_t tensor, std::uint64_t first,
                                           std::uint64_t count) const override {
    return view().map_codes(tensor, first, count);
  }
  void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const override {
    view().will_need(tensor, first, count);
  }
  std::string file_of(std::size_t tensor) const override { return view().file_of(tensor); }

 private:
  const TensorSource& view() const {
    return decoded_ ? static_cast<const TensorSource&>(*decoded_) : *source_;
  }

  std::string path_;
  std::unique_ptr<ShardedSource> source_;
  std::unique_ptr<DequantisedSource> decoded_;  // reads source_
  SideFiles side_;
  std::vector<InputFile> files_;
};

// Formats that people keep weights in and that thorns does not read.
struct ForeignFormat {
  std::string_view ending;
  const char* what;
};
constexpr std::array<ForeignFormat, 4> kForeignFormats = {{
    {".h5", "TensorFlow .h5 weights"},
    {".msgpack", "Flax .msgpack weights"},
    {".npz", "NumPy .npz weights"},
    {".onnx", "ONNX weights"},
}};

void refuse_foreign(const std::string& name, const std::string& path) {
  for (const auto& [ending, what] : kForeignFormats) {
    if (!name.ends_with(ending)) continue;
    throw Error(ErrorCode::Unsupported, fmt::format("{} cannot be read yet: `{}`", what, path),
                FilePlace{path}, "convert the model to safetensors");
  }
}

// The weights file of a folder that has neither a whole file nor an index under the usual names.
std::string only_weights_file(const std::string& folder, const std::vector<std::string>& candidates,
                              const FileNames& format) {
  const auto part = std::find_if(candidates.begin(), candidates.end(),
                                 [](const auto& name) { return shard_count_of(name) > 1; });
  if (part != candidates.end()) {
    throw Error(ErrorCode::NotFound,
                fmt::format("`{}` holds shards such as {}, but their index {} is missing", folder,
                            *part, format.index),
                FilePlace{folder}, "fetch the index, too");
  }
  if (candidates.size() == 1) return candidates.front();
  throw Error(ErrorCode::Mismatch,
              fmt::format("`{}` holds {} {} files and none is called {}: {}", folder,
                          candidates.size(), format.what, format.whole, list_text(candidates)),
              FilePlace{folder}, "name the one that is meant, not the folder");
}

[[noreturn]] void refuse_without_weights(const std::string& folder,
                                         const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (name != kSafetensors.adapter && name != kPyTorch.adapter && name != "adapter_config.json") {
      continue;
    }
    throw Error(ErrorCode::Mismatch, fmt::format("`{}` is an adapter, not a model", folder),
                FilePlace{folder}, "an adapter is folded into a model: Model[Adapter]");
  }
  for (const std::string& name : names) refuse_foreign(name, join_path(folder, name));
  for (const std::string& name : names) {
    if (!name.ends_with(".gguf")) continue;
    throw Error(ErrorCode::Mismatch, fmt::format("`{}` holds several models in GGUF", folder),
                FilePlace{folder}, fmt::format("name the file: {}", join_path(folder, name)));
  }
  throw Error(ErrorCode::NotFound, fmt::format("there are no weights in `{}`", folder),
              FilePlace{folder},
              fmt::format("a model folder holds {}, or shards and {}", kSafetensors.whole,
                          kSafetensors.index));
}

std::unique_ptr<ShardedSource> open_sharded(Disk& disk, const std::string& folder,
                                            const char* index_name) {
  const std::string index_path = path_within(disk, folder, index_name);
  const ShardIndex index = read_shard_index(disk, index_path);
  std::vector<std::string> paths;
  std::vector<std::string> missing;
  for (const std::string& name : index.files) {
    paths.push_back(path_within(disk, folder, name));
    if (!is_file(disk, paths.back())) missing.push_back(name);
  }
  if (!missing.empty()) {
    throw Error(ErrorCode::NotFound,
                fmt::format("{} of the {} shards of `{}` are missing: {}", missing.size(),
                            index.files.size(), folder, list_text(missing)),
                FilePlace{index_path}, "fetch the missing files");
  }
  auto source = std::make_unique<ShardedSource>(disk, std::move(paths));
  check_shard_index(index, *source, index_path);
  return source;
}

// The weights of a folder. Safetensors go before PyTorch files, an index before a whole file.
std::unique_ptr<ShardedSource> open_weights_in(Disk& disk, const std::string& folder,
                                               const std::vector<std::string>& names) {
  const auto has = [&](const char* name) {
    return std::binary_search(names.begin(), names.end(), name);
  };
  for (const FileNames* format : {&kSafetensors, &kPyTorch}) {
    if (has(format->index)) return open_sharded(disk, folder, format->index);
    const std::vector<std::string> candidates = weights_among(names, *format);
    if (candidates.empty()) continue;
    const std::string file =
        has(format->whole) ? format->whole : only_weights_file(folder, candidates, *format);
    return std::make_unique<ShardedSource>(
        disk, std::vector<std::string>{path_within(disk, folder, file)});
  }
  refuse_without_weights(folder, names);
}

// The decoded view of a quantised checkpoint, null where all tensors are plain; what is quantised
// and cannot be decoded is refused.
std::unique_ptr<DequantisedSource> decode(const TensorSource& source,
                                          const std::optional<Quantisation>& how,
                                          const Json& config, const std::string& path) {
  auto decoded = dequantise(source, how, compute_dtype(config), path);
  refuse_quantised_tensors(decoded ? static_cast<const TensorSource&>(*decoded) : source, path);
  return decoded;
}

std::unique_ptr<Checkpoint> open_folder(Disk& disk, const std::string& folder) {
  const std::vector<std::string> names = disk.list(folder);
  const auto has = [&](const char* name) {
    return std::binary_search(names.begin(), names.end(), name);
  };
  SideFiles side;
  if (has("config.json")) {
    const std::string path = path_within(disk, folder, "config.json");
    side.config = read_json_file(disk, path);
    if (!side.config.is_object()) {
      throw Error(ErrorCode::Corrupt, fmt::format("`{}` is not a JSON object", path),
                  FilePlace{path});
    }
  }
  if (has("generation_config.json")) {
    const std::string path = path_within(disk, folder, "generation_config.json");
    side.generation_config = read_text(disk, path, kMostGenerationConfigBytes);
    refuse_lfs_pointer(*side.generation_config, path);
  }
  side.tokenizer = find_tokenizer_files(disk, folder, names);
  if (const auto gguf = only_gguf_model(names)) {
    return open_gguf(
        disk, folder, path_within(disk, folder, *gguf),
        {std::move(side.config), std::move(side.generation_config), std::move(side.tokenizer)});
  }
  const std::optional<Quantisation> how = find_quantisation(disk, folder, side.config);
  if (how && !can_dequantise(how->method)) refuse_quantised(*how, folder);

  std::unique_ptr<ShardedSource> source = open_weights_in(disk, folder, names);
  source->drop_module_prefix();
  auto decoded = decode(*source, how, side.config, folder);
  return std::make_unique<OpenCheckpoint>(folder, std::move(source), std::move(decoded),
                                          std::move(side));
}

bool begins_as_gguf(Disk& disk, const std::string& path) {
  const auto file = disk.open(path);
  std::array<char, 4> start{};
  if (file->size() < start.size()) return path.ends_with(".gguf");
  file->read(0, std::as_writable_bytes(std::span(start)));
  return is_gguf({start.data(), start.size()});
}

std::unique_ptr<Checkpoint> open_file(Disk& disk, const std::string& path) {
  const std::string name = base_name(path);
  refuse_foreign(name, path);
  if (name.ends_with(".json")) {
    throw Error(ErrorCode::Unsupported, fmt::format("`{}` holds no weights", path), FilePlace{path},
                "name its folder instead");
  }
  if (begins_as_gguf(disk, path)) return open_gguf(disk, path, path, {});
  if (const std::size_t count = shard_count_of(name); count > 1) {
    throw Error(ErrorCode::Mismatch, fmt::format("`{}` is one of {} parts of a model", path, count),
                FilePlace{path}, "name its folder instead");
  }
  auto source = std::make_unique<ShardedSource>(disk, std::vector<std::string>{path});
  source->drop_module_prefix();
  auto decoded = decode(*source, std::nullopt, Json(), path);
  return std::make_unique<OpenCheckpoint>(path, std::move(source), std::move(decoded), SideFiles{});
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(Disk& disk, const std::string& path) {
  if (!disk.exists(path)) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no model at `{}`", path),
                FilePlace{path}, "give a model folder, or a .safetensors, .bin or .gguf file");
  }
  return disk.stat(path).is_folder ? open_folder(disk, path) : open_file(disk, path);
}

}  // namespace thorns
