// JSON from strangers, read strictly: bounded depth, no duplicate names, no trailing text, UTF-8.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

namespace thorns {

using Json = nlohmann::ordered_json;  // keeps the order of the file

// Parses `text`. `path` and `base` (file offset of text[0]) only name the place in errors.
// Throws Corrupt for syntax, a duplicate name (named in the message), or nesting deeper than
// `depth`.
Json parse_json(const std::string& text, const std::string& path, std::size_t base = 0,
                std::size_t depth = 64);

}  // namespace thorns

// Compiled once, in json.cc: else every file that includes this compiles its own.
extern template class nlohmann::basic_json<nlohmann::ordered_map>;
