#include "key/lexer.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace thorns {
namespace {

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._-/:@~").find(c) != std::string_view::npos;
}
bool is_symbol(char c) { return std::string_view("{}[]()+*;,=").find(c) != std::string_view::npos; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Length of the UTF-8 sequence at text[at], or 0 where there is none.
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xC2 ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[at + i]) & 0xC0) != 0x80) return 0;
  }
  return length;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    if (text_.size() > kMostKeyBytes) {
      fail_in_key(
          text_.substr(0, 80), {0, 80},
          fmt::format("the key has {} bytes; at most {} are allowed", text_.size(), kMostKeyBytes),
          "give parts of it names with `let` in a recipe file");
    }
    std::vector<Token> tokens;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (is_blank(c)) {
        ++at_;
      } else if (is_symbol(c)) {
        tokens.push_back({TokenKind::Symbol, std::string(1, c), {at_, at_ + 1}});
        ++at_;
      } else if (c == '"') {
        tokens.push_back(quoted());
      } else if (is_name_byte(c)) {
        tokens.push_back(word());
      } else {
        fail_at_character();
      }
    }
    tokens.push_back({TokenKind::End, "", {text_.size(), text_.size()}});
    return tokens;
  }

 private:
  Token word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && (is_name_byte(text_[at_]) || is_inner_blank())) ++at_;
    return {TokenKind::Word, std::string(text_.substr(begin, at_ - begin)), {begin, at_}};
  }

  // One blank between two name characters belongs to the name.
  bool is_inner_blank() const {
    return text_[at_] == ' ' && at_ + 1 < text_.size() && is_name_byte(text_[at_ + 1]);
  }

  Token quoted() {
    const std::size_t begin = at_++;
    std::string name;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\') {
        ++at_;
        if (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\') {
          fail_in_key(text_, {at_ - 1, at_ + 1}, "unknown escape in a quoted name",
                      "only \\\" and \\\\ are known");
        }
        if (at_ == text_.size()) break;
      }
      check_character();
      const std::size_t length = utf8_length(text_, at_);
      name += text_.substr(at_, length);
      at_ += length;
    }
    if (at_ == text_.size()) {
      fail_in_key(text_, {begin, begin + 1}, "this quote is not closed",
                  "names end with a second `\"`");
    }
    ++at_;
    if (name.empty()) fail_in_key(text_, {begin, at_}, "a name cannot be empty");
    return {TokenKind::Quoted, std::move(name), {begin, at_}};
  }

  void check_character() const {
    if (utf8_length(text_, at_) == 0) {
      fail_in_key(text_, {at_, at_ + 1}, "the key is not valid UTF-8 here");
    }
    if (static_cast<unsigned char>(text_[at_]) < 0x20 || text_[at_] == 0x7F) {
      fail_in_key(text_, {at_, at_ + 1}, "a control character cannot stand in a key");
    }
  }

  [[noreturn]] void fail_at_character() const {
    check_character();
    const std::string_view character = text_.substr(at_, utf8_length(text_, at_));
    fail_in_key(
        text_, {at_, at_ + character.size()}, fmt::format("unexpected character `{}`", character),
        "names hold letters, digits and . _ - / : @ ~; put any other name in double quotes");
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

void fail_in_key(std::string_view key, const Span& span, std::string message, std::string hint) {
  throw Error(ErrorCode::BadRecipe, std::move(message),
              KeySpan{std::string(key), span.begin, span.end}, std::move(hint));
}

std::vector<Token> lex_key(std::string_view text) { return Lexer(text).run(); }

std::optional<double> number_of(std::string_view key, const Token& token) {
  if (token.kind != TokenKind::Word) return std::nullopt;
  const std::string& text = token.text;
  if (text.find_first_not_of("0123456789.eE-") != std::string::npos) return std::nullopt;
  if (text.find_first_of("0123456789") == std::string::npos) return std::nullopt;
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code == std::errc::result_out_of_range) {
    fail_in_key(key, token.span, fmt::format("the number {} is out of range", text));
  }
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_plain_name(std::string_view name) {
  if (name.empty() || !is_name_byte(name.front()) || !is_name_byte(name.back())) return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (!is_name_byte(name[i]) && !(name[i] == ' ' && name[i + 1] != ' ')) return false;
  }
  return true;
}

}  // namespace thorns
