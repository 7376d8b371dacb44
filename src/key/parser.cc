// Tokens to the expression of a key, by recursive descent; one function per rule of the grammar in
// docs/language.md. Joins (`X{Y}`) are rewritten into blends here.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "key/expression.h"
#include "key/lexer.h"

namespace thorns {
namespace {

constexpr std::size_t kMostDepth = 64;  // open brackets, and nodes above one another

// An expression with the height of its tree, which is bounded because later stages recurse.
struct Tall {
  ExpressionPtr expression;
  std::size_t height = 1;
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), tokens_(lex_key(text)) {}

  ExpressionPtr key() {
    if (peek().kind == TokenKind::End)
      fail_in_key(text_, {0, 0}, "empty key", "a key names at least one model");
    const Tall whole = chain("a model");
    if (peek().is('+')) {
      fail_in_key(text_, peek().span, "`+` outside braces", fmt::format("write `{{{}}}`", text_));
    }
    if (peek().kind != TokenKind::End) fail_unexpected();
    return whole.expression;
  }

 private:
  // ------------------------------------------------------------ tokens

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  std::size_t last_end() const { return at_ == 0 ? 0 : tokens_[at_ - 1].span.end; }

  // Where something is missing: the token that stands there, or the place behind the last one.
  Span here() const {
    if (peek().kind != TokenKind::End) return peek().span;
    return {last_end(), last_end()};
  }

  [[noreturn]] void fail_unexpected() const {
    const Token& token = peek();
    if (token.is_name()) {
      fail_in_key(text_, token.span, fmt::format("unexpected name `{}`", token.text),
                  "models are joined by `+` inside `{}`; a name with odd blanks needs quotes");
    }
    fail_in_key(text_, token.span, fmt::format("unexpected `{}`", token.text),
                std::string("}])").find(token.text) != std::string::npos
                    ? "no bracket of this kind is open here"
                    : "");
  }

  Token open() {
    const Token bracket = take();
    if (++open_brackets_ > kMostDepth) fail_depth(bracket.span);
    return bracket;
  }

  void close(char bracket, const Token& opened, std::string_view or_what) {
    if (!peek().is(bracket)) {
      fail_in_key(
          text_, here(), fmt::format("expected `{}` or {}", bracket, or_what),
          fmt::format("the `{}` at position {} is still open", opened.text, opened.span.begin + 1));
    }
    take();
    --open_brackets_;
  }

  [[noreturn]] void fail_depth(const Span& span) const {
    fail_in_key(text_, span, fmt::format("the key is nested more than {} deep", kMostDepth),
                "give inner parts names with `let` in a recipe file");
  }

  Tall make(Expression expression, std::size_t height) {
    if (height > kMostDepth) fail_depth(expression.span);
    return {std::make_shared<const Expression>(std::move(expression)), height};
  }

  // ------------------------------------------------------------ rules

  // `wanted` says what is missing where nothing begins: "a model", "a model after `+`".
  Tall chain(const std::string& wanted) {
    Tall left = primary(wanted);
    for (;;) {
      if (peek().is('[')) {
        left = fold(std::move(left));
      } else if (peek().is('{')) {
        left = join(std::move(left));
      } else {
        return left;
      }
    }
  }

  Tall primary(const std::string& wanted) {
    if (peek().is_name()) {
      const Token name = take();
      return make({LeafExpression{{name.text, name.span}}, name.span}, 1);
    }
    if (peek().is('{')) return braces();
    if (peek().is('(')) {
      const Token opened = open();
      const Tall inside = chain("a model after `(`");
      if (peek().is('+')) {
        fail_in_key(text_, peek().span, "`+` outside braces",
                    "`()` holds one model; write `({A+B})`");
      }
      close(')', opened, "the end of the composite");
      return make({CompositeExpression{inside.expression}, {opened.span.begin, last_end()}},
                  inside.height + 1);
    }
    fail_in_key(text_, here(), "expected " + wanted);
  }

  Tall braces() {
    const Token opened = open();
    auto [terms, height] = read_terms("`{`");
    KeyOptions options = read_options();
    close('}', opened, options.empty() ? "`+`" : "`,`");
    if (terms.size() > 1) {
      return make(
          {BlendExpression{std::move(terms), std::move(options)}, {opened.span.begin, last_end()}},
          height + 1);
    }
    if (!options.empty()) {
      fail_in_key(text_, options.span, "options need at least two models to blend");
    }
    if (terms[0].weight) {
      fail_in_key(text_, terms[0].weight_span, "a weight needs another model to be relative to");
    }
    return {terms[0].model, height};
  }

  Tall join(Tall left) {
    const std::size_t begin = left.expression->span.begin;
    const Token opened = open();
    auto [terms, height] = read_terms("`{`");
    KeyOptions options = read_options();
    close('}', opened, options.empty() ? "`+`" : "`,`");
    const Span inside{opened.span.begin, last_end()};
    if (terms.size() > 1) {
      if (!options.empty()) fail_ambiguous(left, opened, options);
      const Tall inner = make({BlendExpression{std::move(terms), {}}, inside}, height + 1);
      terms = {{std::nullopt, {}, inner.expression}};
      height = inner.height;
    }
    terms.insert(terms.begin(), KeyTerm{std::nullopt, {}, left.expression});
    return make({BlendExpression{std::move(terms), std::move(options)}, {begin, last_end()}},
                std::max(left.height, height) + 1);
  }

