#include "recipe/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <set>

#include "base/text.h"
#include "checkpoint/weights_file.h"
#include "hub/cache.h"
#include "hub/environment.h"
#include "hub/repository.h"

namespace thorns {
namespace {

constexpr std::size_t kMostCandidates = 2000;  // folders looked at for a suggestion

const char* word(NameKind kind) { return kind == NameKind::Model ? "model" : "adapter"; }
const char* option(NameKind kind) { return kind == NameKind::Model ? "--model" : "--adapter"; }
NameKind other(NameKind kind) {
  return kind == NameKind::Model ? NameKind::Adapter : NameKind::Model;
}

bool has_weights_ending(const std::string& path) {
  static constexpr std::array<const char*, 5> kEndings = {".safetensors", ".bin", ".gguf", ".pt",
                                                          ".pth"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](const char* ending) { return path.ends_with(ending); });
}

// "LIMA RP" also names the folders "LIMA-RP" and "LIMA_RP".
bool names_entry(const std::string& name, const std::string& entry) {
  return std::equal(name.begin(), name.end(), entry.begin(), entry.end(),
                    [](char a, char b) { return a == b || (a == ' ' && (b == '-' || b == '_')); });
}

// A path that stays inside the folder it is joined to.
bool is_inner_path(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.front() == '~') return false;
  const std::string slashed = "/" + name + "/";
  return slashed.find("/../") == std::string::npos && slashed.find("/./") == std::string::npos;
}

bool looks_like_path(const std::string& name) {
  return name.find('/') != std::string::npos || name.starts_with('.') || name.starts_with('~');
}

// The path of what a user wrote, relative to `folder`.
std::string located(const std::string& where, const std::string& folder) {
  if (where.starts_with("~/")) {
    // Shells expand this only at the start of a word, and not in a recipe file.
    const char* const home = std::getenv("HOME");
    if (home != nullptr && *home != '\0') return join_path(home, where.substr(2));
  }
  return where.starts_with('/') ? where : join_path(folder, where);
}

}  // namespace

std::string Names::located_in_file(const std::string& where) const {
  return located(where, folder_);
}

// A name where the key has it.
struct Names::Mention {
  NameKind kind;
  const std::string& name;
  const KeySpan& span;
  const std::string& context;

  [[noreturn]] void fail(ErrorCode code, const std::string& message,
                         const std::string& hint) const {
    throw Error(code, message + context, span, hint);
  }
};

Names::Names(Disk& disk, const Bindings& bindings, const RecipeFile* file)
    : disk_(disk), bindings_(bindings), file_(file) {
  if (file != nullptr && file->path.find('/') != std::string::npos) {
    folder_ = parent_path(file->path);
  }
}

Found Names::find(NameKind kind, const std::string& name, const KeySpan& span,
                  const std::string& context) {
  const Mention mention{kind, name, span, context};
  Found found;
  if (find_bound(mention, found) || find_on_paths(mention, found) || find_itself(mention, found) ||
      find_in_hub(mention, found)) {
    return found;
  }
  fail_unknown(mention);
}

Names::Look Names::look(const std::string& path) {
  Look result;
  if (!disk_.exists(path)) return result;
  try {
    result.folder = disk_.stat(path).is_folder;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::NotFound) return result;  // a link to nowhere
    throw;
  }
  result.exists = true;
  const std::string folder = result.folder ? path : parent_path(path);
  if (result.folder || has_weights_ending(path)) {
    const bool config = disk_.exists(join_path(folder, "config.json"));
    const bool adapter = disk_.exists(join_path(folder, "adapter_config.json"));
    result.model = config || (!adapter && (!result.folder || holds_gguf(path)));
    // What a file without either beside it holds, only opening it tells.
    result.adapter = adapter || (result.folder ? holds_lone_adapter(path) : !config);
  }
  return result;
}

// The one file of an adapter that needs no adapter_config.json.
bool Names::holds_lone_adapter(const std::string& folder) {
  return disk_.exists(join_path(folder, "pytorch_lora_weights.safetensors")) ||
         disk_.exists(join_path(folder, "pytorch_lora_weights.bin"));
}

// PEFT saves an adapter that is not called "default" in a folder of its name.
bool Names::holds_adapter(const std::string& folder) {
  const std::vector<std::string> inner = disk_.list(folder);
  return std::any_of(inner.begin(), inner.end(), [&](const std::string& name) {
    return disk_.exists(join_path(join_path(folder, name), "adapter_config.json"));
  });
}

// Whose metadata says what a config.json would.
bool Names::holds_gguf(const std::string& folder) {
  const std::vector<std::string> inner = disk_.list(folder);
  return std::any_of(inner.begin(), inner.end(),
                     [](const std::string& name) { return !gguf_model_name(name).empty(); });
}

