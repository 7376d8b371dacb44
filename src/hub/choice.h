// Which of a repository's files a merge needs. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hub/listing.h"
#include "hub/repository.h"

namespace thorns {

// Bytes of a shard index.
inline constexpr std::uint64_t kLargestIndex = 100'000'000;

// Whether `name` ends as weights of a format that is read.
bool is_weights(const std::string& name);

struct HubChoice {
  std::vector<HubFile> files;  // by name
  // A shard index that is among `files`; the weights are those that it names. Empty: `files` are
  // all.
  std::string index;
};

// Configuration, tokenizer, licence and card; of the weights one format, safetensors before PyTorch
// before GGUF: an index, or a whole file. An adapter's own, too. What other programs need (ONNX,
// TensorFlow, Flax, `original/`, `consolidated`) and further precisions are left out. GGUF may be
// in parts. Throws Unsupported where there is nothing that thorns reads, or several files of which
// one is meant.
HubChoice choose_files(const Repository& repository, const HubListing& listing);

// The files whose name, or last component, matches one of the patterns; `*` stands for any
// characters, `?` for one. NotFound where one of them matches nothing.
std::vector<HubFile> matching_files(const Repository& repository, const HubListing& listing,
                                    const std::vector<std::string>& patterns);

// The files that the index (its text) names. Corrupt where it makes no sense or names what the
// repository does not have.
std::vector<HubFile> indexed_files(const HubListing& listing, const std::string& index,
                                   const std::string& place);

}  // namespace thorns
