// Whether a finished folder is still what its manifest says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thorns/observer.h"

namespace thorns {

// Something that is not as the manifest says.
struct VerifyProblem {
  std::string file;    // relative to the folder
  std::string tensor;  // empty where the file as a whole is meant
  std::string message;
};

struct VerifyReport {
  std::string folder;
  std::string key;          // of the manifest, canonical
  std::uint64_t files = 0;  // that the manifest lists
  std::uint64_t tensors = 0;
  std::uint64_t bytes_read = 0;
  std::vector<VerifyProblem> problems;
  std::vector<std::string> extra;  // files that no merge wrote, which is no problem

  bool holds() const { return problems.empty(); }
};

// Reads every file of `folder` once: size and SHA-256 against thorns.json, and the tensors of every
// shard (names, types, shapes) against those that it lists. Throws NotFound where there is no
// manifest; Corrupt and Unsupported where it cannot be read; Io; Cancelled.
VerifyReport verify(const std::string& folder, Observer& observer);

std::string to_json(const VerifyReport& report);

}  // namespace thorns
