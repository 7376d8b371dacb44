// One GET at a time, without any policy: no redirect is followed, nothing is tried again. Those are
// the Hub's rules (hub.h), so that they can be tested without a network.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace thorns {

struct HttpHead {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in small letters; the last of equal ones

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
};

struct HttpAnswer {
  HttpHead head;
  // Why the answer did not come, or not to its end; empty where it did.
  std::string failure;
  bool permanent = false;  // a failure that comes again, such as a certificate that is not trusted
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // lines "Name: value"
  long timeout = 10;                 // seconds without a byte after which the connection is broken
};

// Given each piece of the body with the head; false: the rest is not wanted. What it throws comes
// out of `get`.
using HttpSink = std::function<bool(const HttpHead& head, std::span<const std::byte> piece)>;

class HttpClient {
 public:
  virtual ~HttpClient() = default;
  // Throws Cancelled.
  virtual HttpAnswer get(const HttpRequest& request, const HttpSink& sink) = 0;
};

// Whose signature makes a server's certificate good, in PEM. Both empty: those whom the system
// trusts.
struct Authorities {
  std::string file;
  std::string folder;  // as `openssl rehash` makes it
};

// With libcurl, keeping connections open. Certificates are verified. `cancelled` is asked about
// once a second. Not thread-safe.
std::unique_ptr<HttpClient> curl_client(Authorities authorities, std::function<bool()> cancelled);

}  // namespace thorns
