#include "hub/repository.h"

#include <algorithm>

namespace thorns {
namespace {

constexpr std::size_t kLongestId = 96;  // the Hub's own bound
constexpr std::size_t kLongestRevision = 255;
constexpr std::string_view kFolderPrefix = "models--";
constexpr std::string_view kFolderGap = "--";

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name_character(char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; }

// An owner or a repository, by the Hub's rules.
bool is_name(std::string_view name) {
  return !name.empty() && is_alphanumeric(name.front()) && name.back() != '.' &&
         name.back() != '-' && name.find("..") == std::string_view::npos &&
         name.find(kFolderGap) == std::string_view::npos && !name.ends_with(".git") &&
         std::all_of(name.begin(), name.end(), is_name_character);
}

bool is_revision(std::string_view text) {
  if (text.empty() || text.size() > kLongestRevision) return false;
  if (text.find("..") != std::string_view::npos || text.find("//") != std::string_view::npos) {
    return false;
  }
  if (text.front() == '/' || text.back() == '/' || text.front() == '.' ||
      text.find("/.") != std::string_view::npos) {
    return false;
  }
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_name_character(c) || c == '/' || c == '+'; });
}

}  // namespace

std::string Repository::text() const { return revision == "main" ? id : id + "@" + revision; }

std::string Repository::folder() const {
  const std::size_t slash = id.find('/');
  return std::string(kFolderPrefix) + id.substr(0, slash) + std::string(kFolderGap) +
         id.substr(slash + 1);
}

std::optional<Repository> parse_repository(std::string_view text) {
  Repository result;
  const std::size_t at = text.find('@');
  if (at != std::string_view::npos) {
    result.revision = text.substr(at + 1);
    if (!is_revision(result.revision)) return std::nullopt;
  }
  std::string_view id = text.substr(0, at);
  std::size_t gap = id.find('/');
  std::size_t gap_length = 1;
  if (id.starts_with(kFolderPrefix)) {
    id.remove_prefix(kFolderPrefix.size());
    gap = id.find(kFolderGap);
    gap_length = kFolderGap.size();
  }
  if (gap == std::string_view::npos) return std::nullopt;
  const std::string_view owner = id.substr(0, gap);
  const std::string_view name = id.substr(gap + gap_length);
  if (!is_name(owner) || !is_name(name)) return std::nullopt;
  result.id = std::string(owner) + "/" + std::string(name);
  if (result.id.size() > kLongestId) return std::nullopt;
  return result;
}

std::string snapshot_commit(std::string_view path) {
  constexpr std::string_view kSnapshots = "/snapshots/";
  const std::size_t at = path.rfind(kSnapshots);
  if (at == std::string_view::npos) return {};
  const std::string_view commit = path.substr(at + kSnapshots.size());
  return is_commit(commit) ? std::string(commit) : std::string();
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace thorns
