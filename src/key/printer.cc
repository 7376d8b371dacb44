// Expressions back to text: the canonical key, the drawn tree, the legend, the names.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "key/expression.h"
#include "key/lexer.h"

namespace thorns {
namespace {

// Shortest text that reads back as the same number, without the `+` that would end a name.
std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  std::erase(text, '+');
  return text;
}

std::string quoted(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"";
}

std::string name_text(const KeyName& name) {
  return is_plain_name(name.text) ? name.text : quoted(name.text);
}

std::string weight_text(const std::optional<double>& weight) {
  return weight ? number_text(*weight) + "*" : std::string();
}

std::string value_text(const KeySetting& setting) {
  if (const auto* number = std::get_if<double>(&setting.value)) return number_text(*number);
  if (const auto* name = std::get_if<KeyName>(&setting.value)) {
    // A name that reads as a number keeps its quotes.
    const bool numeric = number_of(name->text, {TokenKind::Word, name->text, {}}).has_value();
    return numeric ? quoted(name->text) : name_text(*name);
  }
  std::vector<std::string> entries;
  for (const double entry : std::get<std::vector<double>>(setting.value))
    entries.push_back(number_text(entry));
  return fmt::format("[{}]", fmt::join(entries, ","));
}

std::string options_text(const KeyOptions& options) {
  if (options.empty()) return {};
  std::vector<std::string> parts;
  if (options.method) parts.push_back(name_text(*options.method));
  for (const KeySetting& setting : options.settings) {
    parts.push_back(
        fmt::format("{}{}={}", name_text(setting.name),
                    setting.filter ? "(" + name_text(*setting.filter) + ")" : std::string(),
                    value_text(setting)));
  }
  return fmt::format(";{}", fmt::join(parts, ","));
}

std::string adapters_text(const FoldExpression& fold) {
  std::vector<std::string> parts;
  for (const KeyAdapter& adapter : fold.adapters) {
    parts.push_back(weight_text(adapter.weight) + name_text(adapter.name));
  }
  return fmt::format("{}", fmt::join(parts, "+"));
}

std::string terms_text(const std::vector<KeyTerm>& terms) {
  std::vector<std::string> parts;
  for (const KeyTerm& term : terms)
    parts.push_back(weight_text(term.weight) + to_string(*term.model));
  return fmt::format("{}", fmt::join(parts, "+"));
}

// `{X+{Y+Z}}` is shorter as the join `X{Y+Z}`, where neither brace has options and no weight is
// lost.
const BlendExpression* joined(const BlendExpression& blend) {
  if (blend.terms.size() != 2 || !blend.options.empty()) return nullptr;
  if (blend.terms[0].weight || blend.terms[1].weight) return nullptr;
  const auto* const inner = std::get_if<BlendExpression>(&blend.terms[1].model->node);
  return inner != nullptr && inner->options.empty() ? inner : nullptr;
}

struct Print {
  std::string operator()(const LeafExpression& leaf) const { return name_text(leaf.name); }
  std::string operator()(const FoldExpression& fold) const {
    return fmt::format("{}[{}{}]", to_string(*fold.model), adapters_text(fold),
                       options_text(fold.options));
  }
  std::string operator()(const BlendExpression& blend) const {
    if (const BlendExpression* inner = joined(blend)) {
      return fmt::format("{}{{{}}}", to_string(*blend.terms[0].model), terms_text(inner->terms));
    }
    return fmt::format("{{{}{}}}", terms_text(blend.terms), options_text(blend.options));
  }
  std::string operator()(const CompositeExpression& composite) const {
    return "(" + to_string(*composite.inside) + ")";
  }
};

std::string method_title(const BlendExpression& blend) {
  if (!blend.options.method || blend.options.method->text == "slerp") return "SLERP Merge";
  return blend.options.method->text + " merge";
}

class Drawing {
 public:
  std::string text;

  void draw(const Expression& expression, const std::string& weight, const std::string& branch,
            const std::string& below) {
    text += branch + weight + title(expression) + "\n";
    const std::vector<std::pair<std::string, const Expression*>> children = children_of(expression);
    for (std::size_t i = 0; i < children.size(); ++i) {
      const bool last = i + 1 == children.size();
      draw(*children[i].second, children[i].first, below + (last ? "└─ " : "├─ "),
           below + (last ? "   " : "│  "));
    }
  }

