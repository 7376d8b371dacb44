#include "hub/url.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <memory>

namespace thorns {
namespace {

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string part(CURLU* handle, CURLUPart which, unsigned flags = 0) {
  char* value = nullptr;
  if (curl_url_get(handle, which, &value, flags) != CURLUE_OK) return {};
  const std::unique_ptr<char, decltype(&curl_free)> owned(value, &curl_free);
  return value;
}

std::string in_small_letters(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return text;
}

std::optional<Url> taken_apart(CURLU* handle) {
  Url url;
  url.text = part(handle, CURLUPART_URL);
  url.scheme = in_small_letters(part(handle, CURLUPART_SCHEME));
  url.host = in_small_letters(part(handle, CURLUPART_HOST));
  url.port = part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.path = part(handle, CURLUPART_PATH);
  const bool has_user =
      !part(handle, CURLUPART_USER).empty() || !part(handle, CURLUPART_PASSWORD).empty();
  if ((url.scheme != "https" && url.scheme != "http") || url.host.empty() || has_user) {
    return std::nullopt;
  }
  return url;
}

}  // namespace

std::string Url::shown() const {
  const bool usual = port == (scheme == "https" ? "443" : "80");
  return fmt::format("{}://{}{}{}", scheme, host, usual ? "" : ":" + port, path);
}

std::optional<Url> parse_url(const std::string& text) {
  const Handle handle(curl_url(), &curl_url_cleanup);
  if (!handle || curl_url_set(handle.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return std::nullopt;
  }
  return taken_apart(handle.get());
}

std::optional<Url> resolve_url(const Url& base, const std::string& reference) {
  const Handle handle(curl_url(), &curl_url_cleanup);
  if (!handle || curl_url_set(handle.get(), CURLUPART_URL, base.text.c_str(), 0) != CURLUE_OK ||
      curl_url_set(handle.get(), CURLUPART_URL, reference.c_str(), 0) != CURLUE_OK) {
    return std::nullopt;
  }
  return taken_apart(handle.get());
}

std::string percent_encoded(std::string_view text, bool slashes) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (slashes && c == '/');
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

}  // namespace thorns
