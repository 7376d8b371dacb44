// How the output's documents name what it was made of: as the user named it, never by a path of
// this machine.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "plan/plan.h"

namespace thorns {

// `where` as it may be published: an absolute path (or one from `~`) shrinks to its last component.
std::string published_where(const std::string& where);
// The same for an input of a recipe, where `where` may be relative to a recipe file: then `path` is
// told, which is relative to where thorns was started.
std::string published_where(const std::string& where, const std::string& path);

// "owner/repo" where `where` names a Hub repository, its @revision cut off; nullopt where it does
// not look like one, or where `path` shows that it was found as a folder of that relative name.
std::optional<std::string> hub_id(const std::string& where, const std::string& path);

// First of `architectures`; empty where unknown.
std::string architecture_of(const Json& config);

// Takes the paths of a plan's inputs out of texts.
class PathFilter {
 public:
  explicit PathFilter(const Plan& plan);
  // `text` with every input's absolute path replaced by its published name.
  std::string operator()(std::string text) const;

 private:
  std::vector<std::pair<std::string, std::string>> names_;  // longest path first
};

}  // namespace thorns
