#include "key/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <system_error>
#include <utility>

#include "thorns/error.h"

namespace thorns {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
         std::string_view("._-/:@~").find(c) != std::string_view::npos;
}

std::optional<TokenKind> punctuation(char c) {
  switch (c) {
    case '{':
      return TokenKind::OpenBrace;
    case '}':
      return TokenKind::CloseBrace;
    case '[':
      return TokenKind::OpenSquare;
    case ']':
      return TokenKind::CloseSquare;
    case '(':
      return TokenKind::OpenRound;
    case ')':
      return TokenKind::CloseRound;
    case '+':
      return TokenKind::Plus;
    case '*':
      return TokenKind::Star;
    case ',':
      return TokenKind::Comma;
    case ';':
      return TokenKind::Semicolon;
    case '=':
      return TokenKind::Equals;
    default:
      return std::nullopt;
  }
}

// One code point of UTF-8, or nothing where the bytes at `at` are none (RFC 3629: no overlong
// forms, no surrogates, nothing above U+10FFFF).
struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 1;
};
std::optional<CodePoint> decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return CodePoint{lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < bytes) return std::nullopt;
  std::uint32_t value = lead & (0x7FU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80) return std::nullopt;
    value = value << 6 | (byte(at + i) & 0x3FU);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kLeast[bytes] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    return std::nullopt;
  }
  return CodePoint{value, bytes};
}

// Characters that would hide or reorder what a reader sees: controls, line separators, and the
// marks that change the direction of text.
bool is_control(std::uint32_t value) {
  return value < 0x20 || (value >= 0x7F && value < 0xA0) || value == 0x200E || value == 0x200F ||
         (value >= 0x2028 && value <= 0x202E) || (value >= 0x2066 && value <= 0x2069) ||
         value == 0xFEFF;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    while (!failed_) {
      while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
      if (at_ == text_.size()) {
        tokens_.push_back({TokenKind::End, {at_, at_}, {}, false, {}});
        break;
      }
      const char c = text_[at_];
      if (const auto kind = punctuation(c)) {
        tokens_.push_back({*kind, {at_, at_ + 1}, {}, false, {}});
        ++at_;
      } else if (is_name_byte(c)) {
        plain_name();
      } else if (c == '"') {
        quoted_name();
      } else {
        stray_character();
      }
    }
    return std::move(tokens_);
  }

 private:
  void fail(Span span, std::string message, std::string hint) {
    tokens_.push_back({TokenKind::Bad, span, std::move(message), false, std::move(hint)});
    failed_ = true;
  }

  void plain_name() {
    const std::size_t begin = at_;
    for (;;) {
      while (at_ < text_.size() && is_name_byte(text_[at_])) ++at_;
      const bool one_blank_inside =
          at_ + 1 < text_.size() && text_[at_] == ' ' && is_name_byte(text_[at_ + 1]);
      if (!one_blank_inside) break;
      ++at_;
    }
    tokens_.push_back(
        {TokenKind::Name, {begin, at_}, std::string(text_.substr(begin, at_ - begin)), false, {}});
  }

  void quoted_name() {
    const std::size_t begin = at_++;
    std::string name;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\') {
        const char next = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
        if (next != '"' && next != '\\') {
          if (at_ + 1 == text_.size()) {
            ++at_;
            break;
          }
          const std::size_t length = decode(text_, at_ + 1).value_or(CodePoint{}).bytes;
          fail({at_, at_ + 1 + length}, "unknown escape in a quoted name",
               "inside quotes a backslash stands only before `\"` or another backslash");
          return;
        }
        name += next;
        at_ += 2;
        continue;
      }
      const auto point = decode(text_, at_);
      if (!point || is_control(point->value)) {
        bad_character(point);
        return;
      }
      name.append(text_.substr(at_, point->bytes));
      at_ += point->bytes;
    }
    if (at_ >= text_.size()) {
      fail({begin, text_.size()}, "unclosed quote",
           fmt::format("the quote opened at position {} needs a closing `\"`",
                       column_of(text_, begin)));
      return;
    }
    ++at_;
    if (name.empty()) {
      fail({begin, at_}, "empty name", "a name needs at least one character");
      return;
    }
    tokens_.push_back({TokenKind::Name, {begin, at_}, std::move(name), true, {}});
  }

  void bad_character(const std::optional<CodePoint>& point) {
    if (!point) {
      fail({at_, at_ + 1}, "the key is not valid UTF-8 here", "write the key in UTF-8");
      return;
    }
    fail({at_, at_ + point->bytes},
         fmt::format("invisible or control character U+{:04X} in the key", point->value),
         "remove it; between names and brackets, blanks, tabs and line ends are allowed");
  }

  void stray_character() {
    const auto point = decode(text_, at_);
    if (!point || is_control(point->value)) {
      bad_character(point);
      return;
    }
    const std::string_view character = text_.substr(at_, point->bytes);
    std::string hint =
        "plain names hold letters, digits and `. _ - / : @ ~`; put any other name in double "
        "quotes";
    if (point->value >= 0x2018 && point->value <= 0x201F) {
      hint = "this is a typographic quote; use the plain double quote `\"`";
    } else if (point->value == '\'') {
      hint = "names are quoted with double quotes: `\"`";
    } else if (point->value >= 0xFF01 && point->value <= 0xFF5E) {
      hint = fmt::format("this is a full-width character; use the plain `{}`",
                         static_cast<char>(point->value - 0xFF01 + '!'));
    } else if (point->value == 0xA0) {
      hint = "this is a no-break space; use a plain blank";
    }
    fail({at_, at_ + point->bytes}, fmt::format("unexpected character `{}`", character), hint);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool failed_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text) { return Lexer(text).run(); }

