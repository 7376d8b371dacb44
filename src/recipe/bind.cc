// From a key or recipe file to a bound recipe.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "recipe/names.h"
#include "recipe/recipe.h"
#include "recipe/recipe_file.h"

namespace thorns {
namespace {

// Limits of a recipe when all `let` parts are written out.
constexpr std::size_t kMostHeight = 64;
constexpr std::size_t kMostNodes = 20'000;

// A part that has been bound: its node, and its expression with `let` names written out.
struct Bound {
  std::size_t node = 0;
  ExpressionPtr written;
  std::size_t height = 1;
  std::size_t size = 1;  // nodes of `written`
};

class Binder {
 public:
  Binder(Disk& disk, const RecipeNames& names, const Bindings& bindings)
      : disk_(disk), book_(disk, names, bindings), names_(names) {}

  Recipe bind(const RecipeFile& file) {
    for (const auto& [name, key] : file.lets) bind_let(name, key);
    text_ = file.key;
    const Bound root = bind_expression(*parse_key(text_));
    recipe_.root = root.node;
    recipe_.key = to_string(*root.written);
    recipe_.published = file.key;
    recipe_.settings = file.settings;
    return std::move(recipe_);
  }

 private:
  void bind_let(const std::string& name, const std::string& key) {
    if (names_.models.contains(name)) {
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("`{}` stands both in `models` and in `let`", name));
    }
    text_ = key;
    later_ = name;
    Bound part = bind_expression(*parse_key(key));
    if (!std::holds_alternative<LeafExpression>(part.written->node) &&
        !std::holds_alternative<CompositeExpression>(part.written->node)) {
      part.written =
          std::make_shared<const Expression>(Expression{CompositeExpression{part.written}, {}});
      ++part.height;
      ++part.size;
    }
    std::string& label = recipe_.nodes[part.node].name;
    if (label.empty()) label = name;
    lets_[name] = part;
    later_.clear();
  }

  KeySpan at(const Span& span) const { return {text_, span.begin, span.end}; }

  [[noreturn]] void fail(const Span& span, const std::string& message,
                         const std::string& hint = {}) const {
    throw Error(ErrorCode::BadRecipe, message, at(span), hint);
  }

  // ------------------------------------------------------------ nodes

  Bound bind_expression(const Expression& expression) {
    if (const auto* leaf = std::get_if<LeafExpression>(&expression.node))
      return bind_leaf(*leaf, expression.span);
    if (const auto* fold = std::get_if<FoldExpression>(&expression.node))
      return bind_fold(*fold, expression.span);
    if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
      return bind_blend(*blend, expression.span);
    }
    const auto& composite = std::get<CompositeExpression>(expression.node);
    const Bound inside = bind_expression(*composite.inside);
    return written({CompositeExpression{inside.written}, expression.span}, inside.node,
                   inside.height, inside.size);
  }

  Bound written(Expression expression, std::size_t node, std::size_t height, std::size_t size) {
    if (height + 1 > kMostHeight || size + 1 > kMostNodes) {
      fail(expression.span, "the recipe is too large when its `let` parts are written out",
           fmt::format("at most {} nested parts and {} in all", kMostHeight, kMostNodes));
    }
    return {node, std::make_shared<const Expression>(std::move(expression)), height + 1, size + 1};
  }

  Bound bind_leaf(const LeafExpression& leaf, const Span& span) {
    const std::string& name = leaf.name.text;
    if (const auto let = lets_.find(name); let != lets_.end()) return let->second;
    if (std::find(names_.lets.begin(), names_.lets.end(), name) != names_.lets.end()) {
      fail(span,
           name == later_ ? fmt::format("`{}` is made of itself", name)
                          : fmt::format("`{}` is not known yet here", name),
           "a `let` part may use the parts above it");
    }
    const Found found = book_.model(name, at(span));
    const std::size_t index = leaf_index(name, found, span);
    const std::size_t node =
        add_node(LeafNode{index}, std::make_shared<const Expression>(Expression{leaf, span}), span);
    return {node, std::make_shared<const Expression>(Expression{leaf, span}), 1, 1};
  }

  std::size_t leaf_index(const std::string& name, const Found& found, const Span& span) {
    const std::string canonical = disk_.canonical(found.path);
    const auto [at_path, is_new] = leaf_of_.try_emplace(canonical, recipe_.leaves.size());
    if (is_new) recipe_.leaves.push_back({name, found.path, found.where, at(span)});
    return at_path->second;
  }

