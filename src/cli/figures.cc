#include "cli/figures.h"

#include <fmt/format.h>

#include <numbers>

namespace thorns::cli {

std::string angle_text(double radians) {
  return fmt::format("{:.2f}", radians * 180.0 / std::numbers::pi);
}

std::string measure_text(const std::optional<double>& value, double scale) {
  return value ? fmt::format("{:.4g}", *value * scale) : "-";
}

std::string more_line(std::size_t count, std::size_t shown) {
  return count > shown ? fmt::format("  and {} more; -v lists them all\n", count - shown) : "";
}

}  // namespace thorns::cli
