#include "hub/environment.h"

#include <cstdlib>

#include "base/disk.h"

namespace thorns {
namespace {

bool is_variable_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// `~` at the start, $NAME and ${NAME} as a shell has them; what is not set stays as it is.
std::string expanded(const std::string& path, const Environment& environment) {
  std::string result;
  for (std::size_t at = 0; at < path.size();) {
    if (at == 0 && (path == "~" || path.starts_with("~/"))) {
      result += environment("HOME").value_or("~");
      ++at;
      continue;
    }
    const bool braced = path.compare(at, 2, "${") == 0;
    const std::size_t begin = at + (braced ? 2 : 1);
    std::size_t end = begin;
    while (end < path.size() && is_variable_character(path[end])) ++end;
    const bool whole = !braced || (end < path.size() && path[end] == '}');
    if (path[at] == '$' && end > begin && whole) {
      const std::size_t stop = end + (braced ? 1 : 0);
      const auto value = environment(path.substr(begin, end - begin).c_str());
      result += value ? *value : path.substr(at, stop - at);
      at = stop;
      continue;
    }
    result += path[at++];
  }
  return result;
}

// $HF_HOME; empty where it is not known.
std::string hub_home(const Environment& environment) {
  if (const auto home = environment("HF_HOME")) return expanded(*home, environment);
  if (const auto caches = environment("XDG_CACHE_HOME")) {
    return join_path(expanded(*caches, environment), "huggingface");
  }
  const auto home = environment("HOME");
  return home ? join_path(*home, ".cache/huggingface") : std::string();
}

}  // namespace

std::optional<std::string> process_environment(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::string hub_cache_folder(const Environment& environment) {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto folder = environment(name)) return expanded(*folder, environment);
  }
  const std::string home = hub_home(environment);
  return home.empty() ? home : join_path(home, "hub");
}

std::string hub_token_path(const Environment& environment) {
  if (const auto path = environment("HF_TOKEN_PATH")) return expanded(*path, environment);
  const std::string home = hub_home(environment);
  return home.empty() ? home : join_path(home, "token");
}

}  // namespace thorns
