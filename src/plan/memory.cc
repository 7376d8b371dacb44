#include "plan/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "kernel/kernels.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// What the process holds besides the buffers planned here: program and libraries, thread stacks,
// and per tensor its header entries, program and facts. Upper estimates, checked by the memory
// tests.
constexpr std::uint64_t kProcess = 28'000'000;
constexpr std::uint64_t kPerInputTensor = 400;
constexpr std::uint64_t kPerOutputTensor = 2'000;

// What a thread that reads a quantised tensor needs to decode it, at most, rounded up.
constexpr std::uint64_t kDecoding = 3'000'000;

// What the C library keeps, at most, of blocks that were freed; larger ones go back to the system.
constexpr std::uint64_t kMostKept = std::uint64_t{32} << 20;

constexpr std::uint64_t kAlignment = 64;  // of each operand's run in a slot
constexpr std::uint64_t kBestSlot = 8
                                    << 20;  // large enough for the disk, small enough to keep many
constexpr std::uint64_t kLeastSlots = 2;    // one being computed while the next is read
constexpr std::uint64_t kLeastOutputSlots = 3;
// A tensor is blended in one burst, after its sweep of measurement: output slots that can take much
// of the burst let the writer go on while the next tensor is measured.
constexpr std::uint64_t kMostOutputSlots = 64;

// A chunk of every operand, and the running sums.
std::uint64_t chunk_bytes(const Program& program) {
  const std::uint64_t n = program.operands.size();
  return n * 8192 + n * (n + 1) / 2 * 128;
}

// Sums kept until a program is solved: of all grains, or of all cells where it is solved by lines,
// with the points that are solved from them.
std::uint64_t sums_bytes(const Program& program) {
  const std::uint64_t n = program.operands.size();
  const std::uint64_t pairs = n * (n + 1) / 2;
  if (program.lines == Lines::None) {
    return grains_before(program, program.blocks.size()) * pairs * sizeof(double);
  }
  return program.cells_before(program.blocks.size()) *
         (pairs + n * (program.nodes.size() + 2) + 2) * sizeof(double);
}

// The vectors in a program's span that findings are computed from (insight/): those of all nodes,
// as solved and solved anew without folds, what every fold adds, and some to work with.
std::uint64_t findings_bytes(const Program& program) {
  const std::uint64_t vectors = 4 * program.nodes.size() + 8;
  return program.cells_before(program.blocks.size()) * program.operands.size() * vectors *
         sizeof(double);
}

// What the engine holds of a program's updates: factors as float32, the second also packed; and
// whatever the others load.
std::uint64_t factor_bytes(const Program& program) {
  std::uint64_t bytes = 0;
  for (const Operand& operand : program.operands) {
    if (operand.is_stored()) continue;
    if (operand.update->change != nullptr) bytes += operand.update->change->memory(operand.base);
    if (!operand.is_product()) continue;
    const std::uint64_t rank = operand.update->rank;
    const std::uint64_t columns = std::max<std::uint64_t>(1, program.columns());
    const std::uint64_t rows = operand.base.elements() / columns;
    const std::uint64_t factors = (rows + 2 * (columns + kPanel)) * rank * sizeof(float);
    bytes += factors + std::min(factors, kMostKept);
  }
  return bytes;
}

bool decodes(const Program& program) {
  return std::any_of(program.operands.begin(), program.operands.end(),
                     [](const Operand& operand) { return operand.is_decoded(); });
}

struct Needs {
  std::uint64_t fixed = 0;
  std::uint64_t factors = 0;
  std::uint64_t scratch = 0;
  std::uint64_t input_grain = kMostGrain;  // bytes of the largest one, all stored operands
  std::uint64_t output_grain = 0;          // bytes of the largest one of an output
  std::uint64_t padding = 0;               // of the operands' runs in a slot, each 64-aligned
};