std::string token_text(const Token& token) {
  switch (token.kind) {
    case TokenKind::Name:
      return "`" + token.text + "`";
    case TokenKind::OpenBrace:
      return "`{`";
    case TokenKind::CloseBrace:
      return "`}`";
    case TokenKind::OpenSquare:
      return "`[`";
    case TokenKind::CloseSquare:
      return "`]`";
    case TokenKind::OpenRound:
      return "`(`";
    case TokenKind::CloseRound:
      return "`)`";
    case TokenKind::Plus:
      return "`+`";
    case TokenKind::Star:
      return "`*`";
    case TokenKind::Comma:
      return "`,`";
    case TokenKind::Semicolon:
      return "`;`";
    case TokenKind::Equals:
      return "`=`";
    case TokenKind::End:
    case TokenKind::Bad:
      break;
  }
  return "the end of the key";
}

std::optional<NumberText> read_number(std::string_view text) {
  const std::size_t first = text.starts_with('-') ? 1 : 0;
  // Keeps out what from_chars reads besides: "inf", "nan".
  if (text.size() == first || !(is_digit(text[first]) || text[first] == '.')) return std::nullopt;
  NumberText number;
  const char* const end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, number.value);
  if (code == std::errc::invalid_argument || stop != end) return std::nullopt;
  number.in_range = code == std::errc{};
  return number;
}

bool is_plain_name(std::string_view name) {
  if (name.empty() || name.front() == ' ' || name.back() == ' ') return false;
  if (name.find("  ") != std::string_view::npos) return false;
  return std::all_of(name.begin(), name.end(), [](char c) { return c == ' ' || is_name_byte(c); });
}

std::size_t column_of(std::string_view text, std::size_t byte) {
  std::size_t column = 1;
  for (std::size_t at = 0; at < byte && at < text.size(); ++column) {
    at += decode(text, at).value_or(CodePoint{}).bytes;
  }
  return column;
}

void key_error(std::string_view text, Span span, const std::string& message,
               const std::string& hint) {
  std::string shown(text);
  for (std::size_t at = 0; at < text.size();) {
    const auto point = decode(text, at);
    const std::size_t bytes = point ? point->bytes : 1;
    const bool keep = point && (!is_control(point->value) || is_blank(text[at]));
    if (!keep) std::fill_n(shown.begin() + static_cast<std::ptrdiff_t>(at), bytes, '?');
    at += bytes;
  }
  throw Error(ErrorCode::BadRecipe, message, KeySpan{std::move(shown), span.begin, span.end}, hint);
}

}  // namespace thorns
