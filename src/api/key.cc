// read_key: a key read back for people, without touching a file.
#include "key/expression.h"
#include "recipe/blend_options.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

// Methods and their parameters need no names to be bound, so a key that no recipe could use is
// refused here already.
void check_blends(const Expression& expression, const FailAt& fail) {
  if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    for (const KeyTerm& term : blend->terms) check_blends(*term.model, fail);
    BlendNode node;
    bind_options(*blend, expression.span, fail, node);
  } else if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    check_blends(*fold->model, fail);
  } else if (const auto* composite = std::get_if<CompositeExpression>(&expression.node)) {
    check_blends(*composite->inside, fail);
  }
}

}  // namespace

KeyReport read_key(const std::string& key) {
  const ExpressionPtr expression = parse_key(key);
  check_blends(*expression, [&](Span span, const std::string& message, const std::string& hint) {
    throw Error(ErrorCode::BadRecipe, message, KeySpan{key, span.begin, span.end}, hint);
  });
  KeyReport report;
  report.canonical = to_string(*expression);
  report.tree = draw_tree(*expression);
  report.legend = legend(*expression);
  report.models = mentioned_models(*expression);
  report.adapters = mentioned_adapters(*expression);
  return report;
}

}  // namespace thorns
