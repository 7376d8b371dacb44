#include "output/markdown.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "output/json_text.h"

namespace thorns {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_word(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

std::string one_line(std::string_view text) {
  std::string line(text);
  std::replace_if(line.begin(), line.end(), is_control, ' ');
  return line;
}

// A run of backticks longer than any in `text`, and at least `least` long.
std::string fence(std::string_view text, std::size_t least) {
  std::size_t longest = 0;
  std::size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return std::string(std::max(longest + 1, least), '`');
}

// Plain words that some YAML reader takes for a boolean or null.
bool is_yaml_word(std::string_view text) {
  static constexpr std::array<std::string_view, 9> kWords = {"true", "false", "yes", "no", "on",
                                                             "off",  "null",  "y",   "n"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

}  // namespace

std::string markdown_text(std::string_view text) {
  std::string result;
  for (const char c : one_line(text)) {
    if (std::string_view("\\`*_[]<>|~&#$").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

std::string markdown_code(std::string_view text, bool in_table) {
  const std::string line = one_line(text);
  const std::string ticks = fence(line, 1);
  std::string inside;
  for (const char c : line) {
    if (c == '|' && in_table) inside += '\\';
    inside += c;
  }
  const bool padded = inside.empty() || inside.front() == '`' || inside.back() == '`';
  return padded ? ticks + ' ' + inside + ' ' + ticks : ticks + inside + ticks;
}

std::string markdown_block(std::string_view text, std::string_view language) {
  const std::string ticks = fence(text, 3);
  std::string block = ticks + std::string(language) + '\n' + std::string(text);
  if (block.back() != '\n') block += '\n';
  return block + ticks + '\n';
}

std::string yaml_string(std::string_view text) {
  const bool plain = !text.empty() && is_letter(text.front()) && !is_yaml_word(text) &&
                     std::all_of(text.begin(), text.end(), [](char c) {
                       return is_word(c) || c == '-' || c == '_' || c == '.' || c == '/';
                     });
  return plain ? std::string(text) : json_string(one_line(text));  // JSON strings are YAML strings
}

std::string shell_word(std::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return is_word(c) || std::string_view("-_./:=@+,").find(c) != std::string_view::npos;
  });
  if (plain) return std::string(text);
  std::string word = "'";
  for (const char c : text) {
    if (c == '\'') {
      word += "'\\''";
    } else {
      word += c;
    }
  }
  return word + '\'';
}

}  // namespace thorns
