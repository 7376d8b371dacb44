// Whether a finished folder is still what its manifest says, and what its recipe makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "thorns/thorns.h"

namespace thorns {

struct VerifyOptions {
  std::string folder;
  bool remake = false;                 // compute the tensors again, from the inputs
  std::optional<std::size_t> sample;   // of them only so many; none: all
  Inputs inputs;                       // where remaking looks up the names of the recipe
  std::uint64_t memory = 512'000'000;  // ceiling on resident memory, bytes
  std::size_t threads = 0;             // 0: one per core
};

// What was held against what.
enum class VerifyCheck {
  Files,   // the folder's files against the manifest
  Recipe,  // the manifest against the recipe in it and the inputs
  Tensors  // the folder's tensors against those that the recipe makes
};
const char* to_string(VerifyCheck check);  // "files", "recipe", "tensors"

// Something that is not as it should be.
struct VerifyProblem {
  VerifyCheck check = VerifyCheck::Files;
  std::string file;    // relative to the folder
  std::string tensor;  // empty where the file as a whole is meant
  std::string message;
  std::optional<std::uint64_t> element = std::nullopt;  // the first that differs
};

struct VerifyReport {
  std::string folder;
  std::string key;          // of the manifest, canonical
  std::uint64_t files = 0;  // that the manifest lists
  std::uint64_t tensors = 0;
  std::uint64_t remade = 0;  // tensors that were computed again and compared
  std::uint64_t bytes_read = 0;
  std::vector<VerifyProblem> problems;  // in the order of VerifyCheck
  std::vector<std::string> extra;       // files that no merge wrote, which is no problem

  bool holds() const { return problems.empty(); }
};

// Reads every file of the folder once: size and SHA-256 against thorns.json, and the tensors of
// every shard (names, types, shapes) against those that it lists; and the key of the recipe against
// itself. With `remake` it plans the recipe again, holds inputs, tensors and numbers of the
// manifest against that plan, and every byte that it makes against the folder.
//
// Throws NotFound where there is no manifest; Corrupt and Unsupported where it cannot be read; what
// `merge` throws of recipes and inputs; Io; Cancelled.
VerifyReport verify(const VerifyOptions& options, Observer& observer);

std::string to_json(const VerifyReport& report);

}  // namespace thorns
