// README.md of the output: the model card, for people and for the Hub.
#pragma once

#include <string>
#include <vector>

#include "base/disk.h"
#include "plan/plan.h"

namespace thorns {

struct CardOptions {
  std::string text;                   // the template (card_template.h); empty: default_card()
  std::string path;                   // where it is from, for errors
  std::vector<std::string> findings;  // of check; a sentence each
};

// The template that is taken where the user gives none; docs/model-card.md lists its fields.
const std::string& default_card();

// `name` is the output folder's; the recipe's own name goes before it as the title. Reads the
// parents' README.md for their licenses and warnings, nothing else. The text depends on the plan's
// recipe and inputs, on `name` and on `options` alone, and holds no absolute path of this machine
// but those that the published key itself has. Throws what fill_template throws.
std::string model_card(Disk& disk, const Plan& plan, const std::string& name,
                       const CardOptions& options = {});

// One shell command that makes the output again, several lines joined by backslashes. An input
// given by an absolute path stands there by its last component.
std::string remake_command(const Plan& plan, const std::string& name);

}  // namespace thorns
