#include "checkpoint/folder.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/path_within.h"
#include "checkpoint/gguf.h"
#include "checkpoint/json_events.h"
#include "checkpoint/pytorch.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// What training leaves beside the weights, under names that weights could have.
constexpr std::array<std::string_view, 6> kLeftovers = {"training_args.bin", "optimizer.pt",
                                                        "optimizer.bin",     "scheduler.pt",
                                                        "scheduler.bin",     "scaler.pt"};

constexpr std::array<std::string_view, 16> kTokenizerFiles = {"tokenizer.json",
                                                              "tokenizer.model",
                                                              "tokenizer_config.json",
                                                              "special_tokens_map.json",
                                                              "added_tokens.json",
                                                              "vocab.json",
                                                              "vocab.txt",
                                                              "merges.txt",
                                                              "spiece.model",
                                                              "sentencepiece.bpe.model",
                                                              "tekken.json",
                                                              "chat_template.jinja",
                                                              "chat_template.json",
                                                              "preprocessor_config.json",
                                                              "processor_config.json",
                                                              "video_preprocessor_config.json"};
constexpr const char* kTemplateFolder = "additional_chat_templates";

bool is_leftover(const std::string& name) {
  return std::find(kLeftovers.begin(), kLeftovers.end(), name) != kLeftovers.end() ||
         (name.starts_with("rng_state") && name.ends_with(".pth"));
}

// Tokenizer files are not read, but copied to the result: whatever stands there would be published.
void check_tokenizer_file(Disk& disk, const std::string& path) {
  constexpr std::uint64_t kLargestPointer = 1024;
  const auto file = disk.open(path);
  if (file->size() > kLargestPointer) return;
  std::string text(static_cast<std::size_t>(file->size()), '\0');
  file->read(0, std::as_writable_bytes(std::span(text)));
  refuse_lfs_pointer(text, path);
}

}  // namespace

bool is_file(Disk& disk, const std::string& path) {
  try {
    return !disk.stat(path).is_folder;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::NotFound) return false;  // a link to nowhere included
    throw;
  }
}

std::vector<std::string> weights_among(const std::vector<std::string>& names,
                                       const FileNames& format) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    const bool fits = &format == &kSafetensors ? name.ends_with(".safetensors")
                                               : has_pytorch_name(name) && !is_leftover(name);
    if (fits && name != format.adapter) found.push_back(name);
  }
  return found;
}

std::optional<std::string> only_gguf_model(const std::vector<std::string>& names) {
  std::set<std::vector<std::string>> models;
  for (const std::string& name : names) {
    if (name.ends_with(".safetensors") || (has_pytorch_name(name) && !is_leftover(name)) ||
        name == kSafetensors.index || name == kPyTorch.index) {
      return std::nullopt;
    }
    if (name.ends_with(".gguf")) models.insert(gguf_parts(name));
  }
  if (models.size() != 1) return std::nullopt;
  return models.begin()->front();
}

std::vector<std::string> find_tokenizer_files(Disk& disk, const std::string& folder,
                                              const std::vector<std::string>& names) {
  std::vector<std::string> found;
  const auto look = [&](const std::string& name) {
    const std::string path = path_within(disk, folder, name);
    if (!is_file(disk, path)) return;
    check_tokenizer_file(disk, path);
    found.push_back(name);
  };
  for (const std::string& name : names) {
    const bool known =
        std::find(kTokenizerFiles.begin(), kTokenizerFiles.end(), name) != kTokenizerFiles.end();
    const bool code = name.starts_with("tokenization_") && name.ends_with(".py");
    if (known || code || name.ends_with(".tiktoken")) look(name);
    if (name != kTemplateFolder) continue;
    const std::string templates = path_within(disk, folder, name);
    if (!disk.stat(templates).is_folder) continue;
    for (const std::string& inner : disk.list(templates)) {
      if (inner.ends_with(".jinja")) look(join_path(name, inner));
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace thorns
