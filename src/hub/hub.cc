#include "hub/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <random>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "hub/retry.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kEndpoint = "https://huggingface.co";
constexpr int kMostTries = 6;
constexpr int kMostRedirects = 5;
constexpr double kLongestWait = 300;                  // seconds, when the server asks for it
constexpr std::uint64_t kEnoughProgress = 1'000'000;  // bytes after which tries count anew
constexpr std::uint64_t kLongestAnswer = 50'000'000;  // bytes of JSON
constexpr std::size_t kMostPages = 1000;
constexpr std::uint64_t kLongestToken = 10'000;
constexpr std::size_t kLongestReason = 200;  // of a server's words in a message

bool is_yes(const std::optional<std::string>& value) {
  if (!value) return false;
  std::string text = *value;
  for (char& c : text) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  return text == "1" || text == "ON" || text == "YES" || text == "TRUE";
}

std::string trimmed(const std::string& text) {
  constexpr const char* kBlanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

// Where the token comes from is told, the token never.
HubToken checked_token(const std::string& token, const std::string& from) {
  std::string text = trimmed(token);
  if (std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; })) {
    return {std::move(text), from};
  }
  throw Error(ErrorCode::BadUsage, fmt::format("what stands in {} cannot be a token", from), {},
              "a token is one word");
}

HubToken find_token(Disk& disk, const Environment& environment) {
  if (is_yes(environment("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return {};
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    if (const auto token = environment(name)) return checked_token(*token, name);
  }
  const std::string path = hub_token_path(environment);
  if (path.empty() || !disk.exists(path)) return {};
  return checked_token(read_text(disk, path, kLongestToken), "`" + path + "`");
}

// The certificates that Python's requests and httpx, curl and OpenSSL take instead of the system's.
Authorities find_authorities(Disk& disk, const Environment& environment) {
  Authorities found;
  for (const char* name :
       {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}) {
    const auto path = environment(name);
    if (!path) continue;
    if (!disk.exists(*path)) {
      throw Error(ErrorCode::BadUsage, fmt::format("{} names `{}`, where nothing is", name, *path),
                  {}, "it is a file or folder of certificates; unset, those of this machine count");
    }
    (disk.stat(*path).is_folder ? found.folder : found.file) = *path;
    if (!std::string_view(name).starts_with("SSL_")) break;  // those two go together
  }
  return found;
}

long seconds_of(const Environment& environment, const char* name) {
  constexpr long kDefault = 10;
  constexpr long kLongest = 3600;
  const auto text = environment(name);
  if (!text) return kDefault;
  long seconds = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, code] = std::from_chars(text->data(), end, seconds);
  if (code != std::errc{} || stop != end || seconds < 1 || seconds > kLongest) {
    throw Error(ErrorCode::BadUsage,
                fmt::format("{} needs seconds from 1 to {}, found `{}`", name, kLongest, *text));
  }
  return seconds;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "127.0.0.1" || host == "[::1]";
}

bool is_redirect(int status) {
  static constexpr std::array kStatuses = {301, 302, 303, 307, 308};
  return std::find(kStatuses.begin(), kStatuses.end(), status) != kStatuses.end();
}

// A server's words on one line.
std::string reason_of(const HttpHead& head) {
  std::string text = head.header("x-error-message");
  if (text.size() > kLongestReason) text = text.substr(0, kLongestReason) + "...";
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) c = '?';
  }
  return text.empty() ? text : ": " + text;
}

// The first byte that a 206 brings ("bytes 5-9/10"); nullopt where it does not say.
std::optional<std::uint64_t> range_begin(const HttpHead& head) {
  const std::string text = head.header("content-range");
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  std::uint64_t begin = 0;
  const auto [stop, code] =
      std::from_chars(text.data() + kUnit.size(), text.data() + text.size(), begin);
  if (code != std::errc{} || stop == text.data() + text.size() || *stop != '-') return std::nullopt;
  return begin;
}

// An answer that is kept in memory.
class TextReceiver final : public HubReceiver {
 public:
  explicit TextReceiver(std::string place) : place_(std::move(place)) {}
  std::uint64_t next() const override { return 0; }  // a list that has changed is read anew
  void restart() override { text.clear(); }
  bool append(std::span<const std::byte> bytes) override {
    if (text.size() + bytes.size() > kLongestAnswer) {
      throw Error(ErrorCode::Corrupt,
                  fmt::format("the Hub's answer is longer than {}", human_bytes(kLongestAnswer)),
                  FilePlace{place_});
    }
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }

  std::string text;

 private:
  std::string place_;
};

}  // namespace

