#include "insight/adapter_facts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "insight/measured_span.h"

namespace thorns {
namespace {

const char* change_text(UpdateKind kind) {
  switch (kind) {
    case UpdateKind::Replace:
      return "replaced";
    case UpdateKind::Map:
      return "map";
    case UpdateKind::LowRank:
      return "low rank";
    case UpdateKind::Add:
    case UpdateKind::Generate:
      return "sum";
    case UpdateKind::Normalise:
      return "lines scaled";
  }
  return "";
}

struct NaturalLess {
  bool operator()(const std::string& a, const std::string& b) const { return natural_less(a, b); }
};
// The updates of each parameter, in the order in which they are applied.
using ByParameter = std::map<std::string, std::vector<const Update*>, NaturalLess>;

ByParameter by_parameter(const Adapter& adapter) {
  ByParameter all;
  for (const Update& update : adapter.updates()) {
    all[update.module + "." + update.parameter].push_back(&update);
  }
  for (auto& [name, updates] : all) {
    std::stable_sort(updates.begin(), updates.end(),
                     [](const Update* a, const Update* b) { return a->kind < b->kind; });
  }
  return all;
}

// The last component of a module's name, with one before it that is a number.
std::string target_name(const std::string& module) {
  std::size_t dot = module.rfind('.');
  if (dot == module.npos) return module;
  const bool number = module.find_first_not_of("0123456789", dot + 1) == module.npos;
  if (number && dot > 0) dot = module.rfind('.', dot - 1);
  return dot == module.npos ? module : module.substr(dot + 1);
}

bool is_of_family(const Update& update) {
  return update.kind != UpdateKind::Replace && update.parameter != "bias";
}

std::vector<RankUse> ranks_of(const Adapter& adapter) {
  std::map<std::tuple<std::uint64_t, std::optional<double>, double>, std::uint64_t> counts;
  for (const Update& update : adapter.updates()) {
    if (!is_of_family(update) || update.rank == 0) continue;
    if (update.kind == UpdateKind::Add || update.kind == UpdateKind::Normalise) continue;
    ++counts[{update.rank, update.alpha, update.scale}];
  }
  std::vector<RankUse> ranks;
  for (const auto& [key, count] : counts) {
    ranks.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), count});
  }
  std::stable_sort(ranks.begin(), ranks.end(),
                   [](const RankUse& a, const RankUse& b) { return a.updates > b.updates; });
  return ranks;
}

std::vector<TargetUse> targets_of(const ByParameter& parameters) {
  std::map<std::string, std::uint64_t> counts;
  for (const auto& [name, updates] : parameters) {
    if (!is_of_family(*updates.back())) continue;
    const Update& update = *updates.back();
    const std::string target = target_name(update.module);
    ++counts[update.parameter == "weight" ? target : target + "." + update.parameter];
  }
  std::vector<TargetUse> targets;
  for (const auto& [name, count] : counts) targets.push_back({name, count});
  return targets;
}

}  // namespace

AdapterFacts adapter_facts(const Adapter& adapter) {
  AdapterFacts facts;
  facts.family = adapter.family();
  facts.base_model = adapter.base_model();
  facts.warnings = adapter.warnings();
  facts.ranks = ranks_of(adapter);
  const ByParameter parameters = by_parameter(adapter);
  facts.targets = targets_of(parameters);
  for (const auto& [name, updates] : parameters) {
    if (updates.front()->kind == UpdateKind::Replace) facts.replaced.push_back(name);
    UpdateFacts one;
    one.parameter = name;
    for (const Update* update : updates) {
      one.change += (one.change.empty() ? "" : ", ") + std::string(change_text(update->kind));
      one.rank = std::max(one.rank, update->rank);
      if (update->kind != UpdateKind::Normalise) one.scale = update->scale;
    }
    facts.updates.push_back(std::move(one));
  }
  return facts;
}

std::vector<const Update*> sole_updates(const Adapter& adapter) {
  std::vector<const Update*> sole;
  for (const auto& [name, updates] : by_parameter(adapter)) {
    sole.push_back(updates.size() == 1 ? updates.front() : nullptr);
  }
  return sole;
}

std::optional<ChangedTensor> changed_tensor(const Plan& plan, std::size_t program,
                                            const CellGrams& grams) {
  const Program& made = plan.programs[program];
  const Solution solution = solve(made, grams);
  const MeasuredSpan span(made, grams, solution);
  const auto added = span.added_by(plan.recipe.root);
  if (!added) return std::nullopt;
  const auto norm = [&](const MeasuredSpan::Vector& vector) {
    return std::sqrt(std::max(0.0, span.product(vector, vector)));
  };
  ChangedTensor changed;
  changed.tensor = made.tensor;
  changed.norm = norm(added->delta);
  const double whole = norm(span.node(added->model));
  if (whole > 0) changed.relative = changed.norm / whole;
  return changed;
}

}  // namespace thorns
