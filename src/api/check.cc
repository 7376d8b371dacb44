// thorns::check: headers first, then one sweep of measurement.
#include "thorns/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <set>

#include "api/requests.h"
#include "engine/engine.h"
#include "insight/findings.h"
#include "insight/placement.h"
#include "insight/subspaces.h"
#include "insight/weights.h"

namespace thorns {
namespace {

Finding refused(const Error& problem) {
  return {std::string("refused-") + to_string(problem.code()), Severity::Error, problem.message(),
          problem.hint(), problem.where()};
}

// Keeps the programs of `count` layers, evenly spread; all where there is no more.
void keep_layers(std::vector<Program>& programs, std::size_t count) {
  std::vector<std::string> names;
  for (const Program& program : programs) names.push_back(program.tensor);
  const LayerStack stack(names);
  const std::size_t layers = stack.layers();
  if (layers <= count) return;
  std::set<std::size_t> kept;
  for (std::size_t i = 0; i < count; ++i) kept.insert((2 * i + 1) * layers / (2 * count));
  std::erase_if(programs, [&](const Program& program) {
    const LayerPosition position = stack.position(program.tensor);
    return position.part != LayerPosition::Inside || !kept.contains(position.layer);
  });
}

// What the key's weights promise, beside what the measurement found.
void complete_repeated(const Recipe& recipe, const std::vector<std::size_t>& same,
                       const std::vector<FoldMeasure>& folds, std::vector<Finding>& findings) {
  std::map<std::string, std::string> first_name;  // of the same content
  for (std::size_t i = 0; i < same.size(); ++i) {
    first_name[recipe.adapters[i].name] = recipe.adapters[same[i]].name;
  }
  for (Finding& finding : findings) {
    if (finding.code != "adapter-repeated") continue;
    double weight = 0;
    for (const FoldMeasure& fold : folds) {
      if (first_name[fold.adapter] == finding.adapter) weight += fold.reaches;
    }
    finding.message += fmt::format(", {:.3g} as measured", weight);
    finding.measured.emplace_back("weight_at_root", weight);
  }
}

// As many threads as the ceiling has room for: each holds the factors of a tensor.
std::size_t subspace_threads(const Plan& plan) {
  const std::uint64_t each = plan.memory.factors + SubspaceSurvey::kRowBytes;
  const std::uint64_t room = (plan.memory.ceiling - plan.memory.fixed) / each;
  return static_cast<std::size_t>(std::clamp<std::uint64_t>(room, 1, plan.threads));
}

void append(std::vector<Finding>& to, std::vector<Finding> more) {
  std::move(more.begin(), more.end(), std::back_inserter(to));
}

}  // namespace

const char* to_string(Severity severity) {
  switch (severity) {
    case Severity::Note:
      return "note";
    case Severity::Warning:
      return "warning";
    case Severity::Error:
      return "error";
  }
  return "";
}

CheckReport check(const MergeOptions& options, const CheckOptions& check_options,
                  Observer& observer) {
  Disk& disk = real_disk();
  PlanOptions settings = plan_options(options);
  settings.findings = true;
  PlanResult made = make_plan(disk, bind(disk, options), settings);
  Plan& plan = made.plan;
  CheckReport report;
  report.key = plan.recipe.key;
  report.tensors = plan.programs.size();
  for (const Error& problem : made.problems) report.findings.push_back(refused(problem));

  const bool opened = plan.leaves.size() == plan.recipe.leaves.size() &&
                      plan.adapters.size() == plan.recipe.adapters.size();
  std::vector<std::size_t> same(plan.recipe.adapters.size());
  std::iota(same.begin(), same.end(), std::size_t{0});
  if (opened) same = same_adapters(plan);
  append(report.findings, recipe_findings(plan.recipe, same));
  if (opened) append(report.findings, input_findings(disk, plan));
  for (const std::string& warning : plan.warnings) {
    report.findings.push_back({"plan", Severity::Note, warning, "", Where{}});
  }

  if (made.problems.empty() && !check_options.headers_only) {
    if (check_options.layers) keep_layers(plan.programs, *check_options.layers);
    WeightSurvey weights(plan);
    std::optional<PlacementSurvey> places;
    if (check_options.suggest) places.emplace(plan, same);
    try {
      report.bytes_read = survey(plan, observer, {options.allow_nonfinite},
                                 [&](std::size_t program, const CellGrams& grams) {
                                   weights.add(program, grams);
                                   if (places) places->add(program, grams);
                                 });
      const SubspaceSurvey spaces(plan, subspace_threads(plan), observer);
      if (places) report.suggestion = places->suggest(weights.base());
      report.folds = weights.folds();
      const std::vector<std::size_t> nodes = weights.fold_nodes();
      for (std::size_t i = 0; i < nodes.size(); ++i) report.folds[i].fit = spaces.fit(nodes[i]);
      report.nodes = weights.nodes();
      complete_repeated(plan.recipe, same, report.folds, report.findings);
      append(report.findings, weights.findings());
      spaces.complete(report.findings);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::NonFinite) throw;
      report.findings.push_back(refused(error));
    }
    report.measured = weights.tensors();
  }
  std::stable_sort(report.findings.begin(), report.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
  return report;
}

}  // namespace thorns