// A binding's value as a path. Any folder may hold a model, config.json or not.
Found Names::follow(const Mention& mention, const std::string& where, const std::string& folder,
                    const Where& place) {
  std::string path = located(where, folder);
  std::string told = where;
  const std::string subject =
      fmt::format("{} `{}` is bound to `{}`, which", word(mention.kind), mention.name, where);
  Look seen = look(path);
  const bool is_adapter = mention.kind == NameKind::Adapter;
  if (const auto repository = parse_repository(where); repository && !seen.exists) {
    try {
      path = snapshot_folder(disk_, hub_cache_folder(), *repository);
    } catch (const Error& error) {
      throw Error(error.code(),
                  fmt::format("{} `{}`: {}", word(mention.kind), mention.name, error.message()),
                  place, error.hint());
    }
    told = repository->text();
    seen = look(path);
  }
  if (!seen.exists) {
    throw Error(ErrorCode::NotFound, subject + " does not exist", place,
                path == where ? "check the path" : fmt::format("the full path is `{}`", path));
  }
  const bool fits = is_adapter ? seen.adapter || (seen.folder && !seen.model && holds_adapter(path))
                               : seen.model || (seen.folder && !seen.adapter);
  if (fits) return {path, told};
  if (is_adapter) {
    throw Error(ErrorCode::BadRecipe,
                subject + (seen.model ? " is a model, not an adapter"
                                      : " is no adapter: there is no adapter_config.json"),
                place, "an adapter is a folder with adapter_config.json");
  }
  throw Error(ErrorCode::BadRecipe,
              subject + (seen.adapter ? " is an adapter, not a model" : " is no model"), place,
              "a model is a folder with config.json, or one file of weights (.safetensors)");
}

bool Names::find_bound(const Mention& mention, Found& found) {
  const bool is_model = mention.kind == NameKind::Model;
  if (file_ != nullptr) {
    for (const FileEntry& entry : is_model ? file_->models : file_->adapters) {
      if (entry.name != mention.name) continue;
      found = follow(mention, entry.value, folder_, entry.place);
      return true;
    }
  }
  std::vector<Found> all;
  for (const Binding& binding : is_model ? bindings_.models : bindings_.adapters) {
    if (binding.name != mention.name) continue;
    const Found one = follow(mention, binding.where, {}, mention.span);
    if (all.empty() || disk_.canonical(all.front().path) != disk_.canonical(one.path)) {
      all.push_back(one);
    }
  }
  if (all.size() > 1) {
    mention.fail(ErrorCode::BadRecipe,
                 fmt::format("{} `{}` is bound twice: to `{}` and to `{}`", word(mention.kind),
                             mention.name, all[0].where, all[1].where),
                 "bind it once");
  }
  if (!all.empty()) found = all.front();
  return !all.empty();
}

const std::vector<std::string>& Names::entries_of(const std::string& folder) {
  const auto known = listed_.find(folder);
  if (known != listed_.end()) return known->second;
  try {
    return listed_[folder] = disk_.list(folder);
  } catch (const Error& error) {
    listed_.erase(folder);
    throw Error(error.code(), fmt::format("search path: {}", error.message()), FilePlace{folder},
                "give folders that hold models or adapters with --path");
  }
}

// The environment may name what is not there today.
std::vector<std::string> Names::fallback_paths() {
  std::vector<std::string> folders;
  std::copy_if(bindings_.fallback_paths.begin(), bindings_.fallback_paths.end(),
               std::back_inserter(folders),
               [&](const std::string& folder) { return disk_.exists(folder); });
  return folders;
}

// All candidates for `name` on the search paths, each folder once.
std::vector<std::string> Names::on_paths(NameKind kind, const std::string& name) {
  std::vector<std::string> result;
  std::set<std::string> seen;
  const auto consider = [&](const std::string& path) {
    const Look at = look(path);
    const bool fits = kind == NameKind::Model ? at.model : at.adapter;
    if (fits && seen.insert(disk_.canonical(path)).second) result.push_back(path);
  };
  const auto search = [&](const std::string& folder, auto name_of) {
    const auto& entries = entries_of(folder);
    if (name.find('/') != std::string::npos) {
      if (is_inner_path(name)) consider(join_path(folder, name));
      return;
    }
    for (const std::string& entry : entries) {
      if (names_entry(name, name_of(entry))) consider(join_path(folder, entry));
    }
  };
  // What is called so goes before a GGUF file of that name.
  const auto search_all = [&](const std::vector<std::string>& folders) {
    for (const std::string& folder : folders) search(folder, std::identity());
    if (!result.empty()) return;
    for (const std::string& folder : folders) search(folder, gguf_model_name);
  };
  search_all(bindings_.paths);
  if (result.empty()) search_all(fallback_paths());
  return result;
}

bool Names::find_on_paths(const Mention& mention, Found& found) {
  const auto all = on_paths(mention.kind, mention.name);
  if (all.size() > 1) {
    mention.fail(ErrorCode::BadRecipe,
                 fmt::format("{} `{}` could be any of: {}", word(mention.kind), mention.name,
                             list_text(all)),
                 fmt::format("bind the one you mean: {} \"{}={}\"", option(mention.kind),
                             mention.name, all.front()));
  }
  if (all.empty()) return false;
  found = {all.front(), all.front()};
  return true;
}

