// The tokens of a key. A lexical error is a token too, so that the parser, which reads from left to
// right, reports whichever error stands first. Private to key/.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "key/expression.h"

namespace thorns {

enum class TokenKind {
  Name,
  OpenBrace,
  CloseBrace,
  OpenSquare,
  CloseSquare,
  OpenRound,
  CloseRound,
  Plus,
  Star,
  Comma,
  Semicolon,
  Equals,
  End,
  Bad
};

struct Token {
  TokenKind kind = TokenKind::End;
  Span span;
  std::string text;     // Name: unquoted; Bad: the message
  bool quoted = false;  // Name only
  std::string hint;     // Bad only
};

// All tokens of `text`; the last one is End or Bad, and no other is.
std::vector<Token> tokenize(std::string_view text);

// "`{`" and so on; for a Name the name itself in backticks.
std::string token_text(const Token& token);

// A number as weights and values have it: digits, one point, an exponent without plus sign.
struct NumberText {
  bool in_range = true;
  double value = 0.0;
};
std::optional<NumberText> read_number(std::string_view text);

// Whether `name` can stand in a key without quotes.
bool is_plain_name(std::string_view name);

// Columns count from 1, one a code point.
std::size_t column_of(std::string_view text, std::size_t byte);

// Throws BadRecipe at `span` of `text`. Bytes that are not UTF-8 are shown as `?`.
[[noreturn]] void key_error(std::string_view text, Span span, const std::string& message,
                            const std::string& hint = {});

}  // namespace thorns
