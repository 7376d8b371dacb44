// Expression to canonical key, the inverse of the parser.
#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "key/expression.h"
#include "key/lexer.h"

namespace thorns {
namespace {

struct ValueText {
  std::string operator()(double value) const { return number_text(value); }
  std::string operator()(const KeyName& name) const {
    // Unquoted, "0.5" would be a number.
    return read_number(name.text) ? "\"" + name.text + "\"" : quoted_name(name.text);
  }
  std::string operator()(const std::vector<double>& values) const {
    std::string text = "[";
    for (const double value : values) text += number_text(value) + ",";
    text.back() = ']';
    return text;
  }
};

class Printer {
 public:
  std::string run(const Expression& expression) {
    print(expression);
    return std::move(text_);
  }

 private:
  void print(const Expression& expression) {
    std::visit([this](const auto& node) { print_node(node); }, expression.node);
  }

  void print_node(const LeafExpression& leaf) { text_ += quoted_name(leaf.name.text); }

  void print_node(const CompositeExpression& composite) {
    text_ += '(';
    print(*composite.inside);
    text_ += ')';
  }

  void print_node(const FoldExpression& fold) {
    print(*fold.model);
    text_ += '[';
    const char* between = "";
    for (const KeyAdapter& adapter : fold.adapters) {
      text_ += between;
      weight(adapter.weight);
      text_ += quoted_name(adapter.name.text);
      between = "+";
    }
    options(fold.options);
    text_ += ']';
  }

  void print_node(const BlendExpression& blend) {
    const BlendExpression* last = joined(blend);
    if (last != nullptr) print(*blend.terms.front().model);
    const BlendExpression& shown = last != nullptr ? *last : blend;
    text_ += '{';
    const char* between = "";
    for (const KeyTerm& term : shown.terms) {
      text_ += between;
      weight(term.weight);
      print(*term.model);
      between = "+";
    }
    options(shown.options);
    text_ += '}';
  }

  // {X+{Y+Z}} is X{Y+Z}, one pair less; the inner blend, where it can be written so.
  static const BlendExpression* joined(const BlendExpression& blend) {
    if (blend.terms.size() != 2 || !blend.options.empty()) return nullptr;
    if (blend.terms[0].weight || blend.terms[1].weight) return nullptr;
    const auto* last = std::get_if<BlendExpression>(&blend.terms[1].model->node);
    return last != nullptr && last->options.empty() ? last : nullptr;
  }

  void weight(const std::optional<double>& weight) {
    if (weight) text_ += number_text(*weight) + "*";
  }

  void options(const KeyOptions& options) {
    const char* between = ";";
    if (options.method) {
      text_ += between + quoted_name(options.method->text);
      between = ",";
    }
    for (const KeySetting& setting : options.settings) {
      text_ += between + setting_text(setting);
      between = ",";
    }
  }

  std::string text_;
};

}  // namespace

std::string to_string(const Expression& expression) { return Printer().run(expression); }

std::string setting_text(const KeySetting& setting) {
  std::string text = quoted_name(setting.name.text);
  if (setting.filter) text += "(" + quoted_name(setting.filter->text) + ")";
  return text + "=" + std::visit(ValueText{}, setting.value);
}

std::string quoted_name(std::string_view name) {
  if (is_plain_name(name)) return std::string(name);
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

std::string number_text(double number) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  std::string text(buffer.data(), end);
  const std::size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  // "1e+05" is 1e5 in a key: a plus sign would end the number.
  std::size_t digits = exponent + 1;
  if (text[digits] == '+') text.erase(digits, 1);
  if (text[digits] == '-') ++digits;
  text.erase(digits, text.find_first_not_of('0', digits) - digits);
  return text;
}

}  // namespace thorns
