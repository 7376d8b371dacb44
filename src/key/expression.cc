// What can be asked of an expression without binding it: equality, depth, names, and views of it
// for people.
#include "key/expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

namespace thorns {
namespace {

bool same_name(const std::optional<KeyName>& a, const std::optional<KeyName>& b) {
  return a.has_value() == b.has_value() && (!a || a->text == b->text);
}

bool same_value(const KeySetting& a, const KeySetting& b) {
  if (a.value.index() != b.value.index()) return false;
  if (const auto* name = std::get_if<KeyName>(&a.value)) {
    return name->text == std::get<KeyName>(b.value).text;
  }
  if (const auto* number = std::get_if<double>(&a.value)) {
    return *number == std::get<double>(b.value);
  }
  return std::get<std::vector<double>>(a.value) == std::get<std::vector<double>>(b.value);
}

bool same_options(const KeyOptions& a, const KeyOptions& b) {
  return same_name(a.method, b.method) &&
         std::equal(a.settings.begin(), a.settings.end(), b.settings.begin(), b.settings.end(),
                    [](const KeySetting& x, const KeySetting& y) {
                      return x.name.text == y.name.text && same_name(x.filter, y.filter) &&
                             same_value(x, y);
                    });
}

// Collects names, each once.
class Names {
 public:
  void add(const KeyName& name) {
    if (seen_.insert(name.text).second) list_.push_back(name.text);
  }
  std::vector<std::string> take() { return std::move(list_); }

 private:
  std::set<std::string> seen_;
  std::vector<std::string> list_;
};

std::string weight_text(const std::optional<double>& weight) {
  return weight ? number_text(*weight) + " * " : std::string();
}

struct TreeDrawer {
  std::string text;

  void draw(const Expression& expression, const std::string& lead, std::size_t depth) {
    const auto line = [&](const std::string& words) {
      text += std::string(2 * depth, ' ') + lead + words + "\n";
    };
    if (const auto* leaf = std::get_if<LeafExpression>(&expression.node)) {
      line(leaf->name.text);
    } else if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
      std::string adapters;
      for (const KeyAdapter& adapter : fold->adapters) {
        adapters +=
            (adapters.empty() ? "" : " + ") + weight_text(adapter.weight) + adapter.name.text;
      }
      line("PEFT merge of " + adapters + options_text(fold->options) + " into");
      draw(*fold->model, "", depth + 1);
    } else if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
      line(merge_name(blend->options) + options_text(blend->options));
      for (const KeyTerm& term : blend->terms)
        draw(*term.model, weight_text(term.weight), depth + 1);
    } else {
      line("composite model");
      draw(*std::get<CompositeExpression>(expression.node).inside, "", depth + 1);
    }
  }
};

struct Brackets {
  bool fold = false;
  bool composite = false;
  bool slerp = false;
  Names methods;  // other than slerp
};

void find_brackets(const Expression& expression, Brackets& found) {
  if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    found.fold = true;
    find_brackets(*fold->model, found);
  } else if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    const auto& method = blend->options.method;
    if (method && method->text != "slerp") {
      found.methods.add(*method);
    } else {
      found.slerp = true;
    }
    for (const KeyTerm& term : blend->terms) find_brackets(*term.model, found);
  } else if (const auto* composite = std::get_if<CompositeExpression>(&expression.node)) {
    found.composite = true;
    find_brackets(*composite->inside, found);
  }
}

}  // namespace

std::string options_text(const KeyOptions& options) {
  std::string text;
  for (const KeySetting& setting : options.settings) {
    text += (text.empty() ? " with " : ", ") + setting_text(setting);
  }
  return text;
}

std::string merge_name(const KeyOptions& options) {
  const bool is_slerp = !options.method || options.method->text == "slerp";
  return is_slerp ? "SLERP merge" : options.method->text + " merge";
}

