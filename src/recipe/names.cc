#include "recipe/names.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace thorns {
namespace {

bool is_weights_file(const std::string& path) {
  return path.ends_with(".safetensors") || path.ends_with(".bin") || path.ends_with(".gguf");
}

// "owner/repo" with an optional revision, and not a path.
bool looks_like_repository(const std::string& name) {
  const std::size_t slash = name.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < name.size() &&
         name.find('/', slash + 1) == std::string::npos && name[0] != '.' && name[0] != '~';
}

// Whether `entry` is `name`, a blank in the name standing for a blank, `-` or `_`.
bool matches(const std::string& name, const std::string& entry) {
  return name.size() == entry.size() &&
         std::equal(name.begin(), name.end(), entry.begin(),
                    [](char n, char e) { return n == e || (n == ' ' && (e == '-' || e == '_')); });
}

const char* word(bool model) { return model ? "model" : "adapter"; }

}  // namespace

bool NameBook::is_of(Kind kind, const std::string& folder) const {
  return disk_.exists(
      join_path(folder, kind == Kind::Model ? "config.json" : "adapter_config.json"));
}

// A name that the recipe file or an option binds. What it leads to must be there.
std::optional<Found> NameBook::bound(Kind kind, const std::string& name, const Where& where) const {
  const auto& of_recipe = kind == Kind::Model ? recipe_.models : recipe_.adapters;
  const auto& of_options = kind == Kind::Model ? bindings_.models : bindings_.adapters;
  std::vector<std::string> targets;
  if (const auto at = of_recipe.find(name); at != of_recipe.end()) {
    targets.push_back(at->second);
  } else {
    for (const Binding& binding : of_options) {
      const bool again = std::find(targets.begin(), targets.end(), binding.where) != targets.end();
      if (binding.name == name && !again) targets.push_back(binding.where);
    }
  }
  if (targets.empty()) return std::nullopt;
  if (targets.size() > 1) {
    throw Error(ErrorCode::BadRecipe,
                fmt::format("{} `{}` is bound to two places: {}", word(kind == Kind::Model), name,
                            list_text(targets)),
                where);
  }
  const std::string& target = targets[0];
  const bool of_file = of_recipe.contains(name) && !target.starts_with("/");
  const std::string path = of_file ? join_path(recipe_.folder, target) : target;
  if (disk_.exists(path)) return Found{path, target};
  if (const auto found = on_paths(kind, target, where)) return Found{found->path, target};
  throw Error(ErrorCode::NotFound,
              fmt::format("{} `{}` is bound to `{}`, which is not there", word(kind == Kind::Model),
                          name, target),
              where,
              looks_like_repository(target)
                  ? "repositories of the Hub cannot be found yet; give the folder"
                  : "paths in a recipe file are relative to that file");
}

std::optional<Found> NameBook::on_paths(Kind kind, const std::string& name,
                                        const Where& where) const {
  std::vector<std::string> candidates;
  for (const std::string& folder : bindings_.paths) {
    const std::string direct = join_path(folder, name);
    if (name.find('/') != std::string::npos || name.find(' ') == std::string::npos) {
      if (is_of(kind, direct)) candidates.push_back(direct);
      continue;
    }
    if (!disk_.exists(folder)) continue;
    for (const std::string& entry : disk_.list(folder)) {
      const std::string path = join_path(folder, entry);
      if (matches(name, entry) && is_of(kind, path)) candidates.push_back(path);
    }
  }
  // One folder may be reached by two paths.
  std::vector<std::string> distinct;
  for (const std::string& candidate : candidates) {
    const std::string canonical = disk_.canonical(candidate);
    if (std::none_of(distinct.begin(), distinct.end(), [&](const std::string& other) {
          return disk_.canonical(other) == canonical;
        })) {
      distinct.push_back(candidate);
    }
  }
  if (distinct.size() > 1) {
    throw Error(
        ErrorCode::BadRecipe,
        fmt::format("{} `{}` could be any of {}", word(kind == Kind::Model), name,
                    list_text(distinct)),
        where,
        fmt::format("say which: {} '{}={}'", kind == Kind::Model ? "-m" : "-a", name, distinct[0]));
  }
  if (distinct.empty()) return std::nullopt;
  return Found{distinct[0], name};
}

// A name that is a folder or weights file itself.
std::optional<Found> NameBook::itself(Kind kind, const std::string& name) const {
  if (!disk_.exists(name)) return std::nullopt;
  const bool folder = disk_.stat(name).is_folder;
  if (folder && is_of(kind == Kind::Model ? Kind::Adapter : Kind::Model, name) &&
      !is_of(kind, name)) {
    return std::nullopt;  // of the other kind
  }
  if (folder || is_weights_file(name)) return Found{name, name};
  return std::nullopt;
}

std::optional<Found> NameBook::find(Kind kind, const std::string& name, const Where& where) const {
  if (auto found = bound(kind, name, where)) return found;
  if (auto found = on_paths(kind, name, where)) return found;
  return itself(kind, name);
}

std::vector<std::string> NameBook::known_names(Kind kind) const {
  std::vector<std::string> names;
  for (const auto& [name, where] : kind == Kind::Model ? recipe_.models : recipe_.adapters)
    names.push_back(name);
  for (const Binding& binding : kind == Kind::Model ? bindings_.models : bindings_.adapters) {
    names.push_back(binding.name);
  }
  if (kind == Kind::Model) names.insert(names.end(), recipe_.lets.begin(), recipe_.lets.end());
  for (const std::string& folder : bindings_.paths) {
    if (!disk_.exists(folder) || !disk_.stat(folder).is_folder) continue;
    for (const std::string& entry : disk_.list(folder)) {
      if (is_of(kind, join_path(folder, entry))) names.push_back(entry);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void NameBook::fail_unknown(Kind kind, const std::string& name, const Where& where) const {
  const bool model = kind == Kind::Model;
  const Kind other = model ? Kind::Adapter : Kind::Model;
  if (find(other, name, where)) {
    throw Error(ErrorCode::BadRecipe,
                fmt::format("`{}` is {}, not {}", name, model ? "an adapter" : "a model",
                            model ? "a model" : "an adapter"),
                where,
                model ? "adapters stand in square brackets: `Model[Adapter]`"
                      : "models are blended in braces: `{A+B}`");
  }
  const std::vector<std::string> names = known_names(kind);
  std::string hint = did_you_mean(name, names);
  if (hint.empty() && !names.empty())
    hint = fmt::format("known {}s: {}", word(model), list_text(names));
  if (hint.empty()) {
    hint = fmt::format("bind it with {} '{}=FOLDER', or give the folder that holds it with --path",
                       model ? "-m" : "-a", name);
  }
  if (looks_like_repository(name)) hint += "; repositories of the Hub cannot be found yet";
  throw Error(ErrorCode::BadRecipe, fmt::format("unknown {} `{}`", word(model), name), where, hint);
}

Found NameBook::model(const std::string& name, const Where& where) const {
  if (auto found = find(Kind::Model, name, where)) return *found;
  fail_unknown(Kind::Model, name, where);
}

Found NameBook::adapter(const std::string& name, const Where& where) const {
  if (auto found = find(Kind::Adapter, name, where)) return *found;
  if (std::find(recipe_.lets.begin(), recipe_.lets.end(), name) != recipe_.lets.end()) {
    throw Error(ErrorCode::BadRecipe, fmt::format("`{}` is a model, not an adapter", name), where,
                "models are blended in braces: `{A+B}`");
  }
  fail_unknown(Kind::Adapter, name, where);
}

}  // namespace thorns
