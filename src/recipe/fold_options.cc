#include "recipe/fold_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "base/text.h"

namespace thorns {
namespace {

constexpr double kLargestWhole = 9007199254740992.0;  // 2^53

std::string rules_text() {
  std::vector<std::string> names;
  for (const CombinationRule& rule : combination_rules()) names.emplace_back(rule.name);
  return list_text(names, names.size());
}

std::vector<std::string> parameters_of(const CombinationRule& rule) {
  std::vector<std::string> names;
  for (const CombinationParameter parameter : rule.parameters()) {
    names.emplace_back(name_of(parameter));
  }
  return names;
}

class CombinationBinder {
 public:
  CombinationBinder(const FoldExpression& fold, const FailAt& fail) : fold_(fold), fail_(fail) {}

  Combination bind() {
    Combination how;
    how.rule = rule();
    if (fold_.adapters.size() < 2) {
      fail_(fold_.options.span,
            fmt::format("`{}` combines several adapters, and this is one", how.rule.name),
            "scale a single adapter with a weight before its name: `A[0.7*L]`");
    }
    for (const KeySetting& setting : fold_.options.settings) set(how, setting);
    if (how.rule.prunes() && !seen_.contains("density")) {
      fail_(fold_.options.method->span,
            fmt::format("`{}` needs a density: the part of the elements that it keeps",
                        how.rule.name),
            fmt::format("write `; {}, density=0.5`", how.rule.name));
    }
    return how;
  }

 private:
  CombinationRule rule() const {
    const auto& named = fold_.options.method;
    if (!named) {
      fail_(fold_.options.span, "these options do not say how the adapters are combined",
            fmt::format("name that first, as in `A[L+K; ties, density=0.5]`: {}", rules_text()));
    }
    if (const CombinationRule* found = find_combination_rule(named->text)) return *found;
    std::vector<std::string> names;
    for (const CombinationRule& known : combination_rules()) names.emplace_back(known.name);
    const std::string near = did_you_mean(named->text, names);
    fail_(named->span, fmt::format("unknown combination of adapters `{}`", named->text),
          near.empty() ? "combinations: " + rules_text() : near);
    return {};
  }

  void set(Combination& how, const KeySetting& setting) {
    const std::string& name = setting.name.text;
    const std::vector<std::string> known = parameters_of(how.rule);
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = did_you_mean(name, known);
      fail_(setting.name.span, fmt::format("unknown parameter `{}` of {}", name, how.rule.name),
            !near.empty()   ? near
            : known.empty() ? fmt::format("{} has no parameters", how.rule.name)
                            : fmt::format("parameters of {}: {}", how.rule.name, list_text(known)));
    }
    if (!seen_.insert(name).second) {
      fail_(setting.name.span, fmt::format("`{}` is given twice", name), "keep one of the two");
    }
    if (setting.filter) {
      fail_(setting.filter->span, "the parameters of a fold are the same for all tensors",
            fmt::format("write `{}=...` without a filter", name));
    }
    if (name == "majority_sign_method") {
      how.by_frequency = word(setting, "total", "frequency") == "frequency";
    } else if (name == "density") {
      how.density = density(setting);
    } else if (name == "svd_rank") {
      how.svd_rank = whole(setting, 1);
    } else {
      how.seed = whole(setting, 0);
    }
  }

  std::string word(const KeySetting& setting, const char* one, const char* other) const {
    const auto* const text = std::get_if<KeyName>(&setting.value);
    if (text == nullptr || (text->text != one && text->text != other)) {
      refuse(setting, fmt::format("{} or {}", one, other));
    }
    return text->text;
  }

  double density(const KeySetting& setting) const {
    const auto* const value = std::get_if<double>(&setting.value);
    if (value == nullptr || *value <= 0 || *value > 1) refuse(setting, "more than 0, at most 1");
    return *value;
  }

  std::uint64_t whole(const KeySetting& setting, double least) const {
    const auto* const value = std::get_if<double>(&setting.value);
    if (value == nullptr || *value < least || *value >= kLargestWhole ||
        *value != std::floor(*value)) {
      refuse(setting, fmt::format("a whole number from {}", number_text(least)));
    }
    return static_cast<std::uint64_t>(*value);
  }

  [[noreturn]] void refuse(const KeySetting& setting, const std::string& allowed) const {
    fail_(setting.value_span, fmt::format("`{}` has no such value", setting_text(setting)),
          "allowed: " + allowed);
    throw std::logic_error("FailAt must throw");
  }

  const FoldExpression& fold_;
  const FailAt& fail_;
  std::set<std::string> seen_;
};

}  // namespace

Combination bind_combination_options(const FoldExpression& fold, const FailAt& fail) {
  return CombinationBinder(fold, fail).bind();
}

}  // namespace thorns