bool Names::find_itself(const Mention& mention, Found& found) {
  const std::string path = located(mention.name, folder_);
  const Look seen = look(path);
  const bool fits = mention.kind == NameKind::Adapter
                        ? seen.adapter
                        : seen.model || (seen.folder && !seen.adapter);
  if (fits) found = {path, mention.name};
  return fits;
}

// Where `name` lies in the Hub's cache; empty where it names no repository or one that is not
// whole.
std::string Names::in_hub(const std::string& name) {
  const auto repository = parse_repository(name);
  if (!repository) return {};
  try {
    return snapshot_folder(disk_, hub_cache_folder(), *repository);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::NotFound) throw;
    return {};
  }
}

bool Names::find_in_hub(const Mention& mention, Found& found) {
  const std::string path = in_hub(mention.name);
  if (path.empty()) return false;
  const Look seen = look(path);
  const bool fits = mention.kind == NameKind::Adapter
                        ? seen.adapter || (!seen.model && holds_adapter(path))
                        : seen.model || !seen.adapter;
  if (fits) found = {path, parse_repository(mention.name)->text()};
  return fits;
}

bool Names::known_as(NameKind kind, const std::string& name) {
  const bool is_model = kind == NameKind::Model;
  const auto has = [&](const auto& list) {
    return std::any_of(list.begin(), list.end(), [&](const auto& one) { return one.name == name; });
  };
  if (file_ != nullptr && (has(is_model ? file_->models : file_->adapters))) return true;
  if (has(is_model ? bindings_.models : bindings_.adapters)) return true;
  if (!on_paths(kind, name).empty()) return true;
  const auto holds = [&](const std::string& path) {
    const Look at = look(path);
    return is_model ? at.model : at.adapter;
  };
  const std::string cached = in_hub(name);
  return holds(located(name, folder_)) || (!cached.empty() && holds(cached));
}

// All names of this kind that a user may have meant.
std::vector<std::string> Names::candidates(NameKind kind) {
  std::vector<std::string> names;
  const auto add = [&](const auto& list) {
    for (const auto& one : list) names.push_back(one.name);
  };
  const bool is_model = kind == NameKind::Model;
  if (file_ != nullptr) {
    add(is_model ? file_->models : file_->adapters);
    if (is_model) add(file_->let);
  }
  add(is_model ? bindings_.models : bindings_.adapters);
  std::vector<std::string> folders = bindings_.paths;
  for (std::string& folder : fallback_paths()) folders.push_back(std::move(folder));
  for (const std::string& folder : folders) {
    for (const std::string& entry : entries_of(folder)) {
      if (names.size() >= kMostCandidates) return names;
      const Look at = look(join_path(folder, entry));
      if (!(is_model ? at.model : at.adapter)) continue;
      const std::string gguf = gguf_model_name(entry);
      names.push_back(gguf.empty() ? entry : gguf);
    }
  }
  return names;
}

void Names::fail_unknown(const Mention& mention) {
  const NameKind kind = mention.kind;
  const std::string& name = mention.name;
  const bool is_model = kind == NameKind::Model;
  if (!is_model && file_ != nullptr &&
      std::any_of(file_->let.begin(), file_->let.end(),
                  [&](const FileEntry& entry) { return entry.name == name; })) {
    mention.fail(ErrorCode::BadRecipe,
                 fmt::format("`{}` is a part of this recipe (`let`), not an adapter", name),
                 fmt::format("to merge it, write `{{A+{}}}`", name));
  }
  if (known_as(other(kind), name)) {
    mention.fail(ErrorCode::BadRecipe,
                 fmt::format("`{}` is {}, not {}", name, is_model ? "an adapter" : "a model",
                             is_model ? "a model" : "an adapter"),
                 is_model ? fmt::format("to fold it into a model, write `A[{}]`", name)
                          : fmt::format("to merge it, write `{{A+{}}}`", name));
  }
  const std::string near = did_you_mean(name, candidates(kind));
  const std::string unknown = fmt::format("unknown {} `{}`", word(kind), name);
  if (!near.empty()) mention.fail(ErrorCode::BadRecipe, unknown, near);
  const Look seen = look(located(name, folder_));
  if (seen.exists) {
    mention.fail(ErrorCode::NotFound,
                 fmt::format("`{}` is there, but it is no {}", located(name, folder_), word(kind)),
                 is_model ? "a model is a folder with config.json, or one file of weights"
                          : "an adapter is a folder with adapter_config.json");
  }
  if (const auto repository = parse_repository(name)) {
    try {
      snapshot_folder(disk_, hub_cache_folder(), *repository);
    } catch (const Error& error) {
      mention.fail(error.code(), error.message(), error.hint());
    }
  }
  if (looks_like_path(name)) {
    mention.fail(ErrorCode::NotFound, fmt::format("there is no {} at `{}`", word(kind), name),
                 "check the path");
  }
  mention.fail(ErrorCode::BadRecipe, unknown,
               fmt::format("bind it with {} \"{}=FOLDER\", or give the folder above it with "
                           "--path",
                           option(kind), name));
}

}  // namespace thorns