  std::size_t adapter_index(const KeyName& name) {
    const Found found = book_.adapter(name.text, at(name.span));
    const std::string canonical = disk_.canonical(found.path);
    const auto [at_path, is_new] = adapter_of_.try_emplace(canonical, recipe_.adapters.size());
    if (is_new) recipe_.adapters.push_back({name.text, found.path, found.where, at(name.span)});
    return at_path->second;
  }

  Bound bind_fold(const FoldExpression& fold, const Span& span) {
    if (!fold.options.empty()) {
      fail(fold.options.span, "a fold takes no options",
           "a weight scales an adapter: `Model[0.7*Adapter]`");
    }
    const Bound model = bind_expression(*fold.model);
    const Bound result = written({FoldExpression{model.written, fold.adapters, {}}, span},
                                 model.node, model.height, model.size + fold.adapters.size());
    std::size_t node = model.node;
    for (const KeyAdapter& adapter : fold.adapters) {
      node = add_node(FoldNode{node, adapter_index(adapter.name), adapter.weight.value_or(1.0)},
                      result.written, span);
    }
    return {node, result.written, result.height, result.size};
  }

  Bound bind_blend(const BlendExpression& blend, const Span& span) {
    BlendNode node;
    node.method = find_method(blend.options.method ? blend.options.method->text : "slerp");
    if (node.method == nullptr) fail_unknown_method(*blend.options.method);
    BlendExpression out;
    out.options = blend.options;
    std::size_t height = 0;
    std::size_t size = 0;
    for (const KeyTerm& term : blend.terms) {
      const Bound model = bind_expression(*term.model);
      node.models.push_back(model.node);
      node.weights.push_back(term.weight.value_or(1.0));
      node.weighted = node.weighted || term.weight.has_value();
      out.terms.push_back({term.weight, term.weight_span, model.written});
      height = std::max(height, model.height);
      size += model.size;
    }
    for (const KeySetting& setting : blend.options.settings) {
      node.settings.push_back(bind_setting(*node.method, setting));
    }
    const auto complaint = node.method->check(
        node.models.size(), node.weighted ? node.weights : std::vector<double>(), node.settings);
    if (complaint) {
      fail(blend.options.settings.empty() ? span : blend.options.span, complaint->message,
           complaint->hint);
    }
    const Bound result = written({std::move(out), span}, 0, height, size);
    return {add_node(std::move(node), result.written, span), result.written, result.height,
            result.size};
  }

  // Adds a node, or finds the equal one.
  template <class Node>
  std::size_t add_node(Node node, const ExpressionPtr& expression, const Span& span) {
    const auto [known, is_new] = node_of_.try_emplace(identity(node), recipe_.nodes.size());
    if (is_new) recipe_.nodes.push_back({std::move(node), to_string(*expression), {}, at(span)});
    return known->second;
  }

  // Text that is the same for equal nodes only.
  static std::string identity(const LeafNode& node) { return fmt::format("leaf {}", node.leaf); }
  static std::string identity(const FoldNode& node) {
    return fmt::format("fold {} {} {}", node.model, node.adapter, node.weight);
  }
  static std::string identity(const BlendNode& node) {
    std::string text =
        fmt::format("blend {} {} {} {}", node.method->name(), fmt::join(node.models, " "),
                    fmt::join(node.weights, " "), node.weighted);
    for (const Setting& setting : node.settings) {
      text += fmt::format(" {} '{}' {}", setting.parameter, setting.filter,
                          fmt::join(setting.values, " "));
    }
    return text;
  }

  // ------------------------------------------------------------ options

  [[noreturn]] void fail_unknown_method(const KeyName& name) const {
    std::vector<std::string> names;
    for (const SpanMethod* method : method_catalogue()) names.push_back(method->name());
    const std::string hint = did_you_mean(name.text, names);
    fail(name.span, fmt::format("unknown method `{}`", name.text),
         hint.empty() ? "methods: " + list_text(names) : hint);
  }

