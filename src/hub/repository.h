// How a repository of the Hub is named. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thorns {

struct Repository {
  std::string id;                 // "owner/repo"
  std::string revision = "main";  // branch, tag or commit

  // "owner/repo", or "owner/repo@revision" where that is not main.
  std::string text() const;
  // Its folder in the Hub's cache: "models--owner--repo".
  std::string folder() const;
};

// "owner/repo", "models--owner--repo", either with "@revision" behind it. nullopt for anything
// else; names and revisions are those that the Hub allows, so that none can climb out of a folder.
std::optional<Repository> parse_repository(std::string_view text);

// The commit of a folder in the Hub's cache (.../snapshots/COMMIT); empty for any other path.
std::string snapshot_commit(std::string_view path);

// 40 lower-case hexadecimal digits.
bool is_commit(std::string_view text);

}  // namespace thorns
