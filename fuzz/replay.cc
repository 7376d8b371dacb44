// Runs fuzz targets over files without libFuzzer, as the sanitized test builds do: an input that
// once broke something stays mended, and a short run of mutated inputs goes with every test run.
//
//   replay TARGET [--mutated COUNT] FILE|FOLDER...
//
// All targets are linked into this one program: the build gives the functions of each names of
// their own, and lists the targets in replay_targets.h. The same arguments give the same inputs.
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

using Run = int (*)(const std::uint8_t* data, std::size_t size);
using Mutate = std::size_t (*)(std::uint8_t* data, std::size_t size, std::size_t most,
                               unsigned seed);
// A target without a mutator of its own has none: a weak name that nobody defines is null.
#define THORNS_TARGET(name)                                                                \
  extern "C" int fuzz_##name(const std::uint8_t* data, std::size_t size);                  \
  extern "C" [[gnu::weak]] std::size_t mutate_##name(std::uint8_t* data, std::size_t size, \
                                                     std::size_t most, unsigned seed);
#include <replay_targets.h>
#undef THORNS_TARGET

namespace {

std::minstd_rand random_numbers;

std::size_t below(std::size_t bound) { return random_numbers() % bound; }

struct Target {
  Run run = nullptr;
  Mutate mutate = nullptr;
};

Target find_target(std::string_view wanted) {
#define THORNS_TARGET(name) \
  if (wanted == #name) return {fuzz_##name, mutate_##name};
#include <replay_targets.h>
#undef THORNS_TARGET
  return {};
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void run(const Target& target, const std::string& bytes) {
  target.run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

// One change of a few bytes.
void edit(std::string& bytes, std::size_t most) {
  static constexpr std::string_view kTelling("\0\xFF\x7F\x80\"{}[]\\,:\n 09-", 17);
  const std::size_t at = below(bytes.size() + 1);
  const std::size_t length = 1 + below(1U << below(6));
  switch (below(5)) {
    case 0:
      if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 1:
      bytes.insert(at, length, kTelling[below(kTelling.size())]);
      break;
    case 2:
      bytes.erase(at, length);
      break;
    case 3:
      if (at < bytes.size()) bytes[at] = kTelling[below(kTelling.size())];
      break;
    default:
      bytes.insert(at, bytes.substr(below(bytes.size() + 1), length));
  }
  if (bytes.size() > most) bytes.resize(most);
}

}  // namespace

// What libFuzzer gives to mutators.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (std::size_t edits = 1 + below(4); edits > 0; --edits) edit(bytes, most);
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + std::min(count, 1), arguments + count);
  const Target target = words.empty() ? Target{} : find_target(words[0]);
  std::size_t mutated = 0;
  std::vector<std::filesystem::path> files;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "--mutated" && i + 1 < words.size()) {
      const std::string& number = words[++i];
      std::from_chars(number.data(), number.data() + number.size(), mutated);
    } else if (std::filesystem::is_directory(words[i])) {
      for (const auto& entry : std::filesystem::directory_iterator(words[i]))
        if (entry.is_regular_file()) files.push_back(entry.path());
    } else {
      files.emplace_back(words[i]);
    }
  }
  if (target.run == nullptr || files.empty()) {
    std::fprintf(stderr, "usage: replay TARGET [--mutated COUNT] FILE|FOLDER...\n");
    return 2;
  }
  std::sort(files.begin(), files.end());  // the system lists them in any order
  // The last line that is printed names the culprit of a crash.
  for (const auto& file : files) {
    std::printf("%s\n", file.c_str());
    std::fflush(stdout);
    run(target, read_file(file));
  }
  for (std::size_t i = 0; i < mutated; ++i) {
    const auto& file = files[i % files.size()];
    std::printf("%s, changed: number %zu\n", file.c_str(), i);
    std::fflush(stdout);
    std::string bytes = read_file(file);
    const std::size_t size = bytes.size();
    const std::size_t most = size + 4096;
    bytes.resize(most);
    auto* const data = reinterpret_cast<std::uint8_t*>(bytes.data());
    random_numbers.seed(static_cast<unsigned>(i + 1));
    bytes.resize(target.mutate == nullptr || i % 2 == 0
                     ? LLVMFuzzerMutate(data, size, most)
                     : target.mutate(data, size, most, static_cast<unsigned>(i)));
    run(target, bytes);
  }
  std::printf("%zu files, and %zu inputs made from them\n", files.size(), mutated);
  return 0;
}
