// What the key alone says: the same adapter reaching the result more than once.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "insight/brief.h"
#include "insight/findings.h"
#include "insight/mentions.h"
#include "insight/stacks.h"

namespace thorns {
namespace {

class RecipeFindings {
 public:
  RecipeFindings(const Recipe& recipe, const std::vector<std::size_t>& same)
      : recipe_(recipe), same_(same), mentions_(recipe) {}

  std::vector<Finding> run() {
    for (std::size_t a = 0; a < recipe_.adapters.size(); ++a) {
      if (same_[a] != a) find_same_content(a);
    }
    find_repeated();
    return std::move(findings_);
  }

 private:
  void find_same_content(std::size_t adapter) {
    const std::string& name = recipe_.adapters[adapter].name;
    const std::string& first = recipe_.adapters[same_[adapter]].name;
    Finding finding{"adapter-same-content", Severity::Warning,
                    fmt::format("`{}` holds the same numbers as `{}`", name, first),
                    "keep one of the two names, so that the key shows what is folded twice",
                    recipe_.adapters[adapter].span};
    finding.adapter = name;
    findings_.push_back(std::move(finding));
  }

  // The adapters (the first of each content) below every node.
  std::vector<std::set<std::size_t>> adapters_below() const {
    std::vector<std::set<std::size_t>> below(recipe_.nodes.size());
    for (std::size_t n = 0; n < below.size(); ++n) {
      const auto& node = recipe_.nodes[n].node;
      if (const auto* fold = std::get_if<FoldNode>(&node)) {
        below[n] = below[fold->model];
        for (const auto& share : fold->adapters) below[n].insert(same_[share.adapter]);
      } else if (const auto* blend = std::get_if<BlendNode>(&node)) {
        for (const std::size_t model : blend->models) {
          below[n].insert(below[model].begin(), below[model].end());
        }
      }
    }
    return below;
  }

  void find_repeated() {
    const auto below = adapters_below();
    const std::vector<double> ways = ways_to_root(recipe_);
    const std::vector<double> shares = nominal_shares(recipe_);
    for (const std::size_t adapter : below[recipe_.root]) {
      double times = 0;
      double weight = 0;
      std::vector<std::string> twice_on;  // models that carry it already
      std::vector<std::string> joined_at;
      for (std::size_t n = 0; n < recipe_.nodes.size(); ++n) {
        if (ways[n] == 0) continue;
        const auto& node = recipe_.nodes[n].node;
        if (const auto* fold = std::get_if<FoldNode>(&node)) {
          const auto share =
              std::find_if(fold->adapters.begin(), fold->adapters.end(),
                           [&](const auto& other) { return same_[other.adapter] == adapter; });
          if (share == fold->adapters.end()) continue;
          times += ways[n];
          weight += shares[n] * share->weight;
          if (below[fold->model].contains(adapter)) {
            twice_on.push_back(brief(recipe_.nodes[fold->model].key));
          }
        } else if (const auto* blend = std::get_if<BlendNode>(&node)) {
          const auto sides =
              std::count_if(blend->models.begin(), blend->models.end(),
                            [&](std::size_t model) { return below[model].contains(adapter); });
          if (sides > 1) joined_at.push_back(brief(recipe_.nodes[n].key));
        }
      }
      if (times > 1) add_repeated(adapter, times, weight, twice_on, joined_at);
    }
  }

  void add_repeated(std::size_t adapter, double times, double weight,
                    const std::vector<std::string>& twice_on,
                    const std::vector<std::string>& joined_at) {
    const std::string& name = recipe_.adapters[adapter].name;
    std::string how;
    if (!twice_on.empty()) how += ", folded into what has it already: " + list_text(twice_on, 2);
    if (!joined_at.empty()) how += ", from several sides of " + list_text(joined_at, 2);
    const std::vector<KeySpan>& spans = mentions_.of(adapter);
    Finding finding{
        "adapter-repeated", Severity::Warning,
        fmt::format("`{}` reaches the result by {:g} ways{}; by the key's weights {:.3g} of it "
                    "arrive",
                    name, times, how, weight),
        "fold an adapter once, into the model that gains most from it",
        spans.size() > 1 ? spans[1] : recipe_.adapters[adapter].span};
    finding.adapter = name;
    finding.measured = {{"ways", times}, {"nominal_weight", weight}};
    findings_.push_back(std::move(finding));
  }

  const Recipe& recipe_;
  const std::vector<std::size_t>& same_;
  Mentions mentions_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> recipe_findings(const Recipe& recipe,
                                     const std::vector<std::size_t>& same_adapter) {
  return RecipeFindings(recipe, same_adapter).run();
}

}  // namespace thorns