  // Options of `X{Y+Z; ...}` could mean either brace.
  [[noreturn]] void fail_ambiguous(const Tall& left, const Token& opened,
                                   const KeyOptions& options) const {
    const Span& span = left.expression->span;
    const std::string_view x = text_.substr(span.begin, opened.span.begin - span.begin);
    std::string_view inner = text_.substr(opened.span.end, options.span.begin - opened.span.end);
    inner = inner.substr(0, inner.rfind(';'));
    const std::string_view opts =
        text_.substr(options.span.begin, options.span.end - options.span.begin);
    fail_in_key(text_, options.span, "these options could belong to either of two blends",
                fmt::format("write `{{{}+{{{}; {}}}}}` or `{{{}+{{{}}}; {}}}`", x, inner, opts, x,
                            inner, opts));
  }

  std::pair<std::vector<KeyTerm>, std::size_t> read_terms(const std::string& opener) {
    std::vector<KeyTerm> terms;
    std::size_t height = 0;
    std::string after = opener;
    do {
      KeyTerm term;
      read_weight(term.weight, term.weight_span);
      if (term.weight) after = "`*`";
      const Tall model = chain("a model after " + after);
      term.model = model.expression;
      height = std::max(height, model.height);
      terms.push_back(std::move(term));
      after = "`+`";
    } while (take_if('+'));
    return {std::move(terms), height};
  }

  void read_weight(std::optional<double>& weight, Span& span) {
    if (!peek().is_name() || !peek(1).is('*')) return;
    const Token token = take();
    weight = number_of(text_, token);
    span = token.span;
    if (!weight) {
      fail_in_key(text_, token.span, fmt::format("the weight `{}` is not a number", token.text),
                  "a name that holds `*` needs double quotes");
    }
    take();
  }

  bool take_if(char symbol) {
    if (!peek().is(symbol)) return false;
    take();
    return true;
  }

  Tall fold(Tall model) {
    const std::size_t begin = model.expression->span.begin;
    const Token opened = open();
    FoldExpression result;
    result.model = model.expression;
    std::string after = "";
    do {
      KeyAdapter adapter;
      Span ignored;
      read_weight(adapter.weight, ignored);
      if (!peek().is_name()) fail_in_key(text_, here(), "expected an adapter name" + after);
      const Token name = take();
      adapter.name = {name.text, name.span};
      result.adapters.push_back(std::move(adapter));
      after = " after `+`";
    } while (take_if('+'));
    result.options = read_options();
    close(']', opened, result.options.empty() ? "`+`" : "`,`");
    // X[L][K] is X[L+K].
    const auto* const below = std::get_if<FoldExpression>(&model.expression->node);
    std::size_t height = model.height + 1;
    if (below != nullptr && below->options.empty() && result.options.empty()) {
      result.model = below->model;
      result.adapters.insert(result.adapters.begin(), below->adapters.begin(),
                             below->adapters.end());
      height = model.height;
    }
    return make({std::move(result), {begin, last_end()}}, height);
  }

  KeyOptions read_options() {
    KeyOptions options;
    if (!take_if(';')) return options;
    options.span.begin = here().begin;
    do {
      if (!peek().is_name()) fail_in_key(text_, here(), "expected a method or a parameter");
      const Token name = take();
      if (peek().is('=') || peek().is('(')) {
        options.settings.push_back(read_setting({name.text, name.span}));
      } else if (options.method || !options.settings.empty()) {
        fail_in_key(text_, name.span, fmt::format("expected `=` after `{}`", name.text),
                    "a method's name stands first, before all parameters");
      } else {
        options.method = KeyName{name.text, name.span};
      }
    } while (take_if(','));
    options.span.end = last_end();
    return options;
  }

  KeySetting read_setting(KeyName name) {
    KeySetting setting;
    setting.name = std::move(name);
    if (take_if('(')) {
      if (!peek().is_name()) fail_in_key(text_, here(), "expected a part of a tensor's name");
      const Token filter = take();
      setting.filter = KeyName{filter.text, filter.span};
      if (!take_if(')')) fail_in_key(text_, here(), "expected `)` after the filter");
    }
    if (!take_if('='))
      fail_in_key(text_, here(), fmt::format("expected `=` after `{}`", setting.name.text));
    setting.value_span = here();
    if (peek().is('[')) {
      setting.value = read_list();
    } else if (peek().is_name()) {
      const Token value = take();
      const auto number = number_of(text_, value);
      if (number) {
        setting.value = *number;
      } else {
        setting.value = KeyName{value.text, value.span};
      }
    } else {
      fail_in_key(text_, here(), fmt::format("expected a value for `{}`", setting.name.text));
    }
    setting.value_span.end = last_end();
    return setting;
  }

  std::vector<double> read_list() {
    const Token opened = open();
    std::vector<double> values;
    do {
      const auto number = number_of(text_, peek());
      if (!number) fail_in_key(text_, here(), "expected a number");
      values.push_back(*number);
      take();
    } while (take_if(','));
    close(']', opened, "`,`");
    return values;
  }

  std::string_view text_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t open_brackets_ = 0;
};

}  // namespace

ExpressionPtr parse_key(std::string_view text) { return Parser(text).key(); }

}  // namespace thorns
