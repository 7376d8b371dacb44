#include "hub/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

namespace thorns {
namespace {

// The number that is all of `text`.
std::optional<double> seconds_in(std::string_view text) {
  unsigned long seconds = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, seconds);
  if (code != std::errc{} || stop != end) return std::nullopt;
  return static_cast<double>(seconds);
}

std::optional<std::time_t> date_in(const std::string& text) {
  const std::time_t date = curl_getdate(text.c_str(), nullptr);
  if (date < 0) return std::nullopt;
  return date;
}

// The parameter `name` of `"api";r=0;t=37`.
std::optional<double> parameter(std::string_view item, std::string_view name) {
  while (!item.empty()) {
    std::string_view part = item.substr(0, item.find(';'));
    item.remove_prefix(std::min(part.size() + 1, item.size()));
    while (part.starts_with(' ')) part.remove_prefix(1);
    if (part.starts_with(name)) return seconds_in(part.substr(name.size()));
  }
  return std::nullopt;
}

}  // namespace

bool may_pass(int status) {
  static constexpr std::array kStatuses = {408, 425, 429, 500, 502, 503, 504};
  return std::find(kStatuses.begin(), kStatuses.end(), status) != kStatuses.end();
}

double retry_delay(int tries, double chance) {
  constexpr double kFirst = 0.5;
  constexpr double kLongest = 30;
  double seconds = kFirst;
  for (int i = 1; i < tries; ++i) seconds = std::min(2 * seconds, kLongest);
  return seconds * (0.5 + 0.5 * chance);
}

double retry_after(const HttpHead& head, std::time_t now) {
  const std::string text = head.header("retry-after");
  if (const auto seconds = seconds_in(text)) return *seconds;
  if (const auto date = date_in(text)) {
    return std::max(0.0, std::difftime(*date, date_in(head.header("date")).value_or(now)));
  }
  const std::string limit = head.header("ratelimit");
  if (head.status != 429 || parameter(limit, "r=") != 0.0) return 0;
  return parameter(limit, "t=").value_or(0);
}

}  // namespace thorns