HubSettings hub_settings(Disk& disk, const Environment& environment) {
  for (const char* name : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    if (is_yes(environment(name))) {
      throw Error(ErrorCode::BadUsage, fmt::format("the network is off: {} is set", name), {},
                  "what is in the cache is found without it; unset the variable to fetch more");
    }
  }
  std::string endpoint = environment("HF_ENDPOINT").value_or(kEndpoint);
  while (endpoint.ends_with('/')) endpoint.pop_back();
  const auto url = parse_url(endpoint);
  if (!url || url->text.find_first_of("?#") != std::string::npos) {
    throw Error(ErrorCode::BadUsage, "HF_ENDPOINT is not the address of a server", {},
                fmt::format("for example {}", kEndpoint));
  }
  return {*url, find_token(disk, environment), seconds_of(environment, "HF_HUB_ETAG_TIMEOUT"),
          seconds_of(environment, "HF_HUB_DOWNLOAD_TIMEOUT"), find_authorities(disk, environment)};
}

// What is asked for, and of what repository, for messages.
struct Hub::Asked {
  const Repository& repository;
  std::string file;  // empty: the repository itself
  Url url;
  long timeout;

  std::string what() const {
    return file.empty() ? fmt::format("`{}`", repository.text())
                        : fmt::format("`{}` of `{}`", file, repository.text());
  }
};

Hub::Hub(HttpClient& client, HubSettings settings, Wait wait)
    : client_(client), settings_(std::move(settings)), wait_(std::move(wait)) {}

Url Hub::at_endpoint(const std::string& path) const {
  std::string base = settings_.endpoint.text;
  while (base.ends_with('/')) base.pop_back();
  const auto url = parse_url(base + path);
  if (!url) throw Error(ErrorCode::Internal, "a path of the Hub makes no URL");
  return *url;
}

HubListing Hub::list(const Repository& repository) {
  HubListing listing;
  HttpHead head;
  const std::string models = "/api/models/" + repository.id;
  Asked asked{repository,
              {},
              at_endpoint(models + "/revision/" + percent_encoded(repository.revision, false)),
              settings_.list_timeout};
  listing.commit = read_commit(read(asked, head), asked.url.shown());
  asked.url = at_endpoint(models + "/tree/" + listing.commit + "?recursive=true");
  for (std::size_t page = 1;; ++page) {
    read_tree_page(read(asked, head), asked.url.shown(), listing.files);
    const std::string next = next_page(head.header("link"));
    if (next.empty()) break;
    const auto url = resolve_url(asked.url, next);
    if (!url || !url->has_origin_of(settings_.endpoint) || page >= kMostPages) {
      throw Error(ErrorCode::Corrupt,
                  page >= kMostPages ? "the Hub's list of files has no end"
                                     : "the Hub's list of files goes on at another server",
                  FilePlace{asked.url.shown()});
    }
    asked.url = *url;
  }
  sort_tree(listing.files, asked.url.shown());
  return listing;
}

void Hub::get(const Repository& repository, const std::string& commit, const std::string& file,
              HubReceiver& receiver) {
  const Asked asked{
      repository, file,
      at_endpoint("/" + repository.id + "/resolve/" + commit + "/" + percent_encoded(file, true)),
      settings_.file_timeout};
  fetch(asked, receiver);
}

std::string Hub::read(const Asked& asked, HttpHead& head) {
  TextReceiver receiver(asked.url.shown());
  head = fetch(asked, receiver);
  return std::move(receiver.text);
}

HttpHead Hub::fetch(const Asked& asked, HubReceiver& receiver) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  std::uint64_t best = receiver.next();
  for (int tries = 1;; ++tries) {
    HttpAnswer answer = follow(asked, receiver);
    const int status = answer.head.status;
    if (answer.failure.empty() && (status == 200 || status == 206)) return answer.head;
    const bool beyond = status == 416 && receiver.next() > 0;
    if (beyond) receiver.restart();  // what is there is longer than the file, so it is another's
    const bool broken = !answer.failure.empty();
    if (!broken && !beyond && !may_pass(status)) refuse(asked, answer.head);
    if (receiver.next() >= best + kEnoughProgress) {
      best = receiver.next();
      tries = 1;
    }
    const double asked_for = retry_after(answer.head, std::time(nullptr));
    if (answer.permanent || tries >= kMostTries || asked_for > kLongestWait) {
      const std::string why =
          broken ? answer.failure : fmt::format("it answers {}{}", status, reason_of(answer.head));
      const std::string later =
          asked_for > kLongestWait
              ? fmt::format("it asks to come back in {}; ", human_seconds(asked_for))
              : "";
      throw Error(
          ErrorCode::Io,
          fmt::format("{} cannot be fetched from {}: {}{}", asked.what(), settings_.endpoint.host,
                      why, tries > 1 ? fmt::format(" (tried {} times)", tries) : ""),
          {},
          answer.permanent
              ? "check the address, and the certificates that this machine trusts; SSL_CERT_FILE "
                "may name others"
              : later + "what has come is kept, and the same command goes on with it");
    }
    const double chance = static_cast<double>(random()) / static_cast<double>(random.max());
    wait_(std::max(retry_delay(tries, chance), asked_for));
  }
}

bool Hub::may_have_token(const Url& url) const {
  return !settings_.token.text.empty() && url.has_origin_of(settings_.endpoint) &&
         (url.scheme == "https" || is_loopback(url.host));
}

