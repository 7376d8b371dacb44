// README.md of the output: the model card, for people and for the Hub.
#pragma once

#include <string>

#include "base/disk.h"
#include "plan/plan.h"

namespace thorns {

// `name` is the output folder's; the recipe's own name goes before it as the title. Reads the
// parents' README.md for their licenses, nothing else. The text depends on the plan's recipe and
// inputs and on `name` alone, and holds no absolute path of this machine but those that the
// published key itself has.
std::string model_card(Disk& disk, const Plan& plan, const std::string& name);

// One shell command that makes the output again, several lines joined by backslashes. An input
// given by an absolute path stands there by its last component.
std::string remake_command(const Plan& plan, const std::string& name);

}  // namespace thorns
