// Tokens to expression: a recursive parser of the grammar in docs/language.md. It recurses only
// into brackets, whose depth is limited.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "key/expression.h"
#include "key/lexer.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kLongestOffer = 120;  // bytes of a spelling that a hint offers in full

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), tokens_(tokenize(text)) {}

  ExpressionPtr key() {
    if (peek().kind == TokenKind::End) {
      fail({0, text_.size()}, "empty key",
           "name a model, or merge two: `{A+B}`, where A and B are models");
    }
    Part whole = chain("a model");
    if (peek().kind != TokenKind::End) stray_after_chain(whole, nullptr);
    return std::move(whole.expression);
  }

 private:
  // An expression and its depth_of, so that the tree is not walked again at every bracket.
  struct Part {
    ExpressionPtr expression;
    std::size_t depth = 0;
  };
  struct Terms {
    std::vector<KeyTerm> terms;
    std::size_t depth = 0;  // of the deepest term
    Span span;              // without options
  };

  // ---------------------------------------------------------------- grammar

  // primary , { fold | join }. `expected` is what an error says is missing.
  Part chain(const std::string& expected) {
    Part part = primary(expected);
    for (;;) {
      if (peek().kind == TokenKind::OpenSquare) {
        part = fold(std::move(part));
      } else if (peek().kind == TokenKind::OpenBrace) {
        part = join(std::move(part));
      } else {
        return part;
      }
    }
  }

  Part primary(const std::string& expected) {
    const Token& token = peek();
    switch (token.kind) {
      case TokenKind::Name: {
        if (peek(1).kind == TokenKind::Star) weight_out_of_place();
        take();
        return {make({LeafExpression{{token.text, token.span}}, token.span}), 0};
      }
      case TokenKind::OpenBrace:
        return brace();
      case TokenKind::OpenRound:
        return composite();
      default:
        fail_at(token, fmt::format("expected {}, found {}", expected, token_text(token)),
                "a model is a name, `{A+B}` or `(A)`; put unusual names in double quotes");
    }
  }

  Part composite() {
    const Token& opener = open();
    Part inside = chain("a model after `(`");
    if (peek().kind != TokenKind::CloseRound) stray_after_chain(inside, &opener);
    const Span span{opener.span.begin, take().span.end};
    --open_;
    const std::size_t depth = inside.depth + 1;
    check_depth(depth, opener);
    return {make({CompositeExpression{std::move(inside.expression)}, span}), depth};
  }

  Part brace() {
    const Token& opener = open();
    Terms terms = term_list(opener);
    KeyOptions options = brace_options(opener);
    const Span span{opener.span.begin, close_brace(opener)};
    if (terms.terms.size() == 1) {
      KeyTerm& only = terms.terms.front();
      if (only.weight) {
        fail(only.weight_span, "a weight needs at least two models",
             "weights in {} are relative to each other; leave this one out");
      }
      if (!options.empty()) {
        fail(options.span, "merge options need at least two models",
             "`{A}` is A itself; leave the options out or add a model");
      }
      return {std::move(only.model), terms.depth};
    }
    check_depth(terms.depth + 1, opener);
    return {make({BlendExpression{std::move(terms.terms), std::move(options)}, span}),
            terms.depth + 1};
  }

  // X{Y} is {X+Y}; X{Y+Z} is {X+{Y+Z}}.
  Part join(Part before) {
    const Token& opener = open();
    Terms terms = term_list(opener);
    KeyOptions options = brace_options(opener);
    const std::size_t end = close_brace(opener);
    const Span before_span = before.expression->span;
    KeyTerm last;
    std::size_t depth = terms.depth;
    if (terms.terms.size() == 1) {
      last = std::move(terms.terms.front());
    } else {
      if (!options.empty()) ambiguous_options(before_span, terms, options);
      last.model =
          make({BlendExpression{std::move(terms.terms), {}}, Span{opener.span.begin, end}});
      ++depth;
    }
    depth = std::max(before.depth, depth) + 1;
    check_depth(depth, opener);
    BlendExpression blend;
    blend.terms.push_back({std::nullopt, {}, std::move(before.expression)});
    blend.terms.push_back(std::move(last));
    blend.options = std::move(options);
    return {make({std::move(blend), Span{before_span.begin, end}}), depth};
  }

  // One or more fold brackets. Those without options are gathered first: a key may hold thousands.
  Part fold(Part part) {
    std::vector<KeyAdapter> plain;
    Span span{part.expression->span.begin, 0};
    while (peek().kind == TokenKind::OpenSquare) {
      const Token& opener = open();
      std::vector<KeyAdapter> adapters = adapter_list();
      KeyOptions options;
      if (peek().kind == TokenKind::Semicolon) options = option_list();
      if (peek().kind != TokenKind::CloseSquare) {
        stray_in_list(options.empty() ? "`]` or `+`" : "`]` or `,`", opener);
      }
      if (!options.empty() && !plain.empty()) {
        part = folded(std::move(part), std::exchange(plain, {}), {}, span, opener);
      }
      span.end = take().span.end;
      --open_;
      if (options.empty()) {
        std::move(adapters.begin(), adapters.end(), std::back_inserter(plain));
      } else {
        part = folded(std::move(part), std::move(adapters), std::move(options), span, opener);
      }
    }
    if (plain.empty()) return part;
    return folded(std::move(part), std::move(plain), {}, span, tokens_[at_ - 1]);
  }

  Part folded(Part part, std::vector<KeyAdapter> adapters, KeyOptions options, Span span,
              const Token& bracket) {
    const Expression* const model = part.expression.get();
    Expression result =
        fold_into(std::move(part.expression), std::move(adapters), std::move(options), span);
    // A fold on a fold is a level of its own, unless the two became one.
    const bool on_fold = std::get<FoldExpression>(result.node).model.get() == model &&
                         std::holds_alternative<FoldExpression>(model->node);
    const std::size_t depth = std::max<std::size_t>(part.depth + (on_fold ? 1 : 0), 1);
    check_depth(depth, bracket);
    return {make(std::move(result)), depth};
  }

  std::vector<KeyAdapter> adapter_list() {
    std::vector<KeyAdapter> adapters;
    const char* after = "[";
    do {
      adapters.push_back(adapter(after));
      after = "+";
    } while (take_if(TokenKind::Plus));
    return adapters;
  }

  KeyAdapter adapter(const char* after) {
    KeyAdapter result;
    result.weight = weight().first;
    const Token& token = peek();
    if (token.kind != TokenKind::Name) {
      const std::string place = result.weight ? "*" : after;
      fail_at(
          token,
          fmt::format("expected an adapter name after `{}`, found {}", place, token_text(token)),
          "an adapter is one name, as in `A[LoRA]`; only models can be put together with {} and "
          "()");
    }
    take();
    result.name = {token.text, token.span};
    return result;
  }

  Terms term_list(const Token& opener) {
    Terms list;
    std::string expected = "a model after `{`";
    for (;;) {
      KeyTerm term;
      std::tie(term.weight, term.weight_span) = weight();
      Part part = chain(term.weight ? "a model after `*`" : expected);
      const bool first = list.terms.empty();
      const std::size_t begin = term.weight ? term.weight_span.begin : part.expression->span.begin;
      list.span = {first ? begin : list.span.begin, part.expression->span.end};
      list.depth = std::max(list.depth, part.depth);
      term.model = std::move(part.expression);
      list.terms.push_back(std::move(term));
      if (!take_if(TokenKind::Plus)) break;
      expected = "a model after `+`";
    }
    if (peek().kind != TokenKind::Semicolon && peek().kind != TokenKind::CloseBrace) {
      stray_in_list("`}` or `+`", opener);
    }
    return list;
  }

  // [ number , "*" ]
  std::pair<std::optional<double>, Span> weight() {
    if (peek().kind != TokenKind::Name || peek(1).kind != TokenKind::Star) return {};
    const Token& token = take();
    take();
    return {number(token, "a weight before `*`"), token.span};
  }

  double number(const Token& token, const char* role) {
    const auto read = token.quoted ? std::nullopt : read_number(token.text);
    if (!read) {
      fail(token.span, fmt::format("expected a number as {}, found `{}`", role, token.text),
           "numbers look like 3, 0.25, -1 or 1e-3");
    }
    if (!read->in_range) {
      fail(token.span, fmt::format("the number `{}` is out of range", token.text),
           "numbers are 64-bit floating point, from about 1e-308 to 1e308");
    }
    return read->value;
  }

  // ---------------------------------------------------------------- options

  KeyOptions brace_options(const Token& opener) {
    KeyOptions options;
    if (peek().kind != TokenKind::Semicolon) return options;
    options = option_list();
    if (peek().kind != TokenKind::CloseBrace) stray_in_list("`}` or `,`", opener);
    return options;
  }

  KeyOptions option_list() {
    KeyOptions options;
    options.span.begin = take().span.begin;
    const char* after = ";";
    do {
      const Token& name = peek();
      if (name.kind != TokenKind::Name) {
        fail_at(name,
                fmt::format("expected a method or a parameter after `{}`, found {}", after,
                            token_text(name)),
                "options look like `; linear` or `; t=0.3`");
      }
      take();
      const bool is_setting =
          peek().kind == TokenKind::Equals || peek().kind == TokenKind::OpenRound;
      if (is_setting) {
        options.settings.push_back(setting(name));
      } else if (options.empty()) {
        options.method = KeyName{name.text, name.span};
      } else {
        fail_at(peek(),
                fmt::format("expected `=` after the parameter `{}`, found {}", name.text,
                            token_text(peek())),
                "a parameter needs a value, as in `t=0.3`; a method stands first, directly after "
                "`;`");
      }
      options.span.end = tokens_[at_ - 1].span.end;
      after = ",";
    } while (take_if(TokenKind::Comma));
    return options;
  }

  // The rest of `name(filter)=value`.
  KeySetting setting(const Token& name) {
    KeySetting result;
    result.name = {name.text, name.span};
    if (take_if(TokenKind::OpenRound)) {
      const Token& filter = peek();
      if (filter.kind != TokenKind::Name) {
        fail_at(
            filter,
            fmt::format("expected a part of a tensor name after `(`, found {}", token_text(filter)),
            "a filter looks like `t(self_attn)=0.3`");
      }
      take();
      result.filter = KeyName{filter.text, filter.span};
      expect(TokenKind::CloseRound, "`)` after the filter");
      expect(TokenKind::Equals, "`=` after the filter");
    } else {
      expect(TokenKind::Equals, "`=`");
    }
    value(result);
    return result;
  }

  void value(KeySetting& setting) {
    const Token& token = peek();
    if (token.kind == TokenKind::OpenSquare) {
      list(setting);
      return;
    }
    if (token.kind != TokenKind::Name) {
      fail_at(token, fmt::format("expected a value after `=`, found {}", token_text(token)),
              "a value is a number, a name or a list such as `[0,0.5,1]`");
    }
    take();
    setting.value_span = token.span;
    if (!token.quoted && read_number(token.text)) {
      setting.value = number(token, "a value");
    } else {
      setting.value = KeyName{token.text, token.span};
    }
  }

  void list(KeySetting& setting) {
    const Token& opener = take();
    std::vector<double> numbers;
    do {
      const Token& token = peek();
      if (token.kind != TokenKind::Name) {
        fail_at(token, fmt::format("expected a number in the list, found {}", token_text(token)),
                "a list holds at least one number, as in `[0,0.5,1]`");
      }
      take();
      numbers.push_back(number(token, "an entry of the list"));
    } while (take_if(TokenKind::Comma));
    if (peek().kind != TokenKind::CloseSquare) stray_in_list("`]` or `,`", opener);
    setting.value_span = {opener.span.begin, take().span.end};
    setting.value = std::move(numbers);
  }

  // ---------------------------------------------------------------- tokens

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  // End and Bad are never taken, so there is always a token to look at.
  const Token& take() { return tokens_[at_++]; }
  bool take_if(TokenKind kind) {
    if (peek().kind != kind) return false;
    ++at_;
    return true;
  }
  void expect(TokenKind kind, const char* what) {
    if (take_if(kind)) return;
    fail_at(peek(), fmt::format("expected {}, found {}", what, token_text(peek())));
  }

  const Token& open() {
    const Token& opener = take();
    ++open_;
    check_depth(open_, opener);
    return opener;
  }
  std::size_t close_brace(const Token& opener) {
    if (peek().kind != TokenKind::CloseBrace) stray_in_list("`}`", opener);
    --open_;
    return take().span.end;
  }
  void check_depth(std::size_t depth, const Token& opener) {
    if (depth <= kMaxKeyDepth) return;
    fail(opener.span, fmt::format("brackets nest more than {} deep", kMaxKeyDepth),
         "remove brackets that are not needed, or give parts of the recipe names with `let`");
  }
  static ExpressionPtr make(Expression expression) {
    return std::make_shared<const Expression>(std::move(expression));
  }

  // ---------------------------------------------------------------- errors

  [[noreturn]] void fail(Span span, const std::string& message,
                         const std::string& hint = {}) const {
    key_error(text_, span, message, hint);
  }
  // An error about a token: if the token itself is bad, that is the error.
  [[noreturn]] void fail_at(const Token& token, const std::string& message,
                            const std::string& hint = {}) const {
    if (token.kind == TokenKind::Bad) fail(token.span, token.text, token.hint);
    fail(token.span, message, hint);
  }

  std::string slice(Span span) const {
    return std::string(text_.substr(span.begin, span.end - span.begin));
  }

  // Something in a list of terms, adapters, options or numbers that can neither continue nor end
  // it.
  [[noreturn]] void stray_in_list(const char* expected, const Token& opener) const {
    const Token& token = peek();
    if (token.kind == TokenKind::Name || token.kind == TokenKind::OpenRound) {
      beside_each_other(token);
    }
    fail_at(token, fmt::format("expected {}, found {}", expected, token_text(token)),
            fmt::format("the {} at position {} is still open", token_text(opener),
                        column_of(text_, opener.span.begin)));
  }

  // Something behind a chain that is not in braces: `opener` is the round bracket around it, if
  // any.
  [[noreturn]] void stray_after_chain(const Part& before, const Token* opener) {
    const Token& token = peek();
    switch (token.kind) {
      case TokenKind::Plus:
        plus_outside_brace(before, opener);
      case TokenKind::Star:
        weight_out_of_place();
      case TokenKind::Semicolon:
        fail(token.span, "options stand inside {} or []", "write them as in `{A+B; t=0.3}`");
      case TokenKind::Name:
      case TokenKind::OpenRound:
        beside_each_other(token);
      default:
        break;
    }
    if (opener != nullptr) stray_in_list("`)`", *opener);
    std::string hint;
    if (token.kind == TokenKind::CloseBrace) hint = "no `{` is open here";
    if (token.kind == TokenKind::CloseSquare) hint = "no `[` is open here";
    if (token.kind == TokenKind::CloseRound) hint = "no `(` is open here";
    fail_at(token, "unexpected " + token_text(token), hint);
  }

  [[noreturn]] void beside_each_other(const Token& token) const {
    const Token& last = tokens_[at_ - 1];
    if (last.kind == TokenKind::Name && token.kind == TokenKind::Name) {
      const std::string joined = fmt::format("{} {}", last.text, token.text);
      fail(token.span, fmt::format("unexpected name `{}` after `{}`", token.text, last.text),
           fmt::format("if this is one name, write {} or put it in double quotes; to merge two "
                       "models, write `{{A+B}}`",
                       is_plain_name(joined) ? "`" + joined + "`" : quoted_name(joined)));
    }
    fail(token.span, fmt::format("unexpected {} after {}", token_text(token), token_text(last)),
         "two models beside each other are merged with `{A+B}` or `A{B}`");
  }

  [[noreturn]] void weight_out_of_place() const {
    const bool before_star = peek().kind == TokenKind::Name;
    fail_at(peek(),
            before_star ? fmt::format("`{} *` is out of place", peek().text)
                        : "unexpected " + token_text(peek()),
            "weights stand before a model in {} or an adapter in []: `{3*A+B}`, `A[0.7*L]`");
  }

  // Offers the same text in braces, if that would be a key.
  [[noreturn]] void plus_outside_brace(const Part& before, const Token* opener) {
    const Span plus = peek().span;
    const std::size_t begin = before.expression->span.begin;
    std::string offer = "{A+B}";
    try {
      std::size_t end = begin;
      while (take_if(TokenKind::Plus)) end = chain("a model").expression->span.end;
      const TokenKind closer = opener == nullptr ? TokenKind::End : TokenKind::CloseRound;
      if (peek().kind == closer && end - begin <= kLongestOffer) {
        offer = "{" + slice({begin, end}) + "}";
      }
    } catch (const Error&) {
      // What follows the plus has errors of its own; this one stands first.
    }
    fail(plus, "`+` outside any brace",
         fmt::format("to merge, put the models in braces: `{}`", offer));
  }

  [[noreturn]] void ambiguous_options(Span before, const Terms& terms,
                                      const KeyOptions& options) const {
    const std::string x = slice(before);
    const std::string y = slice(terms.span);
    const std::string o = slice({options.span.begin + 1, options.span.end});
    const std::string trimmed = o.substr(std::min(o.find_first_not_of(" \t\r\n"), o.size()));
    const bool in_full = x.size() + y.size() + o.size() <= kLongestOffer;
    fail(options.span, "these options could mean either merge: a join of several terms takes none",
         in_full
             ? fmt::format("write `{{{0}+{{{1}; {2}}}}}` or `{{{0}+{{{1}}}; {2}}}`", x, y, trimmed)
             : "write `{X+{Y+Z; ...}}` or `{X+{Y+Z}; ...}`, where X stands before the join");
  }

  std::string_view text_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t open_ = 0;  // brackets around the current token
};

}  // namespace

ExpressionPtr parse_key(std::string_view text) {
  if (text.size() > kMaxKeyBytes) {
    key_error(
        text.substr(0, kMaxKeyBytes), {kMaxKeyBytes, kMaxKeyBytes},
        fmt::format("the key has {} bytes; at most {} are allowed", text.size(), kMaxKeyBytes),
        "give parts of the recipe names with `let` in a recipe file");
  }
  return Parser(text).key();
}

}  // namespace thorns
