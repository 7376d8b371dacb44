#include "recipe/blend_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace thorns {
namespace {

constexpr const char* kDefaultMethod = "slerp";

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const SpanMethod* method : method_catalogue()) names.push_back(method->name());
  return names;
}

std::vector<std::string> parameter_names(const SpanMethod& method) {
  std::vector<std::string> names;
  for (const Parameter& parameter : method.parameters()) names.push_back(parameter.name);
  return names;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& candidates,
                       const std::string& else_hint) {
  const std::string near = did_you_mean(word, candidates);
  return near.empty() ? else_hint : near;
}

std::string range_text(const Parameter& parameter) {
  const bool below = std::isinf(parameter.least);
  const bool above = std::isinf(parameter.most);
  if (below && above) return "any number";
  if (above) return fmt::format("at least {}", number_text(parameter.least));
  if (below) return fmt::format("at most {}", number_text(parameter.most));
  return fmt::format("between {} and {}", number_text(parameter.least),
                     number_text(parameter.most));
}

class OptionBinder {
 public:
  OptionBinder(const BlendExpression& blend, Span span, const FailAt& fail)
      : blend_(blend), span_(span), fail_(fail) {}

  void bind(BlendNode& node) {
    node.method = method();
    for (const KeySetting& setting : blend_.options.settings) {
      node.settings.push_back(bind_setting(*node.method, setting));
      refuse_if_unreachable(node.settings, setting);
    }
    for (const KeyTerm& term : blend_.terms) {
      node.weights.push_back(term.weight.value_or(1.0));
      node.weighted = node.weighted || term.weight.has_value();
    }
    const MethodUse use{
        blend_.terms.size(),
        node.weighted ? std::span<const double>(node.weights) : std::span<const double>{},
        node.settings};
    if (const auto complaint = node.method->check(use)) {
      const auto& settings = blend_.options.settings;
      const Span place = complaint->setting ? whole(settings.at(*complaint->setting)) : span_;
      fail_(place, complaint->message, complaint->hint);
    }
  }

 private:
  static Span whole(const KeySetting& setting) {
    return {setting.name.span.begin, setting.value_span.end};
  }

  const SpanMethod* method() const {
    const auto& named = blend_.options.method;
    const std::string name = named ? named->text : kDefaultMethod;
    const SpanMethod* const found = find_method(name);
    if (found != nullptr) return found;
    const SpanMethod* const usual = find_method(kDefaultMethod);
    const auto parameters = usual != nullptr ? parameter_names(*usual) : std::vector<std::string>{};
    const bool is_parameter =
        std::find(parameters.begin(), parameters.end(), name) != parameters.end();
    const std::string all = "methods: " + list_text(method_names(), 40);
    fail_(named ? named->span : span_, fmt::format("unknown method `{}`", name),
          is_parameter
              ? fmt::format("`{0}` is a parameter of {1} and needs a value, as in `{0}=0.3`", name,
                            kDefaultMethod)
              : suggestion(name, method_names(), all));
    return nullptr;
  }

  Setting bind_setting(const SpanMethod& method, const KeySetting& setting) const {
    const auto& parameters = method.parameters();
    const std::string& name = setting.name.text;
    const auto found =
        std::find_if(parameters.begin(), parameters.end(),
                     [&](const Parameter& parameter) { return parameter.name == name; });
    if (found == parameters.end()) {
      const auto known = parameter_names(method);
      fail_(setting.name.span, fmt::format("unknown parameter `{}` of {}", name, method.name()),
            suggestion(name, known,
                       known.empty() ? method.name() + " has no parameters"
                                     : fmt::format("parameters of {}: {}", method.name(),
                                                   list_text(known, 40))));
    }
    Setting bound;
    bound.parameter = static_cast<std::size_t>(found - parameters.begin());
    if (setting.filter) bound.filter = setting.filter->text;
    bound.values =
        found->type == ParameterType::Flag ? flag(*found, setting) : numbers(*found, setting);
    return bound;
  }

  std::vector<double> flag(const Parameter& parameter, const KeySetting& setting) const {
    const auto* const word = std::get_if<KeyName>(&setting.value);
    if (word == nullptr || (word->text != "true" && word->text != "false")) {
      fail_(setting.value_span, fmt::format("`{}` takes true or false", parameter.name),
            fmt::format("write `{0}=true` or `{0}=false`", parameter.name));
      return {};
    }
    return {word->text == "true" ? 1.0 : 0.0};
  }

  std::vector<double> numbers(const Parameter& parameter, const KeySetting& setting) const {
    if (const auto* const word = std::get_if<KeyName>(&setting.value)) {
      fail_(setting.value_span,
            fmt::format("`{}` takes a number or a list of numbers, found `{}`", parameter.name,
                        word->text),
            fmt::format("allowed: {}", range_text(parameter)));
      return {};
    }
    const auto* const list = std::get_if<std::vector<double>>(&setting.value);
    std::vector<double> values =
        list != nullptr ? *list : std::vector<double>{std::get<double>(setting.value)};
    for (const double value : values) {
      if (value >= parameter.least && value <= parameter.most) continue;
      fail_(setting.value_span,
            fmt::format("`{}` is {} here; allowed: {}", parameter.name, number_text(value),
                        range_text(parameter)),
            parameter.help);
    }
    return values;
  }

  // The first option that matches wins: what stands behind one that always matches never counts.
  void refuse_if_unreachable(const std::vector<Setting>& settings,
                             const KeySetting& written) const {
    const Setting& last = settings.back();
    for (std::size_t i = 0; i + 1 < settings.size(); ++i) {
      if (settings[i].parameter != last.parameter ||
          last.filter.find(settings[i].filter) == std::string::npos) {
        continue;
      }
      fail_(whole(written),
            fmt::format("this never counts: `{}` before it matches first",
                        setting_text(blend_.options.settings[i])),
            "the first option that matches wins: put options with longer filters first and the "
            "one without filter last");
    }
  }

  const BlendExpression& blend_;
  Span span_;
  const FailAt& fail_;
};

}  // namespace

void bind_options(const BlendExpression& blend, Span span, const FailAt& fail, BlendNode& node) {
  OptionBinder(blend, span, fail).bind(node);
}

}  // namespace thorns
