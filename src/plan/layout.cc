#include "plan/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/text.h"

namespace thorns {
namespace {

bool reference_order(const Program& a, const Program& b) {
  const int rank_a = layout_rank(a.dtype);
  const int rank_b = layout_rank(b.dtype);
  return rank_a != rank_b ? rank_a > rank_b : a.tensor < b.tensor;
}

}  // namespace

std::vector<Shard> lay_out(std::vector<Program>& programs, std::uint64_t shard_size) {
  std::sort(programs.begin(), programs.end(),
            [](const Program& a, const Program& b) { return natural_less(a.tensor, b.tensor); });
  std::vector<std::vector<Program>> groups;
  std::vector<Program> open;
  std::uint64_t open_bytes = 0;
  for (Program& program : programs) {
    const std::uint64_t bytes = program.bytes();
    if (bytes > shard_size) {  // before the shard that is still being filled
      groups.emplace_back();
      groups.back().push_back(std::move(program));
      continue;
    }
    if (!open.empty() && bytes > shard_size - open_bytes) {
      groups.push_back(std::move(open));
      open = {};
      open_bytes = 0;
    }
    open_bytes += bytes;
    open.push_back(std::move(program));
  }
  if (!open.empty() || groups.empty()) groups.push_back(std::move(open));

  programs.clear();
  std::vector<Shard> shards;
  for (std::vector<Program>& group : groups) {
    std::sort(group.begin(), group.end(), reference_order);
    Shard shard;
    shard.file = groups.size() == 1 ? "model.safetensors"
                                    : fmt::format("model-{:05}-of-{:05}.safetensors",
                                                  shards.size() + 1, groups.size());
    shard.first = programs.size();
    shard.count = group.size();
    for (const Program& program : group) shard.data_bytes += program.bytes();
    std::move(group.begin(), group.end(), std::back_inserter(programs));
    shards.push_back(std::move(shard));
  }
  return shards;
}

}  // namespace thorns
