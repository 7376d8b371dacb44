#include "output/card_license.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "base/path_within.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestCard = std::uint64_t{1} << 20;
constexpr std::size_t kLargestFrontMatter = std::size_t{64} << 10;
constexpr std::size_t kLongestValue = 256;

// The YAML between a first line `---` and the next such line; empty where there is none.
std::string front_matter(const std::string& text) {
  std::size_t begin = text.find('\n');
  if (begin == std::string::npos) return {};
  const std::string first = text.substr(0, begin);
  if (first != "---" && first != "---\r") return {};
  ++begin;
  const std::size_t end = text.find("\n---", begin - 1);
  if (end == std::string::npos || end < begin || end - begin > kLargestFrontMatter) return {};
  std::string yaml = text.substr(begin, end - begin);
  std::erase(yaml, '\r');  // yaml-cpp keeps it in values
  return yaml;
}

std::string scalar(const YAML::Node& map, const char* field) {
  const YAML::Node node = map[field];
  if (!node || !node.IsScalar() || node.Scalar().size() > kLongestValue) return {};
  return node.Scalar();
}

}  // namespace

std::optional<License> license_in_card(const std::string& text) {
  try {
    const YAML::Node card = YAML::Load(front_matter(text));
    if (!card.IsMap()) return std::nullopt;
    License license{scalar(card, "license"), {}, {}};
    if (license.id.empty()) return std::nullopt;
    if (license.id == "other") {
      license.name = scalar(card, "license_name");
      license.link = scalar(card, "license_link");
      if (license.name.empty()) return std::nullopt;  // two licenses "other" need not be the same
    }
    return license;
  } catch (const YAML::Exception&) {
    return std::nullopt;
  }
}

std::string read_card(Disk& disk, const std::string& folder) {
  return read_text(disk, path_within(disk, folder, "README.md"), kLargestCard);
}

std::optional<License> license_of(Disk& disk, const std::string& folder) {
  try {
    return license_in_card(read_card(disk, folder));
  } catch (const Error&) {
    return std::nullopt;
  }
}

Licenses read_licenses(Disk& disk, const Plan& plan) {
  Licenses licenses;
  for (const auto& leaf : plan.leaves) {
    licenses.leaves.push_back(leaf->config().is_object() ? license_of(disk, leaf->path())
                                                         : std::nullopt);  // a single file
  }
  for (const auto& adapter : plan.adapters) {
    licenses.adapters.push_back(license_of(disk, adapter->path()));
  }
  if (!plan.recipe.settings.license.empty()) {
    licenses.output = License{plan.recipe.settings.license, {}, {}};
    return licenses;
  }
  std::vector<std::optional<License>> all = licenses.leaves;
  all.insert(all.end(), licenses.adapters.begin(), licenses.adapters.end());
  const bool agreed = !all.empty() && std::all_of(all.begin(), all.end(), [&](const auto& one) {
    return one && one == all.front();
  });
  if (agreed) licenses.output = all.front();
  return licenses;
}

}  // namespace thorns
