#include "thorns/error.h"

#include <fmt/format.h>

#include <algorithm>

namespace thorns {
namespace {

// A key is shown on one line: only this many bytes around the span, so that a caret stays in sight.
constexpr std::size_t kLineBefore = 50;
constexpr std::size_t kLineAfter = 30;

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Columns of UTF-8 text, one a code point.
std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

std::string caret_lines(const KeySpan& span) {
  const std::string& text = span.text;
  const std::size_t begin = std::min(span.begin, text.size());
  const std::size_t end = std::clamp(span.end, begin, text.size());
  std::size_t from = begin > kLineBefore ? begin - kLineBefore : 0;
  std::size_t to = text.size() - end > kLineAfter ? end + kLineAfter : text.size();
  to = std::min(to, from + kLineBefore + kLineAfter + 60);
  while (from > 0 && is_continuation(text[from])) --from;
  while (to < text.size() && is_continuation(text[to])) ++to;
  const std::string lead = from > 0 ? "... " : "";
  std::string line = text.substr(from, to - from);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  const std::size_t shown_end = std::min(end, to);
  const std::size_t width = std::max<std::size_t>(
      1, columns(std::string_view(text).substr(begin, shown_end > begin ? shown_end - begin : 0)));
  const std::size_t indent =
      lead.size() + columns(std::string_view(text).substr(from, begin - from));
  return fmt::format("  {}{}{}\n  {}{}\n", lead, line, to < text.size() ? " ..." : "",
                     std::string(indent, ' '), "^" + std::string(width - 1, '~'));
}

struct PlaceText {
  std::string operator()(std::monostate) const { return {}; }
  std::string operator()(const KeySpan& span) const { return caret_lines(span); }
  std::string operator()(const FilePlace& place) const {
    if (place.path.empty()) return {};
    if (place.line > 0) return fmt::format("  in {}:{}:{}\n", place.path, place.line, place.column);
    if (place.offset) return fmt::format("  in {} at byte {}\n", place.path, *place.offset);
    return fmt::format("  in {}\n", place.path);
  }
  std::string operator()(const TensorPlace& place) const {
    std::string text = "  in tensor " + place.tensor;
    if (place.element) text += fmt::format(", element {}", *place.element);
    if (!place.source.empty()) text += " of " + place.source;
    return text + "\n";
  }
};

}  // namespace

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::BadUsage:
      return "bad_usage";
    case ErrorCode::BadRecipe:
      return "bad_recipe";
    case ErrorCode::NotFound:
      return "not_found";
    case ErrorCode::Exists:
      return "exists";
    case ErrorCode::Mismatch:
      return "mismatch";
    case ErrorCode::Corrupt:
      return "corrupt";
    case ErrorCode::Unsupported:
      return "unsupported";
    case ErrorCode::NoSpace:
      return "no_space";
    case ErrorCode::Io:
      return "io";
    case ErrorCode::NonFinite:
      return "nonfinite";
    case ErrorCode::Cancelled:
      return "cancelled";
    case ErrorCode::Internal:
      return "internal";
  }
  return "internal";
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::BadUsage:
    case ErrorCode::BadRecipe:
      return 2;
    case ErrorCode::Cancelled:
      return 130;
    default:
      return 1;
  }
}

std::string to_string(const Error& error) {
  std::string text = "error: " + error.message() + "\n" + std::visit(PlaceText{}, error.where());
  if (!error.hint().empty()) text += "hint: " + error.hint() + "\n";
  return text;
}

}  // namespace thorns
