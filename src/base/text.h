// Words for people: near misses, shapes, lists, natural order, UTF-8. Sizes, durations and
// did-you-mean are public and come with thorns/words.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "thorns/words.h"

namespace thorns {

// Levenshtein distance with adjacent swaps counted once (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);
// The candidate that was probably meant: least distance, at most a third of the word's length
// (at least 1), case ignored. nullopt where none is near.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

// "[4096, 5120]"
std::string shape_text(std::span<const std::uint64_t> shape);
// Whether `text` is UTF-8: no byte out of place, nothing overlong, no surrogates.
bool is_utf8(std::string_view text);
// "a, b and 7 more": at most `most` items spelled out.
std::string list_text(const std::vector<std::string>& items, std::size_t most = 12);

// Order in which people count: layers.2 before layers.10. A strict weak ordering.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace thorns