Needs needs_of(const Plan& plan, std::size_t threads) {
  Needs needs;
  std::uint64_t inputs = 0;
  for (const auto& leaf : plan.leaves) inputs += leaf->tensors().size();
  for (const auto& adapter : plan.adapters) inputs += adapter->source().tensors().size();
  for (const auto& [node, adapter] : plan.combined) inputs += adapter->source().tensors().size();
  needs.fixed = resting_memory(inputs) + plan.programs.size() * kPerOutputTensor;
  std::uint64_t sums = 0;
  std::uint64_t chunks = 0;
  std::uint64_t products = 0;
  std::uint64_t computed = 0;
  for (const Program& program : plan.programs) {
    needs.factors = std::max(needs.factors, factor_bytes(program));
    chunks = std::max(chunks, chunk_bytes(program));
    products = std::max(products, product_bytes(program));
    computed = std::max(computed, computed_bytes(program));
    sums = std::max(sums, sums_bytes(program) + (plan.findings ? findings_bytes(program) : 0));
    const std::uint64_t room = grain_room(program);
    needs.input_grain =
        std::max(needs.input_grain, std::max<std::uint64_t>(1, program.stored_width()) * room);
    needs.output_grain = std::max(needs.output_grain, size_of(program.dtype) * room);
    needs.padding = std::max<std::uint64_t>(needs.padding, kAlignment * program.operands.size());
  }
  // Each thread also costs a stack and allocator caches.
  needs.scratch = threads * (chunks + products + computed + 200'000) + sums;
  if (std::any_of(plan.programs.begin(), plan.programs.end(), decodes)) {
    needs.scratch += reader_threads(threads) * kDecoding;
  }
  return needs;
}

// Bytes of a slot that holds `grains` of the largest grains; each operand's run is 64-aligned.
std::uint64_t slot_bytes(const Needs& needs, std::uint64_t grains) {
  return needs.input_grain * grains + needs.padding;
}

std::uint64_t total(const Needs& needs, std::uint64_t slot, std::uint64_t slots,
                    std::uint64_t out_slot) {
  return needs.fixed + needs.factors + needs.scratch + slot * slots + out_slot * kLeastOutputSlots;
}

}  // namespace

std::uint64_t resting_memory(std::uint64_t input_tensors) {
  return kProcess + input_tensors * kPerInputTensor;
}

std::size_t reader_threads(std::size_t threads) { return std::clamp<std::size_t>(threads, 1, 4); }

std::uint64_t grain_elements(const Program& program) {
  const std::uint64_t together = program.columns() * program.rows_together;
  if (together > kMostGrain && program.rows_together > 1) return together;
  if (together == 0 || together > kMostGrain) return kMostGrain;
  return kMostGrain / together * together;
}

std::uint64_t grain_room(const Program& program) {
  return std::max(kMostGrain, grain_elements(program));
}

std::uint64_t product_bytes(const Program& program) {
  std::uint64_t products = 0;
  for (const Operand& operand : program.operands) {
    products += operand.is_product() || operand.is_decoded() ? 1 : 0;
  }
  return products * grain_room(program) * sizeof(float);
}

std::uint64_t computed_bytes(const Program& program) {
  std::uint64_t computed = 0;
  for (const Operand& operand : program.operands) computed += operand.is_computed() ? 1 : 0;
  return computed == 0 ? 0 : (computed + 1) * grain_room(program) * sizeof(double);
}

std::uint64_t grain_count(const Program& program, std::uint64_t elements) {
  const std::uint64_t grain = grain_elements(program);
  return (elements + grain - 1) / grain;
}

std::uint64_t grains_before(const Program& program, std::size_t block) {
  std::uint64_t grains = 0;
  for (std::size_t i = 0; i < block; ++i) grains += grain_count(program, program.blocks[i].count);
  return grains;
}

std::uint64_t tile_elements(const Program& program, const MemoryPlan& memory) {
  const std::uint64_t width = std::max<std::uint64_t>(1, program.stored_width());
  std::uint64_t most = (memory.slot_bytes - kAlignment * program.operands.size()) / width;
  if (program.kind == ProgramKind::Blend || program.kind == ProgramKind::Cast) {
    most = std::min(most, memory.output_slot_bytes / size_of(program.dtype));
  }
  const std::uint64_t grain = grain_elements(program);
  return std::max(most / grain, std::uint64_t{1}) * grain;
}

std::vector<TileSpan> measured_tiles(const Program& program, const MemoryPlan& memory) {
  const std::uint64_t tile = tile_elements(program, memory);
  std::vector<TileSpan> tiles;
  for (std::size_t i = 0; i < program.blocks.size(); ++i) {
    const Block& block = program.blocks[i];
    for (std::uint64_t at = 0; at < block.count; at += tile)
      tiles.push_back({block.first + at, std::min(tile, block.count - at), i});
  }
  return tiles;
}

