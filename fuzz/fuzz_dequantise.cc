// A quantised checkpoint: its quantization_config, then, behind a line `---`, its tensors, one a
// line: NAME DTYPE and the dimensions; bytes follow from a fixed pattern. Text after a sign `=` is
// the tensor's bytes (bitsandbytes keeps JSON in one). What decodes reads the same whole, in pieces
// and in place; what does not is refused.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "support/byte_disk.h"
#include "support/fuzz_parts.h"
#include "support/fuzz_tensors.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::check_in_place;
using thorns::fuzz::require;

constexpr std::uint64_t kMostStored = 4096;      // of one stored tensor
constexpr std::uint64_t kMostDecoded = 1 << 16;  // elements of a decoded one
constexpr std::size_t kMostStoredTensors = 60;

std::string pattern_bytes(std::uint64_t count) {
  std::string bytes(count, '\0');
  for (std::uint64_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i * 37 + (i >> 3));
  return bytes;
}

std::string listed_weights(const std::string& list) {
  using Json = nlohmann::ordered_json;
  Json header = Json::object();
  std::string data;
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line) && header.size() < kMostStoredTensors;) {
    std::string text;
    const std::size_t sign = line.find('=');
    if (sign != std::string::npos) {
      text = line.substr(sign + 1);
      line.resize(sign);
    }
    std::istringstream words(line);
    std::string name;
    std::string type;
    words >> name >> type;
    const auto dtype = thorns::dtype_from_safetensors(type);
    if (!dtype || header.contains(name)) continue;
    std::vector<std::uint64_t> shape;
    std::uint64_t elements = 1;
    for (std::uint64_t dim = 0; elements <= kMostStored && words >> dim;) {
      shape.push_back(dim);
      elements = dim > kMostStored ? dim : elements * dim;
    }
    if (sign != std::string::npos) {
      shape = {text.size() / size_of(*dtype)};
      text.resize(shape[0] * size_of(*dtype));
    } else {
      if (elements > kMostStored) continue;
      text = pattern_bytes(elements * size_of(*dtype));
    }
    const std::uint64_t begin = data.size();
    data += text;
    header[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {begin, data.size()}}};
  }
  return thorns::test::raw_safetensors(header.dump(-1, ' ', false, Json::error_handler_t::replace),
                                       data);
}

void check_decoded(const thorns::TensorSource& source, std::size_t tensor) {
  const thorns::TensorInfo& info = source.tensors()[tensor];
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : info.shape) elements *= dim;
  require(elements == info.elements);
  const std::size_t size = size_of(info.dtype);
  const auto count = static_cast<std::size_t>(std::min(elements, kMostDecoded));
  std::vector<std::byte> whole(count * size);
  source.will_need(tensor, 0, count);
  source.read(tensor, 0, whole);
  std::vector<std::byte> pieces(count * size);
  const std::size_t third = count / 3;
  source.read(tensor, 0, std::span(pieces).first(third * size));
  source.read(tensor, third, std::span(pieces).subspan(third * size));
  require(whole == pieces);
  if (count > 0) check_in_place(source, tensor, count, whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = thorns::fuzz::split_parts(data, size, 2);
  thorns::test::ByteDisk disk;
  disk.files["m/config.json"] = R"({"quantization_config": )" + parts[0] + "}";
  disk.files["m/model.safetensors"] = listed_weights(parts[1]);
  try {
    const auto model = open_checkpoint(disk, "m");
    const auto tensors = model->tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      require(i == 0 || tensors[i - 1].name < tensors[i].name);
      check_decoded(*model, i);
    }
  } catch (const thorns::Error& error) {
    require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