 private:
  static std::string title(const Expression& expression) {
    if (const auto* leaf = std::get_if<LeafExpression>(&expression.node)) return leaf->name.text;
    if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
      return "PEFT Merge [" + adapters_text(*fold) + options_text(fold->options) + "]";
    }
    if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
      const std::string options = options_text(blend->options);
      return method_title(*blend) + (options.empty() ? "" : " (" + options.substr(1) + ")");
    }
    return "Composite Model";
  }

  static std::vector<std::pair<std::string, const Expression*>> children_of(
      const Expression& expression) {
    if (const auto* fold = std::get_if<FoldExpression>(&expression.node))
      return {{"", fold->model.get()}};
    if (const auto* composite = std::get_if<CompositeExpression>(&expression.node)) {
      return {{"", composite->inside.get()}};
    }
    std::vector<std::pair<std::string, const Expression*>> children;
    if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
      for (const KeyTerm& term : blend->terms) {
        children.emplace_back(term.weight ? number_text(*term.weight) + " * " : "",
                              term.model.get());
      }
    }
    return children;
  }
};

// Calls visit(expression) for every node, from left to right, a node before what is in it.
void walk(const Expression& expression, const std::function<void(const Expression&)>& visit) {
  visit(expression);
  if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    walk(*fold->model, visit);
  } else if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    for (const KeyTerm& term : blend->terms) walk(*term.model, visit);
  } else if (const auto* composite = std::get_if<CompositeExpression>(&expression.node)) {
    walk(*composite->inside, visit);
  }
}

void add_once(std::vector<std::string>& to, const std::string& text) {
  if (std::find(to.begin(), to.end(), text) == to.end()) to.push_back(text);
}

bool same_options(const KeyOptions& a, const KeyOptions& b) {
  return options_text(a) == options_text(b);
}

}  // namespace

std::string to_string(const Expression& expression) { return std::visit(Print{}, expression.node); }

bool same(const Expression& a, const Expression& b) {
  if (a.node.index() != b.node.index()) return false;
  if (const auto* leaf = std::get_if<LeafExpression>(&a.node)) {
    return leaf->name.text == std::get<LeafExpression>(b.node).name.text;
  }
  if (const auto* fold = std::get_if<FoldExpression>(&a.node)) {
    const auto& other = std::get<FoldExpression>(b.node);
    const auto equal = [](const KeyAdapter& x, const KeyAdapter& y) {
      return x.weight == y.weight && x.name.text == y.name.text;
    };
    return std::equal(fold->adapters.begin(), fold->adapters.end(), other.adapters.begin(),
                      other.adapters.end(), equal) &&
           same_options(fold->options, other.options) && same(*fold->model, *other.model);
  }
  if (const auto* blend = std::get_if<BlendExpression>(&a.node)) {
    const auto& other = std::get<BlendExpression>(b.node);
    const auto equal = [](const KeyTerm& x, const KeyTerm& y) {
      return x.weight == y.weight && same(*x.model, *y.model);
    };
    return same_options(blend->options, other.options) &&
           std::equal(blend->terms.begin(), blend->terms.end(), other.terms.begin(),
                      other.terms.end(), equal);
  }
  return same(*std::get<CompositeExpression>(a.node).inside,
              *std::get<CompositeExpression>(b.node).inside);
}

std::string draw_tree(const Expression& expression) {
  Drawing drawing;
  drawing.draw(expression, "", "", "");
  return drawing.text;
}

std::vector<std::string> legend(const Expression& expression) {
  std::vector<std::string> blends;
  bool folds = false;
  bool composites = false;
  walk(expression, [&](const Expression& node) {
    if (const auto* blend = std::get_if<BlendExpression>(&node.node)) {
      const std::string title = method_title(*blend);
      add_once(
          blends,
          (title == "SLERP Merge" ? "{} = " : "{;" + blend->options.method->text + "} = ") + title);
    }
    folds = folds || std::holds_alternative<FoldExpression>(node.node);
    composites = composites || std::holds_alternative<CompositeExpression>(node.node);
  });
  std::vector<std::string> lines = std::move(blends);
  if (folds) lines.emplace_back("[] = PEFT Merge");
  if (composites) lines.emplace_back("() = Composite Model");
  return lines;
}

std::vector<std::string> mentioned_models(const Expression& expression) {
  std::vector<std::string> names;
  walk(expression, [&](const Expression& node) {
    if (const auto* leaf = std::get_if<LeafExpression>(&node.node))
      add_once(names, leaf->name.text);
  });
  return names;
}

std::vector<std::string> mentioned_adapters(const Expression& expression) {
  // A fold's adapters stand behind its model.
  std::vector<std::pair<std::size_t, std::string>> found;
  walk(expression, [&](const Expression& node) {
    if (const auto* fold = std::get_if<FoldExpression>(&node.node)) {
      for (const KeyAdapter& adapter : fold->adapters) {
        found.emplace_back(adapter.name.span.begin, adapter.name.text);
      }
    }
  });
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> names;
  for (const auto& [at, name] : found) add_once(names, name);
  return names;
}

}  // namespace thorns
