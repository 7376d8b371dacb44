#include "checkpoint/checkpoint_listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/path_within.h"
#include "base/text.h"
#include "checkpoint/config.h"
#include "checkpoint/folder.h"
#include "checkpoint/gguf_adapter.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/index.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// What architectures of all kinds have, behind their own prefix: "llama.block_count".
constexpr std::array<std::pair<const char*, const char*>, 9> kGgufSizes = {{
    {"block_count", "num_hidden_layers"},
    {"embedding_length", "hidden_size"},
    {"feed_forward_length", "intermediate_size"},
    {"attention.head_count", "num_attention_heads"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.key_length", "head_dim"},
    {"expert_count", "num_experts"},
    {"vocab_size", "vocab_size"},
    {"context_length", "max_position_embeddings"},
}};

Json config_of(const GgufHeader& header) {
  Json config = Json::object();
  const auto type = header.fields.find("general.architecture");
  if (type == header.fields.end() || !type->second.is_string()) return config;
  const auto architecture = type->second.get<std::string>();
  if (!is_utf8(architecture)) return config;
  config["model_type"] = architecture;
  for (const auto& [ggml, name] : kGgufSizes) {
    const auto field = header.fields.find(fmt::format("{}.{}", architecture, ggml));
    if (field != header.fields.end() && field->second.is_number_unsigned()) {
      config[name] = field->second;
    }
  }
  return config;
}

class Lister {
 public:
  Lister(Disk& disk, const std::string& path) : disk_(disk), path_(path) {}

  CheckpointListing run() {
    if (disk_.stat(path_).is_folder) {
      list_folder(disk_.list(path_));
    } else {
      list_file(path_);
    }
    if (listing_.files.empty() && first_) throw Error(*first_);
    if (listing_.files.empty()) {
      throw Error(ErrorCode::NotFound, fmt::format("there are no weights in `{}`", path_),
                  FilePlace{path_});
    }
    return std::move(listing_);
  }

 private:
  void list_folder(const std::vector<std::string>& names) {
    attempt([&] { listing_.tokenizer = find_tokenizer_files(disk_, path_, names); });
    for (const std::string& name : weights_in(names)) list_file(join_path(path_, name));
    const std::string config = join_path(path_, "config.json");
    if (!disk_.exists(config)) return;
    attempt([&] {
      Json read = read_json_file(disk_, path_within(disk_, path_, "config.json"));
      if (read.is_object()) listing_.config = std::move(read);
    });
  }

  // Those of the format that opening the folder would read.
  std::vector<std::string> weights_in(const std::vector<std::string>& names) {
    for (const FileNames* format : {&kSafetensors, &kPyTorch}) {
      std::vector<std::string> found = weights_among(names, *format);
      for (const std::string& name : names) {
        if (name == format->adapter) found.push_back(name);
        if (name == format->index) return indexed(name, found);
      }
      if (!found.empty()) return found;
    }
    std::vector<std::string> found;
    for (const std::string& name : names) {
      if (name.ends_with(".gguf")) found.push_back(name);
    }
    return found;
  }

  // The files that an index names, where it can be read.
  std::vector<std::string> indexed(const std::string& index, std::vector<std::string> all) {
    attempt([&] {
      const ShardIndex read = read_shard_index(disk_, path_within(disk_, path_, index));
      std::erase_if(all, [&](const std::string& name) {
        return !std::binary_search(read.files.begin(), read.files.end(), name);
      });
    });
    return all;
  }

  void list_file(const std::string& path) {
    attempt([&] {
      const bool inner = path != path_;
      const auto file = disk_.open(inner ? path_within(disk_, path_, base_name(path)) : path);
      if (is_gguf_file(*file)) {
        const GgufHeader header = read_gguf_header(*file);
        if (listing_.config.is_null()) listing_.config = config_of(header);
        for (const GgufTensor& tensor : header.tensors) {
          listing_.tensors.push_back({is_utf8(tensor.name) ? tensor.name : "?",
                                      tensor.shape,
                                      tensor.elements,
                                      {find_gguf_type(tensor.type)->name, tensor.bytes}});
        }
      } else {
        for (const StoredTensor& tensor : read_weights_header(*file).tensors) {
          const TensorInfo& info = tensor.info;
          listing_.tensors.push_back(
              {info.name, info.shape, info.elements, {to_string(info.dtype), info.bytes()}});
        }
      }
      listing_.files.push_back({path, file->size()});
    });
  }

  template <class Step>
  void attempt(Step step) {
    try {
      step();
    } catch (const Error& error) {
      if (!first_) first_ = error;
      listing_.broken.push_back(error.message());
    }
  }

  Disk& disk_;
  const std::string& path_;
  CheckpointListing listing_;
  std::optional<Error> first_;
};

}  // namespace

CheckpointListing list_checkpoint(Disk& disk, const std::string& path) {
  return Lister(disk, path).run();
}

}  // namespace thorns
