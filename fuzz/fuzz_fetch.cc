// Any bytes as the environment and as all that a server answers while a repository is fetched,
// twice: the second time goes on with what the first left. An answer is a status, headers, an empty
// line and a body; one whose status is no number is a connection that breaks. The token goes to the
// endpoint alone, nothing is written out of the cache, and what gets its name has its hash.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk_resume.h"
#include "base/hash.h"
#include "hub/fetch_repository.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

constexpr std::size_t kMostAnswers = 24;

bool names_the_content(const std::string& hash, const std::string& content) {
  const bool large = hash.size() == 64;
  thorns::Digest digest(large ? thorns::Digest::Kind::Sha256 : thorns::Digest::Kind::Sha1);
  const std::string header = large ? "" : "blob " + std::to_string(content.size()) + '\0';
  digest.update(std::as_bytes(std::span(header)));
  digest.update(std::as_bytes(std::span(content)));
  return digest.hex() == hash;
}

class CacheDisk final : public thorns::MemoryDisk, public thorns::ResumableDisk {
 public:
  std::unique_ptr<thorns::WriteFile> create(const std::string& path,
                                            std::uint64_t expected) override {
    require(path.starts_with("hub/models--o--r/"));
    return MemoryDisk::create(path, expected);
  }
  std::unique_ptr<thorns::WriteFile> reopen(const std::string& path, std::uint64_t keep,
                                            std::uint64_t expected) override {
    const std::string content = text_of(path);
    require(keep <= content.size());
    auto file = create(path, expected);
    file->append(std::as_bytes(std::span(content).first(static_cast<std::size_t>(keep))));
    return file;
  }
  void rename(const std::string& from, const std::string& to) override {
    require(to.starts_with("hub/models--o--r/") && to.find("/../") == std::string::npos);
    if (from.ends_with(".incomplete")) {
      require(names_the_content(thorns::base_name(to), text_of(from)));
    }
    MemoryDisk::rename(from, to);
  }
  Kind kind(const std::string& path) override {
    return !exists(path) ? Kind::None : stat(path).is_folder ? Kind::Folder : Kind::File;
  }
  std::int64_t modified(const std::string&) override { return 0; }
  std::uint64_t occupied(const std::string& path) override { return stat(path).size; }

 private:
  std::string text_of(const std::string& path) {
    return read_text(*this, path, std::uint64_t{1} << 30);
  }
};

// The first line of `text`, which it loses.
std::string take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string line(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

class Server final : public thorns::HttpClient {
 public:
  Server(std::vector<std::string> answers, thorns::Url endpoint)
      : answers_(std::move(answers)), endpoint_(std::move(endpoint)) {}

  thorns::HttpAnswer get(const thorns::HttpRequest& request,
                         const thorns::HttpSink& sink) override {
    check(request);
    thorns::HttpAnswer answer;
    if (next_ == answers_.size()) return {{}, "nobody answers", true};
    std::string_view text = answers_[next_++];
    const std::string status = take_line(text);
    answer.head.status = std::atoi(status.c_str());
    for (std::string line; !(line = take_line(text)).empty();) {
      const std::size_t colon = std::min(line.find(": "), line.size());
      answer.head.headers[line.substr(0, colon)] = line.substr(std::min(colon + 2, line.size()));
    }
    if (answer.head.status == 0) {
      answer.failure = "it broke";
      answer.permanent = status == "end";
      answer.head.status = 200;
    }
    const auto body = std::as_bytes(std::span(text));
    for (const auto piece : {body.first(body.size() / 2), body.subspan(body.size() / 2)}) {
      if (!piece.empty() && !sink(answer.head, piece)) break;
    }
    return answer;
  }

 private:
  void check(const thorns::HttpRequest& request) const {
    const auto url = thorns::parse_url(request.url);
    require(url.has_value());
    require(url->scheme == "https" || endpoint_.scheme == "http");
    for (const std::string& header : request.headers) {
      require(header.find_first_of("\r\n") == std::string::npos);
      if (!header.starts_with("Authorization: ")) continue;
      require(url->has_origin_of(endpoint_));
      require(url->scheme == "https" || url->host == "localhost" || url->host == "127.0.0.1" ||
              url->host == "[::1]");
    }
  }

  std::vector<std::string> answers_;
  thorns::Url endpoint_;
  std::size_t next_ = 0;
};

class Silent final : public thorns::FetchObserver {};

thorns::HubSettings settings_by(const std::string& variables, thorns::Disk& disk) {
  return thorns::hub_settings(disk, [&](const char* name) -> std::optional<std::string> {
    std::string_view rest = variables;
    while (!rest.empty()) {
      const std::string line = take_line(rest);
      if (line.starts_with(std::string(name) + "=")) return line.substr(line.find('=') + 1);
    }
    if (std::string_view(name) == "HF_TOKEN") return "secret";
    return std::nullopt;
  });
}

void fetch(CacheDisk& disk, thorns::Hub& hub) {
  Silent silent;
  thorns::JointObserver observer(silent);
  const auto wait = [](double seconds) { require(seconds >= 0 && seconds <= 300); };
  try {
    const auto fetched =
        fetch_repository(disk, std::span(&hub, 1), "hub", {"o/r"}, {}, wait, observer);
    require(fetched.bytes_there <= fetched.bytes);
    require(read_text(disk, "hub/models--o--r/refs/main", 100) == fetched.commit);
  } catch (const thorns::Error& error) {
    to_string(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> parts = thorns::fuzz::split_parts(data, size, kMostAnswers);
  CacheDisk disk;
  try {
    const thorns::HubSettings settings = settings_by(parts.front(), disk);
    parts.erase(parts.begin());
    Server server(std::move(parts), settings.endpoint);
    thorns::Hub hub(server, settings,
                    [](double seconds) { require(seconds >= 0 && seconds <= 300); });
    fetch(disk, hub);
    fetch(disk, hub);
  } catch (const thorns::Error& error) {
    to_string(error);
  }
  return 0;
}
