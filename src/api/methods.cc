// methods: the catalogue of merge methods in words.
#include <fmt/format.h>

#include <cmath>

#include "method/combination.h"
#include "method/method.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

// Where a method takes "any number of" models, its upper bound is at least this.
constexpr std::size_t kAnyNumber = 1000;

std::string models_text(const SpanMethod& method) {
  const std::size_t least = method.least_models();
  const std::size_t most = method.most_models();
  if (most == least) return fmt::format("{}", least);
  if (most >= kAnyNumber) return fmt::format("{} or more", least);
  return fmt::format("{} to {}", least, most);
}

std::string default_text(const Parameter& parameter) {
  if (!parameter.default_value) return {};
  if (parameter.type == ParameterType::Flag)
    return *parameter.default_value != 0 ? "true" : "false";
  return fmt::format("{}", *parameter.default_value);
}

std::string range_text(const Parameter& parameter) {
  if (parameter.type == ParameterType::Flag) return "true or false";
  const bool bounded_below = std::isfinite(parameter.least);
  const bool bounded_above = std::isfinite(parameter.most);
  if (bounded_below && bounded_above) {
    return fmt::format("{} to {}", parameter.least, parameter.most);
  }
  if (bounded_below) return fmt::format("at least {}", parameter.least);
  if (bounded_above) return fmt::format("at most {}", parameter.most);
  return "any number";
}

MethodParameter describe(const Parameter& parameter) {
  return {.name = parameter.name,
          .type = parameter.type == ParameterType::Flag ? "flag" : "number",
          .default_value = default_text(parameter),
          .range = range_text(parameter),
          .help = parameter.help};
}

MethodParameter describe(CombinationParameter parameter) {
  switch (parameter) {
    case CombinationParameter::Density:
      return {.name = name_of(parameter),
              .type = "number",
              .default_value = {},
              .range = "more than 0, at most 1",
              .help = "part of the elements that is kept; it must be given"};
    case CombinationParameter::MajoritySignMethod:
      return {
          .name = name_of(parameter),
          .type = "word",
          .default_value = "total",
          .range = "total or frequency",
          .help = "how the sign of an element is elected: by the sum of all, or by their number"};
    case CombinationParameter::Seed:
      return {.name = name_of(parameter),
              .type = "number",
              .default_value = "0",
              .range = "whole, at least 0",
              .help = "where the random choice of elements begins"};
    case CombinationParameter::SvdRank:
      return {.name = name_of(parameter),
              .type = "number",
              .default_value = {},
              .range = "whole, at least 1",
              .help = "rank of the result; without it, the largest rank of the adapters"};
  }
  return {};
}

}  // namespace

std::vector<MethodInfo> methods() {
  std::vector<MethodInfo> list;
  for (const SpanMethod* method : method_catalogue()) {
    MethodInfo info{.name = method->name(),
                    .summary = method->summary(),
                    .reference = method->reference(),
                    .models = models_text(*method),
                    .parameters = {}};
    for (const Parameter& parameter : method->parameters()) {
      info.parameters.push_back(describe(parameter));
    }
    list.push_back(std::move(info));
  }
  return list;
}

std::vector<MethodInfo> combinations() {
  std::vector<MethodInfo> list;
  for (const CombinationRule& rule : combination_rules()) {
    MethodInfo info{.name = std::string(rule.name),
                    .summary = std::string(rule.summary),
                    .reference = std::string(rule.reference()),
                    .models = "2 or more",
                    .parameters = {}};
    for (const CombinationParameter parameter : rule.parameters()) {
      info.parameters.push_back(describe(parameter));
    }
    list.push_back(std::move(info));
  }
  return list;
}

}  // namespace thorns