std::vector<TileSpan> written_tiles(const Program& program, const MemoryPlan& memory) {
  std::vector<TileSpan> tiles = measured_tiles(program, memory);
  std::erase_if(tiles, [&](const TileSpan& tile) { return !program.blocks[tile.block].written; });
  return tiles;
}

std::uint64_t kept_tiles(const Program& program, const MemoryPlan& memory) {
  if (program.kind != ProgramKind::Blend) return 0;
  const std::uint64_t tiles = written_tiles(program, memory).size();
  // Those that are measured only need a slot, too.
  if (tiles < memory.slots || measured_tiles(program, memory).size() <= memory.slots) return tiles;
  const std::uint64_t streaming = std::max(kLeastSlots, std::uint64_t{memory.slots} / 4);
  return memory.slots > streaming ? memory.slots - streaming : 0;
}

std::uint64_t reread_bytes(const Program& program, const MemoryPlan& memory) {
  if (program.kind != ProgramKind::Blend) return 0;
  const std::vector<TileSpan> tiles = written_tiles(program, memory);
  std::uint64_t bytes = 0;
  for (std::size_t i = kept_tiles(program, memory); i < tiles.size(); ++i) {
    for (const Operand& operand : program.operands) {
      if (operand.is_stored() && program.blocks[tiles[i].block].has(operand))
        bytes += tiles[i].count * size_of(operand.dtype);
    }
  }
  return bytes;
}

std::uint64_t read_bytes(const Program& program, const MemoryPlan& memory) {
  return program.stored_bytes() + reread_bytes(program, memory) + program.update_bytes();
}

std::uint64_t least_memory(const Plan& plan, std::size_t threads) {
  const Needs needs = needs_of(plan, threads);
  return total(needs, slot_bytes(needs, 1), kLeastSlots, needs.output_grain);
}

MemoryPlan plan_memory(const Plan& plan, std::uint64_t ceiling, std::size_t threads) {
  const Needs needs = needs_of(plan, threads);
  const std::uint64_t least = least_memory(plan, threads);
  if (ceiling < least) {
    throw Error(ErrorCode::NoSpace,
                fmt::format("this merge needs at least {} of memory; the ceiling is {}",
                            human_bytes(least), human_bytes(ceiling)),
                {},
                fmt::format("use --memory {}MB or more{}", least / 1'000'000 + 1,
                            threads > 1 ? ", or fewer threads" : ""));
  }
  MemoryPlan memory;
  memory.ceiling = ceiling;
  memory.fixed = needs.fixed;
  memory.factors = needs.factors;
  memory.scratch = needs.scratch;
  // As many grains in a slot as leave room for eight slots, up to the best size.
  const std::uint64_t free = ceiling - needs.fixed - needs.factors - needs.scratch;
  std::uint64_t grains = 1;
  const auto fits = [&](std::uint64_t count) {
    const std::uint64_t slot = slot_bytes(needs, count);
    return slot <= kBestSlot && slot * 8 + needs.output_grain * count * kLeastOutputSlots <= free;
  };
  while (fits(grains + 1)) ++grains;
  memory.slot_bytes = slot_bytes(needs, grains);
  memory.output_slot_bytes = needs.output_grain * grains;
  const std::uint64_t room = free / 4 / std::max<std::uint64_t>(1, memory.output_slot_bytes);
  memory.output_slots =
      static_cast<std::size_t>(std::clamp(room, kLeastOutputSlots, kMostOutputSlots));
  memory.output = memory.output_slot_bytes * memory.output_slots;
  memory.slots = static_cast<std::size_t>((free - memory.output) / memory.slot_bytes);
  // More slots than the largest tensor has tiles, twice over, would never be used.
  std::uint64_t most = kLeastSlots;
  for (const Program& program : plan.programs) {
    most = std::max<std::uint64_t>(most, 2 * measured_tiles(program, memory).size() + 8);
  }
  memory.slots = static_cast<std::size_t>(std::min<std::uint64_t>(memory.slots, most));
  memory.tiles = memory.slots * memory.slot_bytes;
  return memory;
}

}  // namespace thorns
