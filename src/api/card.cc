// What a user and check have to say about the model card.
#include "api/requests.h"
#include "insight/findings.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestTemplate = std::uint64_t{1} << 20;

}  // namespace

CardOptions card_options(Disk& disk, const MergeOptions& options, const Plan& plan) {
  CardOptions card;
  if (!options.card.empty()) {
    card.text = read_text(disk, options.card, kLargestTemplate);
    card.path = options.card;
    if (card.text.empty()) {
      throw Error(ErrorCode::BadRecipe, "the template of the model card is empty",
                  FilePlace{options.card}, "without --card the default one is taken");
    }
  }
  std::vector<Finding> findings = recipe_findings(plan.recipe, same_adapters(plan));
  for (Finding& finding : input_findings(disk, plan)) findings.push_back(std::move(finding));
  for (const Finding& finding : findings) {
    // Licenses have a place of their own on the card.
    if (finding.code != "licenses-differ") card.findings.push_back(finding.message);
  }
  return card;
}

}  // namespace thorns
