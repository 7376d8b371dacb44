#include "output/card_warning.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "output/card_license.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// Beginnings of words: "toxicity", "toxic".
constexpr std::array<std::string_view, 6> kWords = {"toxic",     "uncensored", "unfiltered",
                                                    "offensive", "harmful",    "nsfw"};

}  // namespace

bool warns(std::string_view card) {
  std::string lower(card);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return std::any_of(kWords.begin(), kWords.end(), [&](std::string_view word) {
    for (std::size_t at = lower.find(word); at != std::string::npos;
         at = lower.find(word, at + 1)) {
      if (at == 0 || std::isalpha(static_cast<unsigned char>(lower[at - 1])) == 0) return true;
    }
    return false;
  });
}

std::vector<std::string> parents_that_warn(Disk& disk, const Plan& plan) {
  std::vector<std::string> names;
  const auto look = [&](const std::string& name, const std::string& folder) {
    try {
      if (warns(read_card(disk, folder))) names.push_back(name);
    } catch (const Error&) {
      return;  // no card
    }
  };
  for (std::size_t i = 0; i < plan.leaves.size() && i < plan.recipe.leaves.size(); ++i) {
    // The README beside a single file is that of something else.
    if (plan.leaves[i]->config().is_object())
      look(plan.recipe.leaves[i].name, plan.leaves[i]->path());
  }
  for (std::size_t i = 0; i < plan.adapters.size() && i < plan.recipe.adapters.size(); ++i) {
    look(plan.recipe.adapters[i].name, plan.adapters[i]->path());
  }
  return names;
}

}  // namespace thorns
