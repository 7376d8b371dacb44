// How the library tells its caller what it is doing. The library itself never prints.
#pragma once

#include <cstdint>
#include <string>

namespace thorns {

// What a merge is about to do, once the plan stands and before the first tensor is read.
struct Started {
  std::string key;    // canonical
  std::string title;  // the recipe's name; may be empty
  std::uint64_t leaves = 0;
  std::uint64_t adapters = 0;
  std::uint64_t tensors = 0;       // of the output
  std::uint64_t bytes_in = 0;      // of all inputs that are used, each once
  std::uint64_t bytes_out = 0;     // of the output's tensors
  std::uint64_t memory = 0;        // what the run will hold at most, bytes
  std::uint64_t tensors_kept = 0;  // written by an interrupted run that this one goes on with
};

// A merge at one moment. Bytes are those of the plan: inputs (each sweep that reads the disk
// counted) plus output.
struct Progress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  std::uint64_t tensors_done = 0;
  std::uint64_t tensors_total = 0;
  std::string tensor;  // at hand
};

// Derive and override. Calls come from the thread that called the API, except `cancelled`, which
// any thread of the library may call at any time: it must be thread-safe and quick.
class Observer {
 public:
  virtual ~Observer() = default;
  // Once per merge, before the first `progress`.
  virtual void started(const Started& /*job*/) {}
  virtual void warning(const std::string& /*message*/) {}
  virtual void progress(const Progress& /*now*/) {}
  virtual bool cancelled() { return false; }
};

}  // namespace thorns
