#include "output/provenance.h"

#include <algorithm>
#include <string_view>

#include "base/disk.h"
#include "hub/repository.h"

namespace thorns {
namespace {

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
  const auto repository = parse_repository(where);
  if (!repository) return std::nullopt;
  return repository->id;
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
