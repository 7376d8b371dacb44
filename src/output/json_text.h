// JSON written piece by piece, for documents too long to be built in memory. Text that is not valid
// UTF-8 (a path, a name from the command line) is mended with U+FFFD, so nothing here throws.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <string>
#include <string_view>

#include "base/json.h"

namespace thorns {

// Takes the pieces of a document in order.
using TextSink = std::function<void(std::string_view)>;

// `text` as a JSON string, quotes included; only what JSON demands is escaped.
inline std::string json_string(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The shortest decimal that reads back as the same double; null for NaN and Inf, which JSON lacks.
inline std::string json_number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : std::string("null");
}

}  // namespace thorns
