// Runs a plan: measure, solve, blend, tensor by tensor, into a sink. Reading, computing and writing
// overlap; memory stays within Plan::memory.
//
// Output bytes depend on the plan's recipe and inputs alone: not on threads, memory, tile size or
// SIMD target.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/solve.h"
#include "plan/plan.h"
#include "plan/sink.h"
#include "thorns/observer.h"

namespace thorns {

struct EngineOptions {
  bool allow_nonfinite = false;
  std::size_t first = 0;  // program to begin with: those before it are in the sink already
};

struct EngineFacts {
  std::uint64_t bytes_read = 0;     // from sources
  std::uint64_t bytes_written = 0;  // to the sink: tensor data
};

// Throws NonFinite (tensor and element), Mismatch (integer tensors that differ), Cancelled, and
// what the sources and the sink throw.
EngineFacts run(const Plan& plan, Sink& sink, Observer& observer, const EngineOptions& options);

// Called for every Blend program of the plan, in order, by the thread that called `survey`: its
// inner products as `solve` takes them.
using OnMeasured = std::function<void(std::size_t program, const CellGrams& grams)>;

// The first sweep alone: reads and measures every Blend program, writes nothing. Bytes read. Throws
// NonFinite, Cancelled, and what the sources throw.
std::uint64_t survey(const Plan& plan, Observer& observer, const EngineOptions& options,
                     const OnMeasured& on_measured);

}  // namespace thorns
