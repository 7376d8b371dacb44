// config.json of the output: the first leaf's, with the few fields that a merge changes made true.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "plan/plan.h"

namespace thorns {

inline constexpr const char* kConfigFile = "config.json";

// What config.json must say of the output.
struct ConfigFacts {
  std::string dtype;                        // torch name
  std::optional<std::uint64_t> vocabulary;  // rows of the embedding; nullopt: leave the field alone
  bool resized = false;                     // the first leaf's embedding has other rows
  bool tied = false;                        // the output head is the embedding
  bool head_stored = false;                 // in the output or in the first leaf
  // Where layers are repeated: for each of the output its number in the first leaf.
  std::vector<std::uint64_t> layers = {};
  Json other = Json::object();  // more fields that are to be as they are here
};

ConfigFacts config_facts(const Plan& plan);

// Unknown fields and the order of all fields are kept. `base` is an object.
Json edited_config(Json base, const ConfigFacts& facts);

// The file's text; nullopt where the first leaf is a single weights file, which has no config.json.
std::optional<std::string> config_text(const Plan& plan);

// generation_config.json: the first leaf's, as it is but for numbers of tokens that have moved;
// nullopt where it has none. Throws Corrupt where such a file is no JSON.
std::optional<std::string> generation_config_text(const Plan& plan);

}  // namespace thorns
