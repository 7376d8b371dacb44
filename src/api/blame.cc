// thorns::blame: an unknown model measured beside those of a recipe, in one sweep.
#include "insight/blame.h"

#include "api/repositories.h"
#include "api/requests.h"
#include "engine/engine.h"
#include "thorns/diff.h"

namespace thorns {

BlameReport blame(const std::string& model, const MergeOptions& options, Observer& observer) {
  Disk& disk = real_disk();
  Recipe recipe = bind(disk, options);
  const std::string key = recipe.key;
  PlanOptions settings = plan_options(options);
  settings.findings = true;
  const PlanResult made = make_plan(
      disk, blame_recipe(std::move(recipe), {model, located(disk, model), model, {}}), settings);
  if (!made.problems.empty()) throw Error(made.problems.front());
  BlameSurvey blame(made.plan);
  const std::uint64_t bytes =
      survey(made.plan, observer, {options.allow_nonfinite},
             [&](std::size_t program, const CellGrams& grams) { blame.add(program, grams); });
  BlameReport report = blame.report();
  report.model = model;
  report.recipe = key;
  report.bytes_read = bytes;
  return report;
}

}  // namespace thorns
