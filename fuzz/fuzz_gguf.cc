// Any bytes as a GGUF file: a header whose tensors lie within the file without overlap, and a model
// whose tensors can be read, or an error that says why not.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/self_described.h"
#include "support/byte_disk.h"
#include "support/fuzz_parts.h"
#include "support/fuzz_tensors.h"
#include "support/mutate.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using thorns::fuzz::require;
  thorns::test::ByteDisk disk;
  disk.files["fuzz.gguf"].assign(reinterpret_cast<const char*>(data), size);
  try {
    std::uint64_t end = 0;
    for (const auto& tensor : read_gguf_header(*disk.open("fuzz.gguf")).tensors) {
      require(tensor.offset >= end && tensor.offset <= size);
      require(tensor.bytes <= size - tensor.offset);
      end = tensor.offset + tensor.bytes;
    }
    const auto model = thorns::open_gguf(disk, "fuzz.gguf", "fuzz.gguf", {});
    require(model->config().is_object() && model->files().size() == 1);
    for (std::size_t i = 0; i < model->tensors().size(); ++i) {
      const std::uint64_t elements = model->tensors()[i].elements;
      std::vector<std::byte> bytes(static_cast<std::size_t>(model->tensors()[i].bytes()));
      model->will_need(i, 0, elements);
      model->read(i, 0, bytes);
      if (!bytes.empty()) {
        thorns::fuzz::check_in_place(*model, i, static_cast<std::size_t>(elements), bytes);
      }
      require(!model->file_of(i).empty());
    }
    for (const auto& file : thorns::self_described(*model)->made_tokenizer())
      require(!file.text.empty());
  } catch (const thorns::Error& error) {
    to_string(error);
  }
  return 0;
}

namespace {

// A header taken apart, so that a field or a tensor can be changed, left out or put in twice and
// the numbers before and behind them still fit.
struct GgufParts {
  std::vector<std::string> fields;
  std::vector<std::string> tensors;
  std::string data;

  std::string bytes() const {
    constexpr std::size_t kAlignment = 32;
    std::string all = "GGUF";
    thorns::test::append_little_endian(all, std::uint32_t{3});
    thorns::test::append_little_endian(all, static_cast<std::uint64_t>(tensors.size()));
    thorns::test::append_little_endian(all, static_cast<std::uint64_t>(fields.size()));
    for (const std::string& field : fields) all += field;
    for (const std::string& tensor : tensors) all += tensor;
    all.resize((all.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
    return all + data;
  }
};

class GgufSplitter {
 public:
  explicit GgufSplitter(std::string_view bytes) : bytes_(bytes) {}

  // False for what is too broken to be taken apart.
  bool split(GgufParts& parts) {
    constexpr std::uint64_t kMost = 10'000;
    take(8);
    const std::uint64_t tensors = number(8);
    const std::uint64_t fields = number(8);
    if (!sound_ || tensors > kMost || fields > kMost) return false;
    for (std::uint64_t i = 0; i < fields && sound_; ++i) {
      const std::size_t begin = at_;
      text();
      value(static_cast<std::uint32_t>(number(4)));
      parts.fields.emplace_back(bytes_.substr(begin, at_ - begin));
    }
    for (std::uint64_t i = 0; i < tensors && sound_; ++i) {
      const std::size_t begin = at_;
      text();
      take(8 * number(4));
      take(4 + 8);
      parts.tensors.emplace_back(bytes_.substr(begin, at_ - begin));
    }
    at_ = std::min((at_ + 31) / 32 * 32, bytes_.size());
    parts.data = bytes_.substr(at_);
    return sound_;
  }

 private:
  void take(std::uint64_t count) {
    sound_ = sound_ && count <= bytes_.size() - at_;
    if (sound_) at_ += count;
  }
  std::uint64_t number(std::size_t size) {
    const std::size_t begin = at_;
    take(size);
    std::uint64_t value = 0;
    for (std::size_t i = sound_ ? size : 0; i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(bytes_[begin + i]);
    }
    return value;
  }
  void text() { take(number(8)); }
  void value(std::uint32_t kind) {
    constexpr std::array<std::uint64_t, 13> kBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (kind == 8) return text();
    if (kind == 9) {
      const auto inner = static_cast<std::uint32_t>(number(4));
      std::uint64_t count = std::min<std::uint64_t>(number(8), bytes_.size());
      for (; sound_ && count > 0; --count) value(inner == 9 ? 0 : inner);
      return;
    }
    sound_ = sound_ && kind < kBytes.size();
    if (sound_) take(kBytes[kind]);
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  bool sound_ = true;
};

void change_one(std::vector<std::string>& items, thorns::fuzz::Random& random) {
  using thorns::fuzz::below;
  if (items.empty()) return;
  const std::size_t at = below(random, items.size());
  switch (below(random, 4)) {
    case 0:
      items.erase(items.begin() + static_cast<std::ptrdiff_t>(at));
      return;
    case 1:
      items.push_back(items[at]);
      return;
    case 2:
      std::swap(items[at], items[below(random, items.size())]);
      return;
    default:
      items[at] = thorns::fuzz::mutated_bytes(items[at], items[at].size() + 8);
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace thorns::fuzz;
  Random random(seed);
  GgufParts parts;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  if (below(random, 4) == 0 || !GgufSplitter(bytes).split(parts)) {
    return LLVMFuzzerMutate(data, size, most);
  }
  change_one(below(random, 2) == 0 ? parts.fields : parts.tensors, random);
  return give(parts.bytes(), data, most);
}
