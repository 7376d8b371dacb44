#include "checkpoint/pytorch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "checkpoint/strided.h"
#include "checkpoint/torch_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::string_view kZip = "PK\x03\x04";
constexpr std::string_view kPreview = "PYTORCH1";
constexpr std::string_view kTar = "ustar";
constexpr std::size_t kTarAt = 257;
constexpr std::array<std::string_view, 4> kEndings = {".bin", ".pt", ".pth", ".ckpt"};

bool is_tar(std::string_view start) {
  return start.size() > kTarAt && start.substr(kTarAt).starts_with(kTar);
}

// A pickle begins with its protocol.
bool is_pickle(std::string_view start) {
  return start.size() > 1 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5;
}

// The first eight bytes of a safetensors file are a length; it may look like anything.
bool has_json(std::string_view start) { return start.size() > 8 && start[8] == '{'; }

[[noreturn]] void refuse(const ReadFile& file, ErrorCode code, const char* why, const char* hint) {
  throw Error(code, fmt::format("`{}` {}", file.path(), why), FilePlace{file.path(), 0}, hint);
}

TorchFile read_torch_file(const ReadFile& file) {
  std::array<char, kPyTorchStart> bytes{};
  const std::size_t looked = std::min<std::uint64_t>(file.size(), bytes.size());
  file.read(0, std::as_writable_bytes(std::span(bytes).first(looked)));
  const std::string_view start(bytes.data(), looked);
  if (start.starts_with(kZip)) return read_torch_zip(file);
  if (is_pickle(start)) return read_torch_legacy(file);
  if (is_tar(start) || start.starts_with(kPreview)) {
    refuse(file, ErrorCode::Unsupported, "is in a format that PyTorch used before version 0.2",
           "load it with an old PyTorch and save it again");
  }
  refuse(file, ErrorCode::Corrupt,
         "is not a PyTorch checkpoint: it is neither a zip archive nor a pickle",
         "the file is damaged or of another format; fetch it again");
}

}  // namespace

bool has_pytorch_name(std::string_view path) {
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return path.ends_with(ending); });
}

bool is_pytorch(std::string_view start, std::string_view path) {
  if (has_json(start)) return false;
  if (start.starts_with(kZip) || is_pickle(start) || start.starts_with(kPreview) || is_tar(start)) {
    return true;
  }
  return has_pytorch_name(path);
}

std::vector<StoredTensor> read_pytorch_header(const ReadFile& file) {
  TorchFile content = read_torch_file(file);
  std::vector<StoredTensor> tensors;
  tensors.reserve(content.state.tensors.size());
  for (TorchTensor& tensor : content.state.tensors) {
    StoredTensor stored;
    stored.info = std::move(tensor.info);
    stored.offset = content.storages[tensor.storage] + tensor.first_byte;
    if (!is_row_major(stored.info.shape, tensor.strides)) stored.strides = tensor.strides;
    tensors.push_back(std::move(stored));
  }
  return tensors;
}

}  // namespace thorns
