// Runs fuzz targets over files, without libFuzzer: the sanitized test builds replay the corpora, so
// that an input that once broke something stays mended.
//
//   replay TARGET FILE|FOLDER...
//
// All targets are linked into this one program: the build gives the function of each a name of its
// own, and lists them in replay_targets.h.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

using Target = int (*)(const std::uint8_t* data, std::size_t size);
#define THORNS_TARGET(name) extern "C" int fuzz_##name(const std::uint8_t* data, std::size_t size);
#include "replay_targets.h"
#undef THORNS_TARGET

// Custom mutators call it; nothing is mutated here.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t*, std::size_t size, std::size_t) {
  return size;
}

namespace {

Target find_target(std::string_view wanted) {
#define THORNS_TARGET(name) \
  if (wanted == #name) return fuzz_##name;
#include "replay_targets.h"
#undef THORNS_TARGET
  return nullptr;
}

void replay(Target target, const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  std::printf("%s\n", file.c_str());
  std::fflush(stdout);  // the last line names the culprit of a crash
  target(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int count, char** arguments) {
  const Target target = count > 1 ? find_target(arguments[1]) : nullptr;
  if (target == nullptr) {
    std::fprintf(stderr, "usage: replay TARGET FILE|FOLDER...\n");
    return 2;
  }
  int files = 0;
  for (int i = 2; i < count; ++i) {
    if (!std::filesystem::is_directory(arguments[i])) {
      replay(target, arguments[i]);
      ++files;
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(arguments[i])) {
      if (!entry.is_regular_file()) continue;
      replay(target, entry.path());
      ++files;
    }
  }
  std::printf("%d files\n", files);
  return files > 0 ? 0 : 1;
}
