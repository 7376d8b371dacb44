// The expression of an ensemble key: what was written, with the place of every piece. Nothing is
// bound to files or methods yet; that is recipe/.
#pragma once

#include <cstddef>
#include <functional>
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

constexpr std::size_t kMaxKeyBytes = std::size_t{64} << 10;
constexpr std::size_t kMaxKeyDepth = 64;

// Throws BadRecipe with the span and a hint (see docs/language.md). At most kMaxKeyBytes long and
// kMaxKeyDepth brackets deep, both as written and as a tree.
ExpressionPtr parse_key(std::string_view text);

// The canonical key: no blanks, fewest brackets that parse to the same tree, composites kept. Of
// several such forms it is the one with braces around all terms, `{A+B}` rather than `A{B}`; so
// the only join it writes is `X{Y+Z}`, which saves a pair. parse_key(to_string(x)) equals x but for
// spans, for every x that parse_key can return.
std::string to_string(const Expression& expression);

// A name as a key has it: in double quotes where it needs them.
std::string quoted_name(std::string_view name);

// Shortest decimal that reads back as the same number, in the key's notation.
std::string number_text(double number);

// `t(self_attn)=0.3`, as a key has it.
std::string setting_text(const KeySetting& setting);

// What a blend with these options is, for people: "SLERP merge", "linear merge".
std::string merge_name(const KeyOptions& options);
// " with t=0.3, u=x"; empty where there are none.
std::string options_text(const KeyOptions& options);

// The model with further adapters folded in; X[L] with K is X[L+K] where neither has options.
Expression fold_into(ExpressionPtr model, std::vector<KeyAdapter> adapters, KeyOptions options,
                     Span span);

// How deep the brackets of the tree nest: each blend and each composite is one level above what it
// holds, a fold stands beside its model; folds that cannot be joined are a level each.
std::size_t depth_of(const Expression& expression);

// Equal but for spans.
bool same(const Expression& a, const Expression& b);

// The tree for people, one node a line, indented.
std::string draw_tree(const Expression& expression);

// What the brackets that occur mean, one line each: "{} = SLERP Merge".
std::vector<std::string> legend(const Expression& expression);

// Calls back for every name of a model and of an adapter, from left to right.
void visit_names(const Expression& expression, const std::function<void(const KeyName&)>& on_model,
                 const std::function<void(const KeyName&)>& on_adapter);

// Names in order of first mention, each once.
std::vector<std::string> mentioned_models(const Expression& expression);
std::vector<std::string> mentioned_adapters(const Expression& expression);

}  // namespace thorns