  Setting bind_setting(const SpanMethod& method, const KeySetting& written_setting) const {
    const std::vector<Parameter>& parameters = method.parameters();
    std::vector<std::string> names;
    for (const Parameter& parameter : parameters) names.push_back(parameter.name);
    const auto found = std::find(names.begin(), names.end(), written_setting.name.text);
    if (found == names.end()) {
      const std::string hint = did_you_mean(written_setting.name.text, names);
      fail(written_setting.name.span,
           fmt::format("unknown parameter `{}` of {}", written_setting.name.text, method.name()),
           hint.empty() ? fmt::format("parameters of {}: {}", method.name(), list_text(names))
                        : hint);
    }
    Setting setting;
    setting.parameter = static_cast<std::size_t>(found - names.begin());
    if (written_setting.filter) setting.filter = written_setting.filter->text;
    setting.values = values_of(parameters[setting.parameter], written_setting);
    return setting;
  }

  std::vector<double> values_of(const Parameter& parameter, const KeySetting& setting) const {
    if (parameter.type == ParameterType::Flag) return {flag_of(parameter, setting)};
    std::vector<double> values;
    if (const auto* number = std::get_if<double>(&setting.value)) {
      values = {*number};
    } else if (const auto* list = std::get_if<std::vector<double>>(&setting.value)) {
      values = *list;
    } else {
      fail(setting.value_span,
           fmt::format("`{}` must be a number or a list of numbers", parameter.name));
    }
    for (const double value : values) {
      if (value >= parameter.least && value <= parameter.most) continue;
      fail(setting.value_span, fmt::format("`{}` must be between {} and {}, not {}", parameter.name,
                                           parameter.least, parameter.most, value));
    }
    return values;
  }

  double flag_of(const Parameter& parameter, const KeySetting& setting) const {
    if (const auto* name = std::get_if<KeyName>(&setting.value)) {
      if (name->text == "true") return 1;
      if (name->text == "false") return 0;
    }
    const auto* number = std::get_if<double>(&setting.value);
    if (number != nullptr && (*number == 0 || *number == 1)) return *number;
    fail(setting.value_span, fmt::format("`{}` must be true or false", parameter.name));
  }

  Disk& disk_;
  NameBook book_;
  const RecipeNames& names_;
  Recipe recipe_;
  std::string text_;   // the key being bound, for spans
  std::string later_;  // the `let` part being bound
  std::map<std::string, Bound> lets_;
  std::map<std::string, std::size_t> leaf_of_;     // by canonical path
  std::map<std::string, std::size_t> adapter_of_;  // by canonical path
  std::map<std::string, std::size_t> node_of_;     // by identity
};

// Recipes that come through standard input may be keys or files.
bool looks_like_key(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || std::string("{([\"").find(text[first]) != std::string::npos)
    return true;
  return text.find(": ") == std::string::npos && text.find(":\n") == std::string::npos;
}

bool is_weights_file(const std::string& path) {
  return path.ends_with(".safetensors") || path.ends_with(".bin") || path.ends_with(".gguf");
}

RecipeFile file_of(Disk& disk, const std::string& recipe, const std::string& standard_input) {
  RecipeFile file;
  if (recipe == "-") {
    if (!looks_like_key(standard_input)) {
      file = read_recipe_file(standard_input, "standard input");
      file.names.folder = ".";
      return file;
    }
    file.key = standard_input;
  } else if (recipe.find_first_of("{[(") == std::string::npos && !is_weights_file(recipe) &&
             disk.exists(recipe) && !disk.stat(recipe).is_folder) {
    file = read_recipe_file(read_text(disk, recipe, kMostRecipeBytes), recipe);
    file.names.folder = parent_path(recipe);
    return file;
  } else if (recipe.ends_with(".yaml") || recipe.ends_with(".yml")) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no recipe file `{}`", recipe),
                FilePlace{recipe});
  } else {
    file.key = recipe;
  }
  // A key from a file or a pipe ends with a line break that is nobody's.
  const std::size_t end = file.key.find_last_not_of(" \t\r\n");
  file.key.resize(end == std::string::npos ? 0 : end + 1);
  return file;
}

}  // namespace

Recipe bind_recipe(Disk& disk, const std::string& recipe, const Bindings& bindings,
                   const std::string& standard_input) {
  const RecipeFile file = file_of(disk, recipe, standard_input);
  return Binder(disk, file.names, bindings).bind(file);
}

}  // namespace thorns
