// Text of a key to tokens. A name may hold single blanks; everything else is one character.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "key/expression.h"
#include "thorns/error.h"

namespace thorns {

enum class TokenKind { Word, Quoted, Symbol, End };

struct Token {
  TokenKind kind = TokenKind::End;
  std::string text;  // a word, a quoted name without its quotes, or one symbol
  Span span;

  bool is(char symbol) const { return kind == TokenKind::Symbol && text[0] == symbol; }
  bool is_name() const { return kind == TokenKind::Word || kind == TokenKind::Quoted; }
};

inline constexpr std::size_t kMostKeyBytes = 64 * 1024;

// The last token is End. Throws BadRecipe for text that is too long, not UTF-8, or holds a
// character that has no meaning, and for a quote that is not closed.
std::vector<Token> lex_key(std::string_view text);

// The number a word spells ("0.5", "-2", "1e-3"), or nullopt. Words such as "inf" are names. Throws
// BadRecipe where the number does not fit a float64.
std::optional<double> number_of(std::string_view key, const Token& token);

// Whether a name can stand in a key without quotes.
bool is_plain_name(std::string_view name);

[[noreturn]] void fail_in_key(std::string_view key, const Span& span, std::string message,
                              std::string hint = {});

}  // namespace thorns
