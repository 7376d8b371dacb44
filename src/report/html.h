// Text and numbers made ready for an HTML page. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thorns {

// `text` as it reads, for running text and for attribute values in double quotes, in HTML and SVG.
// Control characters, marks that turn the direction of writing, and bytes that are not UTF-8 become
// U+FFFD.
std::string html(std::string_view text);

// Numbers for people; an en dash where there is none.
std::string number_text(std::optional<double> value);   // four significant digits
std::string percent_text(std::optional<double> share);  // 0.125 -> "12.5"; the unit is left out
std::string degrees_text(double radians);               // "12.5", "1.81"

// A piece of policy: the source of a script by its SHA-256, for Content-Security-Policy.
std::string script_hash(std::string_view script);

}  // namespace thorns
