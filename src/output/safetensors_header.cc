#include "output/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace thorns {
namespace {

// Data starts at a multiple of this, so that every tensor is aligned to its element size.
constexpr std::size_t kAlignment = 8;

std::uint64_t bytes_of(const HeaderEntry& entry) {
  std::uint64_t elements = 1;
  for (const std::uint64_t dim : entry.shape) elements *= dim;  // the plan has checked the product
  return elements * size_of(entry.dtype);
}

std::string metadata_json(const std::map<std::string, std::string>& metadata) {
  std::string text = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    if (text.back() != '{') text += ',';
    text += json_string(key) + ':' + json_string(value);
  }
  return text + '}';
}

}  // namespace

std::string safetensors_header(std::span<const HeaderEntry> entries,
                               const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) json += metadata_json(metadata);
  std::uint64_t offset = 0;
  for (const HeaderEntry& entry : entries) {
    if (json.size() > 1) json += ',';
    const std::uint64_t end = offset + bytes_of(entry);
    json += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        json_string(entry.name), to_string(entry.dtype),
                        fmt::join(entry.shape, ","), offset, end);
    offset = end;
  }
  json += '}';
  json.resize((json.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');

  std::string bytes;
  bytes.reserve(sizeof(std::uint64_t) + json.size());
  for (std::size_t i = 0; i < sizeof(std::uint64_t); ++i) {
    bytes += static_cast<char>(static_cast<std::uint64_t>(json.size()) >> (8 * i) & 0xff);
  }
  return bytes + json;
}

std::string shard_header(const Plan& plan, const Shard& shard) {
  std::vector<HeaderEntry> entries;
  entries.reserve(shard.count);
  for (const Program& program : std::span(plan.programs).subspan(shard.first, shard.count)) {
    entries.push_back({program.tensor, program.dtype, program.shape});
  }
  return safetensors_header(entries, {{"format", "pt"}});
}

void write_index(const Plan& plan, const TextSink& out) {
  std::uint64_t total = 0;
  std::vector<std::size_t> shard_of(plan.programs.size());
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    for (std::size_t i = 0; i < plan.shards[s].count; ++i) shard_of[plan.shards[s].first + i] = s;
    total += plan.shards[s].data_bytes;
  }
  std::vector<std::size_t> order(plan.programs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return plan.programs[a].tensor < plan.programs[b].tensor;
  });

  out(fmt::format("{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n  \"weight_map\": {{",
                  total));
  const char* separator = "\n";
  for (const std::size_t i : order) {
    out(fmt::format("{}    {}: {}", separator, json_string(plan.programs[i].tensor),
                    json_string(plan.shards[shard_of[i]].file)));
    separator = ",\n";
  }
  out("\n  }\n}\n");
}

}  // namespace thorns
