// What the environment says about the Hub, by the names that huggingface_hub gives it (its
// documentation, "Environment variables").
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace thorns {

// The value of a variable; nullopt where it is not set or empty.
using Environment = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> process_environment(const char* name);

// The cache's folder: HF_HUB_CACHE, the older HUGGINGFACE_HUB_CACHE, $HF_HOME/hub,
// $XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub; `~` and $VARIABLES in it are replaced.
// Empty where none of them is known. It need not exist.
std::string hub_cache_folder(const Environment& environment = process_environment);

// The file with the user's token: HF_TOKEN_PATH, else `token` beside the cache in HF_HOME. Empty
// where neither is known.
std::string hub_token_path(const Environment& environment = process_environment);

}  // namespace thorns
