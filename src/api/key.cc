// read_key: a key read back for people, without touching a file.
#include <algorithm>

#include "insight/stacks.h"
#include "key/expression.h"
#include "recipe/blend_options.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

class KeyReader {
 public:
  KeyReader(const std::string& key, KeyReport& report) : key_(key), report_(report) {
    for (const std::string& name : report.models) report.model_shares.push_back({name, 0});
    for (const std::string& name : report.adapters) report.adapter_shares.push_back({name, 0});
  }

  // Adds the part that `expression` is, and below it those that it is made of. Methods and their
  // parameters need no names to be bound, so a key that no recipe could use is refused here
  // already.
  void read(const Expression& expression, std::size_t depth, double share) {
    const std::size_t at = report_.parts.size();
    report_.parts.push_back({depth, {}, share});
    report_.parts[at].label = label(expression, depth, share);
  }

 private:
  std::string label(const Expression& expression, std::size_t depth, double share) {
    if (const auto* leaf = std::get_if<LeafExpression>(&expression.node)) {
      share_of(report_.model_shares, leaf->name.text) += share;
      return leaf->name.text;
    }
    if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
      return label(*fold->model, depth, share) + " [" + folded(*fold, share) + "]";
    }
    if (const auto* composite = std::get_if<CompositeExpression>(&expression.node)) {
      return "(" + label(*composite->inside, depth, share) + ")";
    }
    const auto& blend = std::get<BlendExpression>(expression.node);
    BlendNode node;
    bind_options(
        blend, expression.span,
        [&](Span span, const std::string& message, const std::string& hint) {
          throw Error(ErrorCode::BadRecipe, message, KeySpan{key_, span.begin, span.end}, hint);
        },
        node);
    const std::vector<double> parts = nominal_parts(node);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      read(*blend.terms[i].model, depth + 1, share * parts[i]);
    }
    return merge_name(blend.options) + options_text(blend.options);
  }

  std::string folded(const FoldExpression& fold, double share) {
    std::string text;
    for (const KeyAdapter& adapter : fold.adapters) {
      share_of(report_.adapter_shares, adapter.name.text) += share * adapter.weight.value_or(1);
      if (!text.empty()) text += " + ";
      if (adapter.weight) text += number_text(*adapter.weight) + "*";
      text += adapter.name.text;
    }
    return text + options_text(fold.options);
  }

  static double& share_of(std::vector<KeyShare>& shares, const std::string& name) {
    return std::find_if(shares.begin(), shares.end(),
                        [&](const KeyShare& one) { return one.name == name; })
        ->share;
  }

  const std::string& key_;
  KeyReport& report_;
};

}  // namespace

KeyReport read_key(const std::string& key) {
  const ExpressionPtr expression = parse_key(key);
  KeyReport report;
  report.canonical = to_string(*expression);
  report.tree = draw_tree(*expression);
  report.legend = legend(*expression);
  report.models = mentioned_models(*expression);
  report.adapters = mentioned_adapters(*expression);
  KeyReader(key, report).read(*expression, 0, 1);
  return report;
}

}  // namespace thorns
