#include "cli/columns.h"

#include <algorithm>
#include <clocale>
#include <cwchar>
#include <optional>

namespace thorns::cli {
namespace {

constexpr std::string_view kCut = "...";

// The C library's knowledge of characters, in UTF-8 whatever the user's locale. Only the calling
// thread's locale is changed, and only while one of these lives.
class Utf8Locale {
 public:
  Utf8Locale() : before_(uselocale(utf8())) {}
  ~Utf8Locale() { uselocale(before_); }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

 private:
  static locale_t utf8() {
    static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    return locale;  // null, which changes nothing, where the system has no C.UTF-8
  }
  locale_t before_;
};

struct Character {
  std::string_view bytes;
  std::optional<std::size_t> width;  // none: not to be shown
};

Character next_character(std::string_view text) {
  wchar_t code = 0;
  std::mbstate_t state{};
  const std::size_t size = std::mbrtowc(&code, text.data(), text.size(), &state);
  if (size == 0 || size > text.size()) return {text.substr(0, 1), std::nullopt};
  const int width = wcwidth(code);
  if (width < 0) return {text.substr(0, size), std::nullopt};
  return {text.substr(0, size), static_cast<std::size_t>(width)};
}

std::vector<Character> characters(std::string_view text) {
  const Utf8Locale locale;
  std::vector<Character> list;
  while (!text.empty()) {
    list.push_back(next_character(text));
    text.remove_prefix(list.back().bytes.size());
  }
  return list;
}

std::size_t width_of(const Character& character) { return character.width.value_or(1); }

// The longest beginning, or with reversed characters the longest end, of at most `width` columns.
template <typename Iterator>
std::size_t fitting_bytes(Iterator from, Iterator to, std::size_t width) {
  std::size_t bytes = 0;
  std::size_t used = 0;
  for (; from != to && used + width_of(*from) <= width; ++from) {
    used += width_of(*from);
    bytes += from->bytes.size();
  }
  return bytes;
}

bool is_layer_number(std::string_view part) {
  return !part.empty() &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (const Character& character : characters(text)) width += width_of(character);
  return width;
}

std::string printable(std::string_view text) {
  std::string result;
  for (const Character& character : characters(text)) {
    if (character.width || character.bytes == "\n") {
      result += character.bytes;
    } else {
      result += '?';
    }
  }
  return result;
}

std::string printable_line(std::string_view text) {
  std::string result = printable(text);
  std::replace(result.begin(), result.end(), '\n', '?');
  return result;
}

std::string shorten(std::string_view text, std::size_t width) {
  const std::vector<Character> list = characters(text);
  if (display_width(text) <= width) return std::string(text);
  if (width <= kCut.size() + 2) {
    return std::string(text.substr(0, fitting_bytes(list.begin(), list.end(), width)));
  }
  const std::size_t kept = width - kCut.size();
  const std::size_t head = fitting_bytes(list.begin(), list.end(), kept - kept / 2);
  const std::size_t tail = fitting_bytes(list.rbegin(), list.rend(), kept / 2);
  return std::string(text.substr(0, head)) + std::string(kCut) +
         std::string(text.substr(text.size() - tail));
}

std::string shorten_tensor(std::string_view name, std::size_t width) {
  static constexpr std::string_view kWeight = ".weight";
  if (display_width(name) <= width) return std::string(name);
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  std::string_view rest = name;
  while (display_width(rest) > width) {
    const std::size_t dot = rest.find('.');
    if (dot == std::string_view::npos || is_layer_number(rest.substr(0, dot))) break;
    rest.remove_prefix(dot + 1);
  }
  return display_width(rest) <= width ? std::string(rest) : shorten(name, width);
}

std::string pad_right(std::string_view text, std::size_t width) {
  const std::size_t used = display_width(text);
  return std::string(text) + std::string(used < width ? width - used : 0, ' ');
}

std::string pad_left(std::string_view text, std::size_t width) {
  const std::size_t used = display_width(text);
  return std::string(used < width ? width - used : 0, ' ') + std::string(text);
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
  std::string result;
  std::string line;
  const auto end_line = [&] {
    result += line.empty() ? "\n" : std::string(indent, ' ') + line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    const std::size_t stop = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, stop);
    const bool fits = indent + display_width(line) + 1 + display_width(word) <= width;
    if (!line.empty() && !fits) end_line();
    if (!line.empty() && !word.empty()) line += ' ';
    line += word;
    if (stop < text.size() && text[stop] == '\n') end_line();
    text.remove_prefix(std::min(stop + 1, text.size()));
  }
  if (!line.empty()) end_line();
  return result;
}

std::string wrap_anywhere(std::string_view text, std::size_t width, std::size_t indent) {
  const std::size_t room = width > indent + 2 ? width - indent : 2;  // 2: the widest character
  std::string result;
  while (!text.empty()) {
    const std::vector<Character> list = characters(text);
    const std::size_t bytes = fitting_bytes(list.begin(), list.end(), room);
    result += std::string(indent, ' ') + std::string(text.substr(0, bytes)) + "\n";
    text.remove_prefix(bytes);
  }
  return result;
}

std::string table(const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& right,
                  std::size_t width, std::size_t indent) {
  std::vector<std::size_t> widths(right.size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths.at(i) = std::max(widths.at(i), display_width(row[i]));
    }
  }
  std::string result;
  for (const auto& row : rows) {
    std::string line(indent, ' ');
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      const std::size_t used = display_width(line);
      const std::size_t room = width > used ? width - used : 0;
      const bool last = i + 1 == row.size();
      const std::string cell = last ? shorten(row[i], room) : row[i];
      line += right[i] ? pad_left(cell, widths[i]) : pad_right(cell, last ? 0 : widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + "\n";
  }
  return result;
}

}  // namespace thorns::cli
