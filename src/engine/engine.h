// Runs a plan: measure, solve, blend, tensor by tensor, into a sink. Reading, computing and writing
// overlap; memory stays within Plan::memory.
//
// Output bytes depend on the plan's recipe and inputs alone: not on threads, memory, tile size or
// SIMD target.
#pragma once

#include <cstdint>

#include "plan/plan.h"
#include "plan/sink.h"
#include "thorns/observer.h"

namespace thorns {

struct EngineOptions {
  bool allow_nonfinite = false;
};

struct EngineFacts {
  std::uint64_t bytes_read = 0;     // from sources
  std::uint64_t bytes_written = 0;  // to the sink: tensor data
};

// Throws NonFinite (tensor and element), Mismatch (integer tensors that differ), Cancelled, and
// what the sources and the sink throw.
EngineFacts run(const Plan& plan, Sink& sink, Observer& observer, const EngineOptions& options);

}  // namespace thorns
