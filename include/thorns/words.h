// How thorns writes sizes and durations for people, reads sizes from them, and guesses what they
// meant. For programs that talk to people as `thorns` does; pure functions, safe from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace thorns {

// Decimal units: "512 B", "1.3 MB", "26.0 GB".
std::string human_bytes(std::uint64_t bytes);
// "0.4 s", "42 s", "3 min 20 s", "1 h 05 min".
std::string human_seconds(double seconds);
// "5GB", "500MB", "1.5 GB", "4096", decimal units, case-insensitive, fraction truncated to a byte.
// nullopt for anything else, zero and overflow included.
std::optional<std::uint64_t> parse_size(std::string_view text);

// "did you mean `x`?" with the candidate that was probably meant, or an empty string.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace thorns