// One try, along its redirects. Only the last answer has a body that counts.
HttpAnswer Hub::follow(const Asked& asked, HubReceiver& receiver) {
  Url url = asked.url;
  bool at_home = true;
  for (int hop = 0; hop <= kMostRedirects; ++hop) {
    at_home = at_home && may_have_token(url);  // never again, once it was away
    HttpRequest request{url.text, {}, asked.timeout};
    std::vector<std::string>& headers = request.headers;
    if (at_home) headers.push_back("Authorization: Bearer " + settings_.token.text);
    const std::uint64_t from = receiver.next();
    if (from > 0 || receiver.end() > 0) {
      headers.push_back(fmt::format("Range: bytes={}-{}", from,
                                    receiver.end() > 0 ? std::to_string(receiver.end() - 1) : ""));
    }
    bool begun = false;
    const auto begin = [&](const HttpHead& head) {
      begun = true;
      if (head.status == 206 && range_begin(head) != from) {
        throw Error(
            ErrorCode::Corrupt,
            fmt::format("{} sends other bytes of {} than were asked for", url.host, asked.what()),
            FilePlace{url.shown()});
      }
      if (head.status == 200) receiver.restart();
    };
    HttpAnswer answer =
        client_.get(request, [&](const HttpHead& head, std::span<const std::byte> piece) {
          if (head.status != 200 && head.status != 206) return false;
          if (!begun) begin(head);
          return receiver.append(piece);
        });
    if (!answer.failure.empty()) return answer;
    if (!is_redirect(answer.head.status)) {
      if (!begun && (answer.head.status == 200 || answer.head.status == 206)) begin(answer.head);
      return answer;
    }
    const auto target = resolve_url(url, answer.head.header("location"));
    if (!target || (url.scheme == "https" && target->scheme != "https")) {
      throw Error(ErrorCode::Io,
                  fmt::format("{} sends to a place that cannot be trusted: {}", url.host,
                              target ? target->shown() : "no address of https or http"),
                  FilePlace{url.shown()});
    }
    url = *target;
  }
  throw Error(ErrorCode::Io, fmt::format("{} sends from place to place without end", url.host),
              FilePlace{asked.url.shown()});
}

void Hub::refuse(const Asked& asked, const HttpHead& head) const {
  const Repository& repository = asked.repository;
  const std::string code = head.header("x-error-code");
  const std::string reason = reason_of(head);
  const std::string page = at_endpoint("/" + repository.id).shown();
  const bool anonymous = settings_.token.text.empty();
  const bool withheld = !anonymous && !may_have_token(settings_.endpoint);
  const auto hint = [&](const std::string& without_token, const std::string& with_token) {
    if (withheld) return std::string("the token is not sent, because the endpoint is not https");
    return anonymous ? without_token : with_token;
  };
  const std::string log_in = "set HF_TOKEN or log in with `hf auth login`";
  const std::string token = "the token in " + settings_.token.from;
  if (code == "GatedRepo") {
    throw Error(ErrorCode::Io, fmt::format("`{}` is gated{}", repository.id, reason), {},
                hint(fmt::format("ask for access at {}, then {}", page, log_in),
                     fmt::format("ask for access at {} as the owner of {}", page, token)));
  }
  if (code == "RevisionNotFound") {
    throw Error(
        ErrorCode::NotFound,
        fmt::format("`{}` has no revision `{}` on the Hub", repository.id, repository.revision), {},
        "a revision is a branch, a tag or a whole commit; its page lists them: " + page);
  }
  if (head.status == 403) {
    throw Error(ErrorCode::Io,
                fmt::format("`{}` is closed to {}{}", repository.id,
                            anonymous || withheld ? "you" : token, reason),
                {},
                hint("if you have access, " + log_in,
                     fmt::format("look at {}, and give the token the right to read it", page)));
  }
  // For an unknown repository the Hub answers 401, too.
  if (head.status == 401 && !anonymous && !withheld &&
      head.header("x-error-message").starts_with("Invalid credentials")) {
    throw Error(ErrorCode::Io, fmt::format("the Hub does not know {}{}", token, reason), {},
                fmt::format("make another at {}; public repositories need none",
                            at_endpoint("/settings/tokens").shown()));
  }
  if (head.status == 404 && !asked.file.empty()) {
    throw Error(ErrorCode::NotFound, asked.what() + " is listed, but not there");
  }
  if (head.status == 401 || head.status == 404) {
    throw Error(ErrorCode::NotFound,
                fmt::format("there is no `{}` on the Hub, or it is private", repository.id), {},
                hint("check the name; if you have access, " + log_in,
                     fmt::format("check the name, and that {} may read it", token)));
  }
  throw Error(ErrorCode::Io, fmt::format("{} answers {} to {}{}", settings_.endpoint.host,
                                         head.status, asked.what(), reason));
}

}  // namespace thorns
