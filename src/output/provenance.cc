#include "output/provenance.h"

#include <algorithm>
#include <string_view>

#include "base/disk.h"

namespace thorns {
namespace {

// The Hub's own bound on the length of a repository id.
constexpr std::size_t kLongestId = 96;

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// An owner or a repository name, by the Hub's rules.
bool is_hub_name(std::string_view name) {
  return !name.empty() && is_alphanumeric(name.front()) && name.back() != '.' &&
         name.back() != '-' && name.find("..") == std::string_view::npos &&
         name.find("--") == std::string_view::npos && !name.ends_with(".git") &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

bool is_absolute(const std::string& path) { return path.starts_with('/'); }

}  // namespace

std::string published_where(const std::string& where) {
  return is_absolute(where) || where.starts_with('~') ? base_name(where) : where;
}

std::string published_where(const std::string& where, const std::string& path) {
  const bool from_file = !is_absolute(where) && !is_absolute(path) && path.ends_with(where);
  return published_where(from_file ? path : where);
}

std::optional<std::string> hub_id(const std::string& where, const std::string& path) {
  if (path == where || path.ends_with("/" + where)) return std::nullopt;
  const std::string id = where.substr(0, where.find('@'));
  const std::size_t slash = id.find('/');
  if (slash == std::string::npos || id.size() > kLongestId) return std::nullopt;
  if (!is_hub_name(std::string_view(id).substr(0, slash)) ||
      !is_hub_name(std::string_view(id).substr(slash + 1))) {
    return std::nullopt;
  }
  return id;
}

std::string architecture_of(const Json& config) {
  if (!config.is_object()) return {};
  const auto list = config.find("architectures");
  if (list == config.end() || !list->is_array() || list->empty() || !list->front().is_string()) {
    return {};
  }
  return list->front().get<std::string>();
}

PathFilter::PathFilter(const Plan& plan) {
  const auto add = [&](const std::string& path, const std::string& where) {
    if (is_absolute(path) && path.size() > 1)
      names_.emplace_back(path, published_where(where, path));
  };
  for (const RecipeLeaf& leaf : plan.recipe.leaves) add(leaf.path, leaf.where);
  for (const RecipeAdapter& adapter : plan.recipe.adapters) add(adapter.path, adapter.where);
  std::stable_sort(names_.begin(), names_.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
}

std::string PathFilter::operator()(std::string text) const {
  for (const auto& [path, name] : names_) {
    for (std::size_t at = text.find(path); at != std::string::npos;
         at = text.find(path, at + name.size())) {
      text.replace(at, path.size(), name);
    }
  }
  return text;
}

}  // namespace thorns
