#include "plan/part.h"

#include <numbers>
#include <set>
#include <utility>

#include "plan/memory.h"

namespace thorns {

void keep_only(Plan& plan, std::span<const std::size_t> programs) {
  std::vector<Program> kept;
  std::size_t next = 0;
  plan.bytes_in = plan.bytes_read = plan.bytes_out = 0;
  for (Shard& shard : plan.shards) {
    const std::size_t end = shard.first + shard.count;
    shard.first = kept.size();
    shard.data_bytes = 0;
    for (; next < programs.size() && programs[next] < end; ++next) {
      const Program& program = kept.emplace_back(std::move(plan.programs[programs[next]]));
      plan.bytes_in += program.stored_bytes() + program.update_bytes();
      plan.bytes_read += read_bytes(program, plan.memory);
      plan.bytes_out += program.bytes();
      shard.data_bytes += program.bytes();
    }
    shard.count = kept.size() - shard.first;
  }
  plan.programs = std::move(kept);
}

std::vector<std::size_t> spread(std::size_t count, std::size_t size) {
  std::set<std::size_t> indices;
  double place = 0;
  while (indices.size() < std::min(count, size)) {
    place += std::numbers::phi;
    place -= static_cast<double>(static_cast<std::size_t>(place));
    indices.insert(static_cast<std::size_t>(place * static_cast<double>(size)));
  }
  return {indices.begin(), indices.end()};
}

}  // namespace thorns
