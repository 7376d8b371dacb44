// How a plan's tensors are cut into tiles, and how the memory ceiling is shared out.
#pragma once

#include <cstdint>

#include "plan/plan.h"

namespace thorns {

// The unit of work of one thread, in elements. Sums are kept per grain and added up in order, which
// is why bytes do not depend on how many grains make a tile.
inline constexpr std::uint64_t kGrain = 65536;

// Elements of a program's tiles: a multiple of kGrain (the last tile may be shorter).
std::uint64_t tile_elements(const Program& program, const MemoryPlan& memory);
std::uint64_t tile_count(const Program& program, const MemoryPlan& memory);
// Whether all tiles of the program stay in memory between its two sweeps.
bool is_resident(const Program& program, const MemoryPlan& memory);
// Sweeps that read the program's sources: 2 for a blend that is not resident, else 1.
std::uint64_t read_sweeps(const Program& program, const MemoryPlan& memory);

// Shares out `ceiling` bytes. Throws NoSpace naming the least ceiling where it is too small.
MemoryPlan plan_memory(const Plan& plan, std::uint64_t ceiling, std::size_t threads);
// The least ceiling that plan_memory accepts.
std::uint64_t least_memory(const Plan& plan, std::size_t threads);

}  // namespace thorns
