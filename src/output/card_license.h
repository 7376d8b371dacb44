// Under which license the output may be offered, as far as its parents' model cards say.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "plan/plan.h"

namespace thorns {

// What the front matter of a model card says. `name` and `link` belong to the license "other".
struct License {
  std::string id;
  std::string name;
  std::string link;
  bool operator==(const License&) const = default;
};

// From the text of a README.md; nullopt where it says nothing that can be understood.
std::optional<License> license_in_card(const std::string& text);

// The model card of `folder`, its README.md; throws where there is none that can be read.
std::string read_card(Disk& disk, const std::string& folder);

// From the model card of `folder`. Lenient: what is missing or unreadable says nothing.
std::optional<License> license_of(Disk& disk, const std::string& folder);

struct Licenses {
  std::vector<std::optional<License>> leaves;    // like Plan::leaves
  std::vector<std::optional<License>> adapters;  // like Plan::adapters
  // The recipe's, else the one that every leaf and adapter states.
  std::optional<License> output;
};
Licenses read_licenses(Disk& disk, const Plan& plan);

}  // namespace thorns
