// Any bytes as what the Hub answers, or what lies in its cache: the first byte says which it is.
// What is read is a list of files that stay in their folder, and the choice among them is a part of
// it; a folder of the cache; or an error.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "hub/cache.h"
#include "hub/choice.h"
#include "hub/listing.h"
#include "hub/repository.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

void check_name(const std::string& name) {
  require(!name.empty() && name.front() != '/' && name.back() != '/');
  const std::string slashed = "/" + name + "/";
  for (const char* part : {"//", "/./", "/../"}) {
    require(slashed.find(part) == std::string::npos);
  }
  require(std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\';
  }));
}

void check_files(const std::vector<thorns::HubFile>& files) {
  for (std::size_t i = 0; i < files.size(); ++i) {
    check_name(files[i].name);
    require(files[i].hash.size() == 40 || files[i].hash.size() == 64);
    require(files[i].hash.find_first_not_of("0123456789abcdef") == std::string::npos);
    require(i == 0 || files[i - 1].name < files[i].name);
  }
}

void read_tree(const std::string& text) {
  thorns::HubListing listing;
  thorns::read_tree_page(text, "answer", listing.files);
  sort_tree(listing.files, "answer");
  check_files(listing.files);
  const thorns::HubChoice choice = choose_files({"o/r"}, listing);
  require(!choice.files.empty() && choice.files.size() <= listing.files.size());
  check_files(choice.files);
  require(matching_files({"o/r"}, listing, {"*"}).size() == listing.files.size());
}

// A name, and two files in the cache where it may be found: what `main` is, and a shard index.
void look_up(const std::uint8_t* data, std::size_t size) {
  const auto parts = thorns::fuzz::split_parts(data, size, 3);
  const auto repository = thorns::parse_repository(parts[0]);
  if (!repository) return;
  require(repository->folder().find_first_of("/\\") == std::string::npos);
  require(("/" + repository->revision + "/").find("/../") == std::string::npos);
  require(thorns::parse_repository(repository->text()).has_value());
  const std::string home = "hub/" + repository->folder();
  const std::string snapshot = home + "/snapshots/" + std::string(40, 'a');
  thorns::MemoryDisk disk;
  disk.add_file(home + "/refs/main", parts[1]);
  disk.add_file(snapshot + "/model.safetensors.index.json", parts[2]);
  disk.add_file(snapshot + "/1.safetensors");
  disk.add_file(home + "/blobs/x.incomplete");
  require(thorns::located_in_cache(disk, "hub", parts[0]) == snapshot);
  require(thorns::snapshot_commit(snapshot) == std::string(40, 'a'));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0]) {
      case 'c':
        require(thorns::read_commit(text, "answer").size() == 40);
        break;
      case 'i': {
        thorns::HubListing listing;
        listing.files = {{"1.safetensors", 1, ""}, {"2.safetensors", 2, ""}};
        require(indexed_files(listing, text, "index").size() <= 2);
        break;
      }
      case 'l':
        require(thorns::next_page(text).size() <= text.size());
        break;
      case 'd':
        look_up(data + 1, size - 1);
        break;
      default:
        read_tree(text);
    }
  } catch (const thorns::Error& error) {
    to_string(error);
  }
  return 0;
}
