#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>

#include "base/hash.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kNone = "\xE2\x80\x93";

// The bytes of one character that is safe to show; 0 where there is none.
std::size_t character_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first >= 0x20 && first != 0x7F ? 1 : 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  const std::string_view character = text.substr(0, length);
  return is_utf8(character) ? length : 0;
}

bool is_unwanted(std::string_view character) {
  if (character.size() == 2) {  // C1 controls and the Arabic letter mark
    return (character[0] == '\xC2' && static_cast<unsigned char>(character[1]) < 0xA0) ||
           character == "\xD8\x9C";
  }
  if (character.size() != 3 || !character.starts_with("\xE2")) return false;
  const auto second = static_cast<unsigned char>(character[1]);
  const auto third = static_cast<unsigned char>(character[2]);
  // U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069: directions, and ends of lines.
  if (second == 0x81) return third >= 0xA6 && third <= 0xA9;
  return second == 0x80 && (third == 0x8E || third == 0x8F || (third >= 0xA8 && third <= 0xAE));
}

}  // namespace

std::string html(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(1, length));
    text.remove_prefix(character.size());
    if (length == 0 || is_unwanted(character)) {
      safe += character == "\n" || character == "\t" ? std::string_view(" ") : kReplacement;
    } else if (character == "&") {
      safe += "&amp;";
    } else if (character == "<") {
      safe += "&lt;";
    } else if (character == ">") {
      safe += "&gt;";
    } else if (character == "\"") {
      safe += "&quot;";
    } else if (character == "'") {
      safe += "&#39;";
    } else {
      safe += character;
    }
  }
  return safe;
}

std::string number_text(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return std::string(kNone);
  std::string text = fmt::format("{:#.4g}", *value);  // zeros at its end are kept
  if (text.size() > 5 && text.ends_with(".0"))
    text.resize(text.size() - 2);  // but not a fifth digit
  return text;
}

std::string percent_text(std::optional<double> share) {
  if (!share || !std::isfinite(*share)) return std::string(kNone);
  const double percent = *share * 100;
  return percent >= 9.995 ? fmt::format("{:.1f}", percent) : fmt::format("{:.2f}", percent);
}

std::string degrees_text(double radians) {
  const double degrees = radians * 180 / std::numbers::pi;
  return degrees >= 9.995 ? fmt::format("{:.1f}", degrees) : fmt::format("{:.2f}", degrees);
}

std::string script_hash(std::string_view script) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(script.data(), script.size())));
  const std::string hex = hash.hex();
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text = "'sha256-";
  // 32 bytes: 64 hexadecimal digits, three of them to two digits of base64, the last one padded.
  for (std::size_t i = 0; i < hex.size(); i += 3) {
    std::string three = hex.substr(i, 3);
    const std::size_t missing = 3 - three.size();
    three.append(missing, '0');
    const unsigned long bits = std::stoul(three, nullptr, 16);
    text += kDigits[bits >> 6];
    if (missing < 2) text += kDigits[bits & 63];
    if (missing == 2) text += "=";
  }
  return text + "'";
}

}  // namespace thorns