Expression fold_into(ExpressionPtr model, std::vector<KeyAdapter> adapters, KeyOptions options,
                     Span span) {
  const auto* fold = std::get_if<FoldExpression>(&model->node);
  if (fold == nullptr || !fold->options.empty() || !options.empty()) {
    return {FoldExpression{std::move(model), std::move(adapters), std::move(options)}, span};
  }
  FoldExpression both = *fold;
  std::move(adapters.begin(), adapters.end(), std::back_inserter(both.adapters));
  return {std::move(both), span};
}

std::size_t depth_of(const Expression& expression) {
  if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    const bool on_fold = std::holds_alternative<FoldExpression>(fold->model->node);
    return std::max<std::size_t>(1, depth_of(*fold->model) + (on_fold ? 1 : 0));
  }
  if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    std::size_t deepest = 0;
    for (const KeyTerm& term : blend->terms) deepest = std::max(deepest, depth_of(*term.model));
    return deepest + 1;
  }
  if (const auto* composite = std::get_if<CompositeExpression>(&expression.node)) {
    return depth_of(*composite->inside) + 1;
  }
  return 0;
}

bool same(const Expression& a, const Expression& b) {
  if (a.node.index() != b.node.index()) return false;
  if (const auto* leaf = std::get_if<LeafExpression>(&a.node)) {
    return leaf->name.text == std::get<LeafExpression>(b.node).name.text;
  }
  if (const auto* fold = std::get_if<FoldExpression>(&a.node)) {
    const auto& other = std::get<FoldExpression>(b.node);
    return std::equal(fold->adapters.begin(), fold->adapters.end(), other.adapters.begin(),
                      other.adapters.end(),
                      [](const KeyAdapter& x, const KeyAdapter& y) {
                        return x.weight == y.weight && x.name.text == y.name.text;
                      }) &&
           same_options(fold->options, other.options) && same(*fold->model, *other.model);
  }
  if (const auto* blend = std::get_if<BlendExpression>(&a.node)) {
    const auto& other = std::get<BlendExpression>(b.node);
    return same_options(blend->options, other.options) &&
           std::equal(blend->terms.begin(), blend->terms.end(), other.terms.begin(),
                      other.terms.end(), [](const KeyTerm& x, const KeyTerm& y) {
                        return x.weight == y.weight && same(*x.model, *y.model);
                      });
  }
  return same(*std::get<CompositeExpression>(a.node).inside,
              *std::get<CompositeExpression>(b.node).inside);
}

std::string draw_tree(const Expression& expression) {
  TreeDrawer drawer;
  drawer.draw(expression, "", 0);
  return std::move(drawer.text);
}

std::vector<std::string> legend(const Expression& expression) {
  Brackets found;
  find_brackets(expression, found);
  std::vector<std::string> lines;
  if (found.slerp) lines.emplace_back("{} = SLERP Merge");
  for (const std::string& method : found.methods.take()) {
    lines.push_back(fmt::format("{{; {0}}} = {0} merge", quoted_name(method)));
  }
  if (found.fold) lines.emplace_back("[] = PEFT Merge");
  if (found.composite) lines.emplace_back("() = Composite Model");
  return lines;
}

void visit_names(const Expression& expression, const std::function<void(const KeyName&)>& on_model,
                 const std::function<void(const KeyName&)>& on_adapter) {
  if (const auto* leaf = std::get_if<LeafExpression>(&expression.node)) {
    on_model(leaf->name);
  } else if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    visit_names(*fold->model, on_model, on_adapter);
    for (const KeyAdapter& adapter : fold->adapters) on_adapter(adapter.name);
  } else if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    for (const KeyTerm& term : blend->terms) visit_names(*term.model, on_model, on_adapter);
  } else {
    visit_names(*std::get<CompositeExpression>(expression.node).inside, on_model, on_adapter);
  }
}

std::vector<std::string> mentioned_models(const Expression& expression) {
  Names names;
  visit_names(
      expression, [&](const KeyName& name) { names.add(name); }, [](const KeyName&) {});
  return names.take();
}

std::vector<std::string> mentioned_adapters(const Expression& expression) {
  Names names;
  visit_names(
      expression, [](const KeyName&) {}, [&](const KeyName& name) { names.add(name); });
  return names.take();
}

}  // namespace thorns
