#include "insight/mentions.h"

#include "key/expression.h"

namespace thorns {

Mentions::Mentions(const Recipe& recipe) : spans_(recipe.adapters.size()) {
  ExpressionPtr expression;
  try {
    expression = parse_key(recipe.key);
  } catch (const Error&) {  // a recipe that was never a key
    return;
  }
  visit_names(
      *expression, [](const KeyName&) {},
      [&](const KeyName& name) {
        for (std::size_t i = 0; i < recipe.adapters.size(); ++i) {
          if (recipe.adapters[i].name != name.text) continue;
          spans_[i].push_back({recipe.key, name.span.begin, name.span.end});
        }
      });
}

}  // namespace thorns
