#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <exception>
#include <string_view>
#include <utility>

#include "hub/http.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kMostHeaderBytes = 100'000;

const char* user_agent() { return "thorns/" THORNS_VERSION; }

bool comes_again(CURLcode code) {
  static constexpr std::array kCodes = {CURLE_UNSUPPORTED_PROTOCOL,     CURLE_URL_MALFORMAT,
                                        CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE,
                                        CURLE_SSL_CONNECT_ERROR,        CURLE_SSL_CERTPROBLEM,
                                        CURLE_SSL_ISSUER_ERROR,         CURLE_TOO_MANY_REDIRECTS};
  return std::find(kCodes.begin(), kCodes.end(), code) != kCodes.end();
}

class CurlClient final : public HttpClient {
 public:
  CurlClient(Authorities authorities, std::function<bool()> cancelled)
      : authorities_(std::move(authorities)), cancelled_(std::move(cancelled)) {
    static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (started != CURLE_OK || !handle_) {
      throw Error(ErrorCode::Internal, "libcurl could not be started");
    }
  }

  HttpAnswer get(const HttpRequest& request, const HttpSink& sink) override {
    Transfer transfer{{}, 0, sink, cancelled_, false, false, nullptr};
    List lines(nullptr, &curl_slist_free_all);
    const auto add = [&](const std::string& line) {
      curl_slist* const longer = curl_slist_append(lines.get(), line.c_str());
      if (longer == nullptr) throw std::bad_alloc();
      static_cast<void>(lines.release());
      lines.reset(longer);
    };
    add("Accept-Encoding: identity");
    for (const std::string& header : request.headers) add(header);

    CURL* const handle = handle_.get();
    std::array<char, CURL_ERROR_SIZE> reason{};
    curl_easy_reset(handle);  // connections stay
    const auto set = [&](CURLoption option, auto value) {
      if (curl_easy_setopt(handle, option, value) != CURLE_OK) {
        throw Error(ErrorCode::Internal, "libcurl does not know an option that it should");
      }
    };
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_HTTPHEADER, lines.get());
    set(CURLOPT_USERAGENT, user_agent());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    if (!authorities_.file.empty() || !authorities_.folder.empty()) {
      const auto or_none = [](const std::string& path) {
        return path.empty() ? nullptr : path.c_str();  // null: not the system's either
      };
      set(CURLOPT_CAINFO, or_none(authorities_.file));
      set(CURLOPT_CAPATH, or_none(authorities_.folder));
    }
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT, request.timeout);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, request.timeout);
    set(CURLOPT_ERRORBUFFER, reason.data());
    set(CURLOPT_HEADERFUNCTION, &take_header);
    set(CURLOPT_HEADERDATA, &transfer);
    set(CURLOPT_WRITEFUNCTION, &take_body);
    set(CURLOPT_WRITEDATA, &transfer);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &ask_whether_to_stop);
    set(CURLOPT_XFERINFODATA, &transfer);
    const CURLcode code = curl_easy_perform(handle);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, nullptr);

    if (transfer.thrown) std::rethrow_exception(transfer.thrown);
    if (transfer.cancelled) throw Error(ErrorCode::Cancelled, "interrupted");
    HttpAnswer answer{std::move(transfer.head), {}, false};
    if (code != CURLE_OK && !transfer.enough) {
      // A proxy that cannot be understood is shown whole, with its password.
      const std::string_view told(reason.data());
      const bool secret = told.find('@') != told.npos;
      answer.failure = told.empty() || secret ? curl_easy_strerror(code) : told;
      answer.permanent = comes_again(code);
    }
    return answer;
  }

 private:
  using List = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

  struct Transfer {
    HttpHead head;
    std::size_t header_bytes;
    const HttpSink& sink;
    const std::function<bool()>& cancelled_now;
    bool enough;
    bool cancelled;
    std::exception_ptr thrown;
  };

  // Exceptions must not cross libcurl's frames.
  template <typename Work>
  static std::size_t guarded(Transfer& transfer, std::size_t size, Work work) {
    try {
      return work() ? size : 0;
    } catch (...) {
      transfer.thrown = std::current_exception();
      return 0;
    }
  }

  static std::size_t take_header(char* data, std::size_t, std::size_t size, void* to) {
    Transfer& transfer = *static_cast<Transfer*>(to);
    return guarded(transfer, size, [&] {
      transfer.header_bytes += size;
      if (transfer.header_bytes > kMostHeaderBytes) return false;
      std::string_view line(data, size);
      while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
      if (line.starts_with("HTTP/")) {  // an answer may come after others ("100 Continue")
        transfer.head = {};
        const std::size_t blank = std::min(line.find(' '), line.size() - 1);
        std::from_chars(line.data() + blank + 1, line.data() + line.size(), transfer.head.status);
        return true;
      }
      const std::size_t colon = line.find(':');
      if (colon == std::string_view::npos) return true;
      std::string name(line.substr(0, colon));
      std::transform(name.begin(), name.end(), name.begin(),
                     [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
      std::string_view value = line.substr(colon + 1);
      while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
      transfer.head.headers[std::move(name)] = std::string(value);
      return true;
    });
  }

  static std::size_t take_body(char* data, std::size_t, std::size_t size, void* to) {
    Transfer& transfer = *static_cast<Transfer*>(to);
    return guarded(transfer, size, [&] {
      transfer.enough = !transfer.sink(transfer.head, std::as_bytes(std::span(data, size)));
      return !transfer.enough;
    });
  }

  static int ask_whether_to_stop(void* to, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    Transfer& transfer = *static_cast<Transfer*>(to);
    transfer.cancelled = transfer.cancelled_now && transfer.cancelled_now();
    return transfer.cancelled ? 1 : 0;
  }

  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle_{curl_easy_init(), &curl_easy_cleanup};
  Authorities authorities_;
  std::function<bool()> cancelled_;
};

}  // namespace

std::unique_ptr<HttpClient> curl_client(Authorities authorities, std::function<bool()> cancelled) {
  return std::make_unique<CurlClient>(std::move(authorities), std::move(cancelled));
}

}  // namespace thorns
