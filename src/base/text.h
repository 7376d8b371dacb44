// Words for people: sizes, quotes, near misses.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thorns {

// Decimal units: "512 B", "1.3 MB", "26.0 GB".
std::string human_bytes(std::uint64_t bytes);
// "0.4 s", "42 s", "3 min 20 s", "1 h 05 min".
std::string human_seconds(double seconds);
// "5GB", "500MB", "1.5 GB", "4096", decimal units, case-insensitive, fraction truncated to a byte.
// nullopt for anything else, zero and overflow included.
std::optional<std::uint64_t> parse_size(std::string_view text);

// Levenshtein distance with adjacent swaps counted once (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);
// The candidate that was probably meant: least distance, at most a third of the word's length
// (at least 1), case ignored. nullopt where none is near.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);
// "did you mean `x`?" or an empty string.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

// "[4096, 5120]"
std::string shape_text(std::span<const std::uint64_t> shape);
// "a, b and 7 more": at most `most` items spelled out.
std::string list_text(const std::vector<std::string>& items, std::size_t most = 8);

// Order in which people count: layers.2 before layers.10. A strict weak ordering.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace thorns
