// The Hub behind its endpoint: what is asked how, where a token may go, what is tried again. Made
// of single GETs (http.h). One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/disk.h"
#include "hub/environment.h"
#include "hub/http.h"
#include "hub/listing.h"
#include "hub/repository.h"
#include "hub/url.h"

namespace thorns {

struct HubToken {
  std::string text;  // empty: none
  std::string from;  // the variable or the file, for messages
};

struct HubSettings {
  Url endpoint;
  HubToken token = {};
  long list_timeout = 10;  // seconds without a byte, while lists are read
  long file_timeout = 10;  // and files
  Authorities authorities = {};
};

// HF_ENDPOINT; HF_TOKEN, the older HUGGING_FACE_HUB_TOKEN, the file in HF_TOKEN_PATH or
// $HF_HOME/token, unless HF_HUB_DISABLE_IMPLICIT_TOKEN is set; HF_HUB_ETAG_TIMEOUT,
// HF_HUB_DOWNLOAD_TIMEOUT; REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or SSL_CERT_FILE and SSL_CERT_DIR.
// Throws BadUsage where one of them makes no sense, or where HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE
// forbids the network.
HubSettings hub_settings(Disk& disk, const Environment& environment = process_environment);

// Where the bytes of an answer go.
class HubReceiver {
 public:
  virtual ~HubReceiver() = default;
  // The next byte that is wanted, counted from the first of the file.
  virtual std::uint64_t next() const = 0;
  // Behind the last byte that is wanted; 0: all to the end.
  virtual std::uint64_t end() const { return 0; }
  // The server begins at the first byte, whatever was asked for.
  virtual void restart() = 0;
  // False: no more is wanted.
  virtual bool append(std::span<const std::byte> bytes) = 0;
};

class Hub {
 public:
  // Waits that many seconds; throws Cancelled.
  using Wait = std::function<void(double seconds)>;

  Hub(HttpClient& client, HubSettings settings, Wait wait);

  // Throws NotFound (no such repository or revision), Io (no access, no connection), Corrupt (an
  // answer that makes no sense).
  HubListing list(const Repository& repository);
  // The file's bytes from `receiver.next()` on. Breaks are gone on with; throws as `list`, and what
  // `receiver` throws. That all have come is for the caller to know.
  void get(const Repository& repository, const std::string& commit, const std::string& file,
           HubReceiver& receiver);

 private:
  struct Asked;
  HttpHead fetch(const Asked& asked, HubReceiver& receiver);
  HttpAnswer follow(const Asked& asked, HubReceiver& receiver);
  std::string read(const Asked& asked, HttpHead& head);
  [[noreturn]] void refuse(const Asked& asked, const HttpHead& head) const;
  bool may_have_token(const Url& url) const;
  Url at_endpoint(const std::string& path) const;

  HttpClient& client_;
  HubSettings settings_;
  Wait wait_;
};

}  // namespace thorns
