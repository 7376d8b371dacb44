// URLs, taken apart by libcurl itself, so that what is judged here is what is connected to. Pure
// functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thorns {

struct Url {
  std::string text;    // whole, as it is requested
  std::string scheme;  // "https" or "http", in small letters
  std::string host;    // in small letters
  std::string port;    // the scheme's own where none is written
  std::string path;    // with its leading slash, as it stands

  bool has_origin_of(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  // For messages: without the query, in which signatures stand.
  std::string shown() const;
};

// An absolute URL of http or https without a user's name; nullopt for anything else.
std::optional<Url> parse_url(const std::string& text);
// What `reference`, absolute or relative, means on the page `base`.
std::optional<Url> resolve_url(const Url& base, const std::string& reference);

// All but letters, digits and -._~ as %XX; with `slashes`, those stay as they are, too.
std::string percent_encoded(std::string_view text, bool slashes);

}  // namespace thorns
