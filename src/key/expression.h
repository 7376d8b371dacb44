// The expression of an ensemble key: what was written, with the place of every piece. Nothing is
// bound to files or methods yet; that is recipe/.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace thorns {

// Bytes [begin, end) of the key.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

struct KeyName {
  std::string text;  // unquoted, blanks trimmed
  Span span;
};

// `t(self_attn)=0.3`
struct KeySetting {
  KeyName name;
  std::optional<KeyName> filter;
  std::variant<double, KeyName, std::vector<double>> value;
  Span value_span;
};

struct KeyOptions {
  std::optional<KeyName> method;
  std::vector<KeySetting> settings;
  Span span;
  bool empty() const { return !method && settings.empty(); }
};

struct Expression;
using ExpressionPtr = std::shared_ptr<const Expression>;

struct KeyTerm {
  std::optional<double> weight;
  Span weight_span;
  ExpressionPtr model;
};

struct KeyAdapter {
  std::optional<double> weight;
  KeyName name;
};

struct LeafExpression {
  KeyName name;
};
struct FoldExpression {
  ExpressionPtr model;
  std::vector<KeyAdapter> adapters;  // X[L][K] and X[L+K] are the same expression
  KeyOptions options;
};
struct BlendExpression {
  std::vector<KeyTerm> terms;  // at least two; {Z} is Z
  KeyOptions options;
};
struct CompositeExpression {
  ExpressionPtr inside;
};

struct Expression {
  std::variant<LeafExpression, FoldExpression, BlendExpression, CompositeExpression> node;
  Span span;
};

// Throws BadRecipe with the span and a hint (see docs/language.md). At most 64 KiB and 64 open
// brackets.
ExpressionPtr parse_key(std::string_view text);

// The canonical key: no blanks, fewest brackets that parse to the same tree, composites kept.
// parse_key(to_string(x)) equals x but for spans.
std::string to_string(const Expression& expression);

// Equal but for spans.
bool same(const Expression& a, const Expression& b);

// The tree for people, one node a line, drawn with branches.
std::string draw_tree(const Expression& expression);

// What the brackets that occur mean: "{} = SLERP Merge", ...
std::vector<std::string> legend(const Expression& expression);

// Names in order of first mention, each once.
std::vector<std::string> mentioned_models(const Expression& expression);
std::vector<std::string> mentioned_adapters(const Expression& expression);

}  // namespace thorns
