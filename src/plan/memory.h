// How a plan's tensors are cut into tiles, and how the memory ceiling is shared out.
#pragma once

#include <cstdint>

#include "plan/plan.h"

namespace thorns {

// The unit of work of one thread: whole rows of a tensor, at most kMostGrain elements together (or
// a part of one row, where a row is longer; or the rows that have to be computed together, where
// these are more). It follows from the tensor's program alone, and sums are kept per grain and
// added up in order: that is why bytes do not depend on how many grains make a tile.
inline constexpr std::uint64_t kMostGrain = 65536;
std::uint64_t grain_elements(const Program& program);
// The room for one: kMostGrain elements or more.
std::uint64_t grain_room(const Program& program);
std::uint64_t grain_count(const Program& program, std::uint64_t elements);
// Grains of all blocks before `block`; with the number of blocks, of all.
std::uint64_t grains_before(const Program& program, std::size_t block);

// Elements of a program's tiles: whole grains (the last tile may be shorter).
std::uint64_t tile_elements(const Program& program, const MemoryPlan& memory);

// A tile lies in one block.
struct TileSpan {
  std::uint64_t first = 0;  // element
  std::uint64_t count = 0;
  std::size_t block = 0;
};
// All tiles in order: of the first sweep, and of the second, which passes over what is not written.
std::vector<TileSpan> measured_tiles(const Program& program, const MemoryPlan& memory);
std::vector<TileSpan> written_tiles(const Program& program, const MemoryPlan& memory);
// How many of a blend's written tiles, from the first, stay in memory between its two sweeps: all
// of them where they fit, else as many as leave some slots for streaming the rest. The other kinds
// keep none.
std::uint64_t kept_tiles(const Program& program, const MemoryPlan& memory);
// Bytes that the second sweep has to read again.
std::uint64_t reread_bytes(const Program& program, const MemoryPlan& memory);
// Bytes that are read for the program in all.
std::uint64_t read_bytes(const Program& program, const MemoryPlan& memory);

// What the process holds besides its buffers: program, libraries, and the headers of inputs with
// that many tensors in all. An upper estimate, bytes.
std::uint64_t resting_memory(std::uint64_t input_tensors);

// What a thread needs for the grains of a program, bytes: float32 of every product and of what is
// decoded; float64 of all that is computed, and of what one of them is computed from.
std::uint64_t product_bytes(const Program& program);
std::uint64_t computed_bytes(const Program& program);

// How many threads read ahead, where `threads` compute.
std::size_t reader_threads(std::size_t threads);

// Shares out `ceiling` bytes. Throws NoSpace naming the least ceiling where it is too small.
MemoryPlan plan_memory(const Plan& plan, std::uint64_t ceiling, std::size_t threads);
// The least ceiling that plan_memory accepts.
std::uint64_t least_memory(const Plan& plan, std::size_t threads);

}  // namespace thorns
