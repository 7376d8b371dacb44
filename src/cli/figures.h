// Numbers as the answers of all verbs write them. Pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace thorns::cli {

// An angle in degrees: "12.34".
std::string angle_text(double radians);

// Four digits of `value` times `scale`; "-" where nothing was measured.
std::string measure_text(const std::optional<double>& value, double scale = 1);

// The line below a list that shows `shown` of `count`; nothing where that is all.
std::string more_line(std::size_t count, std::size_t shown);

}  // namespace thorns::cli
