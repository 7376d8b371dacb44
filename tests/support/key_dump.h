// The structure of an expression as text, for tests. It is written without the printer on purpose:
// where both are wrong in the same way, no test would see it.
#pragma once

#include <fmt/format.h>

#include <string>

#include "key/expression.h"

namespace thorns {

inline std::string dump_options(const KeyOptions& options) {
  std::string text;
  if (options.method) text += ";method<" + options.method->text + ">";
  for (const KeySetting& setting : options.settings) {
    text += ";" + setting.name.text;
    if (setting.filter) text += "<" + setting.filter->text + ">";
    text += "=";
    if (const auto* number = std::get_if<double>(&setting.value)) {
      text += fmt::format("{}", *number);
    } else if (const auto* name = std::get_if<KeyName>(&setting.value)) {
      text += "name<" + name->text + ">";
    } else {
      text += fmt::format("list<{}>", fmt::join(std::get<std::vector<double>>(setting.value), " "));
    }
  }
  return text;
}

// slerp of two leaves: "blend(A,B)"; a fold: "fold(A|0.5*L,K)"; a composite: "part(A)".
inline std::string dump(const Expression& expression) {
  const auto weighted = [](const std::optional<double>& weight) {
    return weight ? fmt::format("{}*", *weight) : std::string();
  };
  if (const auto* leaf = std::get_if<LeafExpression>(&expression.node)) return leaf->name.text;
  if (const auto* fold = std::get_if<FoldExpression>(&expression.node)) {
    std::string text = "fold(" + dump(*fold->model);
    const char* between = "|";
    for (const KeyAdapter& adapter : fold->adapters) {
      text += between + weighted(adapter.weight) + adapter.name.text;
      between = ",";
    }
    return text + dump_options(fold->options) + ")";
  }
  if (const auto* blend = std::get_if<BlendExpression>(&expression.node)) {
    std::string text = "blend(";
    const char* between = "";
    for (const KeyTerm& term : blend->terms) {
      text += between + weighted(term.weight) + dump(*term.model);
      between = ",";
    }
    return text + dump_options(blend->options) + ")";
  }
  return "part(" + dump(*std::get<CompositeExpression>(expression.node).inside) + ")";
}

}  // namespace thorns
