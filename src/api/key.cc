// read_key: a key read back for people, without touching a file.
#include "key/expression.h"
#include "thorns/thorns.h"

namespace thorns {

KeyReport read_key(const std::string& key) {
  const ExpressionPtr expression = parse_key(key);
  KeyReport report;
  report.canonical = to_string(*expression);
  report.tree = draw_tree(*expression);
  report.legend = legend(*expression);
  report.models = mentioned_models(*expression);
  report.adapters = mentioned_adapters(*expression);
  return report;
}

}  // namespace thorns
