// How the library tells its caller what it is doing. The library itself never prints.
#pragma once

#include <cstdint>
#include <string>

namespace thorns {

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
  virtual void warning(const std::string& /*message*/) {}
  virtual void progress(const Progress& /*now*/) {}
  virtual bool cancelled() { return false; }
};

}  // namespace thorns
