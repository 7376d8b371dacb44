// The Hub's rules, by a client without a network that answers what a test has written down.
#include "hub/hub.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "hub/cache.h"
#include "hub/cache_writer.h"
#include "support/expect_error.h"
#include "support/memory_disk.h"

namespace thorns {
namespace {

const std::string kRevision(40, 'a');

struct Scripted {
  HttpAnswer answer;
  std::string body;
};

class ScriptedClient final : public HttpClient {
 public:
  HttpAnswer get(const HttpRequest& request, const HttpSink& sink) override {
    urls.push_back(request.url);
    lines.push_back(request.headers);
    timeouts.push_back(request.timeout);
    if (script.empty()) throw Error(ErrorCode::Internal, "more is asked for than is written down");
    const Scripted next = std::move(script.front());
    script.pop_front();
    if (!next.body.empty()) sink(next.answer.head, std::as_bytes(std::span(next.body)));
    return next.answer;
  }

  void add(int status, std::map<std::string, std::string> headers = {}, std::string body = {}) {
    script.push_back({{{status, std::move(headers)}, {}, false}, std::move(body)});
  }
  void add_break(int status, std::string body, bool permanent = false) {
    script.push_back({{{status, {}}, "it broke", permanent}, std::move(body)});
  }

  std::deque<Scripted> script;
  std::vector<std::string> urls;
  std::vector<std::vector<std::string>> lines;
  std::vector<long> timeouts;
};

class TextOf final : public HubReceiver {
 public:
  std::uint64_t next() const override { return text.size(); }
  void restart() override {
    text.clear();
    ++restarts;
  }
  bool append(std::span<const std::byte> bytes) override {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }
  std::string text;
  int restarts = 0;
};

class HubTest : public ::testing::Test {
 protected:
  explicit HubTest(const char* endpoint = "https://hub.example", const char* token = "secret")
      : hub_(client_, {*parse_url(endpoint), {token, "HF_TOKEN"}, 20, 30, {}},
             [this](double seconds) { waits_.push_back(seconds); }) {}

  void bring() { hub_.get({"o/r"}, kRevision, "a b/c.bin", text_); }
  Error get() {
    return error_of([&] { hub_.get({"o/r"}, kRevision, "a b/c.bin", text_); });
  }
  // Whether each request had the token, as a word of y and n.
  std::string tokens() const {
    std::string word;
    for (const auto& lines : client_.lines) {
      const bool has =
          std::find(lines.begin(), lines.end(), "Authorization: Bearer secret") != lines.end();
      word += has ? 'y' : 'n';
    }
    return word;
  }

  ScriptedClient client_;
  std::vector<double> waits_;
  TextOf text_;
  Hub hub_;
};

TEST_F(HubTest, ATokenStaysAtItsHost) {
  client_.add(302, {{"location", "/moved/here"}});
  client_.add(307, {{"location", "https://cdn.example/x?signature=1"}});
  client_.add(302, {{"location", "https://hub.example/again"}});
  client_.add(200, {}, "body");
  bring();
  EXPECT_EQ(text_.text, "body");
  EXPECT_EQ(client_.urls, (std::vector<std::string>{
                              "https://hub.example/o/r/resolve/" + kRevision + "/a%20b/c.bin",
                              "https://hub.example/moved/here", "https://cdn.example/x?signature=1",
                              "https://hub.example/again"}));
  EXPECT_EQ(tokens(), "yynn");
}

TEST_F(HubTest, AnotherPortOrSchemeIsAnotherHost) {
  for (const char* target :
       {"https://hub.example:444/x", "https://hub.example.evil/x", "//evil.example/x"}) {
    client_.lines.clear();
    client_.add(302, {{"location", target}});
    client_.add(200, {}, "x");
    bring();
    EXPECT_EQ(tokens(), "yn") << target;
    text_.text.clear();
  }
  for (const char* target : {"http://hub.example/x", "http://cdn.example/x?signature=1",
                             "file:///etc/passwd", "https://user@cdn.example/"}) {
    client_.add(302, {{"location", target}});
    const auto error = get();
    expect_error(error, ErrorCode::Io, "a place that cannot be trusted");
    EXPECT_EQ(error.message().find("signature"), std::string::npos);
  }
}

class PlainHubTest : public HubTest {
 protected:
  PlainHubTest() : HubTest("http://mirror.example") {}
};

TEST_F(PlainHubTest, ATokenIsNotSentInTheOpen) {
  client_.add(200, {}, "x");
  bring();
  EXPECT_EQ(tokens(), "n");
  client_.add(401);
  expect_error(get(), ErrorCode::NotFound, "there is no `o/r` on the Hub", "the token is not sent");
}

TEST_F(HubTest, BreaksAreGoneOnWith) {
  client_.add_break(200, "abc");
  client_.add_break(206, "");
  client_.add(503, {{"retry-after", "7"}});
  client_.add(206, {{"content-range", "bytes 3-5/6"}}, "def");
  bring();
  EXPECT_EQ(text_.text, "abcdef");
  EXPECT_EQ(client_.lines[0].size(), 1U);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(client_.lines[i].back(), "Range: bytes=3-");
  ASSERT_EQ(waits_.size(), 3U);
  EXPECT_LE(waits_[0], 0.5);
  EXPECT_GE(waits_[0], 0.25);
  EXPECT_LE(waits_[1], 1);
  EXPECT_GE(waits_[1], 0.5);
  EXPECT_EQ(waits_[2], 7);
}

TEST_F(HubTest, AServerMayBeginAnew) {
  client_.add_break(200, "abc");
  client_.add(200, {}, "abcdef");
  bring();
  EXPECT_EQ(text_.text, "abcdef");
  EXPECT_EQ(text_.restarts, 2);
  text_.text = "too long";
  client_.add(416);
  client_.add(200, {}, "short");
  bring();
  EXPECT_EQ(text_.text, "short");
}

TEST_F(HubTest, OtherBytesThanAskedForAreRefused) {
  for (const char* range : {"bytes 4-5/6", "bytes x", "", "bytes 3"}) {
    text_.text = "abc";
    client_.add(206, {{"content-range", range}}, "def");
    expect_error(get(), ErrorCode::Corrupt, "sends other bytes of `a b/c.bin`");
  }
}

TEST_F(HubTest, PatienceHasAnEnd) {
  for (int i = 0; i < 6; ++i) client_.add_break(0, "");
  expect_error(get(), ErrorCode::Io,
               "`a b/c.bin` of `o/r` cannot be fetched from hub.example: it broke (tried 6 times)",
               "the same command goes on with it");
  EXPECT_EQ(waits_.size(), 5U);
  EXPECT_TRUE(client_.script.empty());
  client_.add_break(0, "", true);  // a certificate that nobody trusts
  expect_error(get(), ErrorCode::Io, "it broke", "the certificates that this machine trusts");
  client_.add(429, {{"retry-after", "301"}});
  expect_error(get(), ErrorCode::Io, "it answers 429", "come back in 5 min");
  // A server that sends a byte at a time and breaks is no progress.
  for (int i = 0; i < 6; ++i) client_.add_break(200, "x");
  expect_error(get(), ErrorCode::Io, "tried 6 times");
  // Megabytes are.
  text_.text.clear();
  for (int i = 0; i < 8; ++i) client_.add_break(200, std::string(1'000'001 + 1'000'001 * i, 'x'));
  client_.add(200, {}, "done");
  bring();
}

TEST_F(HubTest, ListsAndFilesHaveTheirOwnPatience) {
  client_.add(200, {}, R"({"sha": ")" + kRevision + R"("})");
  client_.add(200, {}, "[]");
  hub_.list({"o/r"});
  client_.add(200, {}, "x");
  bring();
  EXPECT_EQ(client_.timeouts, (std::vector<long>{20, 20, 30}));
}

TEST_F(HubTest, RefusalsSayWhatToDo) {
  struct Case {
    int status;
    std::map<std::string, std::string> headers;
    ErrorCode code;
    const char* message;
    const char* hint;
  };
  const std::string kCode = "x-error-code";
  const std::string kWords = "x-error-message";
  for (const Case& one : {
           Case{403,
                {{kCode, "GatedRepo"}, {kWords, "not in the list"}},
                ErrorCode::Io,
                "`o/r` is gated: not in the list",
                "ask for access at https://hub.example/o/r as the owner of the token in HF_TOKEN"},
           Case{403,
                {{kWords, "no scope"}},
                ErrorCode::Io,
                "`o/r` is closed to the token in HF_TOKEN: no scope",
                "the right to read it"},
           Case{401,
                {{kWords, "Invalid credentials in Authorization header"}},
                ErrorCode::Io,
                "the Hub does not know the token in HF_TOKEN",
                "make another at https://hub.example/settings/tokens"},
           Case{401,
                {{kCode, "RepoNotFound"}},
                ErrorCode::NotFound,
                "there is no `o/r` on the Hub, or it is private",
                "that the token in HF_TOKEN may read it"},
       }) {
    client_.add(one.status, one.headers);
    expect_error(error_of([&] { hub_.list({"o/r"}); }), one.code, one.message, one.hint);
  }
}

class AnonymousHubTest : public HubTest {
 protected:
  AnonymousHubTest() : HubTest("https://hub.example/mirror", "") {}
};

TEST_F(AnonymousHubTest, RefusalsSayHowToLogIn) {
  client_.add(401, {{"x-error-code", "GatedRepo"}});
  expect_error(get(), ErrorCode::Io, "`o/r` is gated",
               "ask for access at https://hub.example/mirror/o/r, then set HF_TOKEN");
  client_.add(403);
  expect_error(get(), ErrorCode::Io, "`o/r` is closed to you", "if you have access, set HF_TOKEN");
}

TEST_F(HubTest, ADiskWithoutLinksHasTheFilesThemselves) {
  MemoryDisk disk;
  const Repository repository{"o/r"};
  // The hash that Git gives to "hello\n".
  const HubFile file{"model.safetensors", 6, "ce013625030ba8dba906f756967f9e9ca394464a"};
  CacheWriter writer(disk, "hub", repository, kRevision);
  EXPECT_EQ(writer.present(file), 0U);
  EXPECT_EQ(writer.needed(file), 6U);
  std::int64_t moved = 0;
  client_.add_break(200, "hel");
  client_.add(206, {{"content-range", "bytes 3-5/6"}}, "lo\n");
  const auto bring_it = [&] {
    writer.bring(
        hub_, file, [&](std::int64_t bytes) { moved += bytes; }, [](double) {});
  };
  bring_it();
  EXPECT_EQ(moved, 6);
  EXPECT_EQ(writer.present(file), 6U);
  bring_it();  // asks for nothing
  expect_error(error_of([&] { snapshot_folder(disk, "hub", repository); }), ErrorCode::NotFound,
               "not its revision `main`");
  writer.publish([](double) {});
  const std::string folder = snapshot_folder(disk, "hub", repository);
  EXPECT_EQ(folder, writer.snapshot());
  EXPECT_EQ(read_text(disk, folder + "/model.safetensors", 100), "hello\n");
}

TEST(HubSettings, RefuseWhatMakesNoSense) {
  MemoryDisk disk;
  const auto settings = [&](const std::map<std::string, std::string>& variables) {
    return hub_settings(disk, [&](const char* name) -> std::optional<std::string> {
      const auto found = variables.find(name);
      if (found == variables.end()) return std::nullopt;
      return found->second;
    });
  };
  EXPECT_EQ(settings({}).endpoint.text, "https://huggingface.co/");
  EXPECT_EQ(settings({}).token.text, "");
  const HubSettings both = settings(
      {{"HF_HUB_OFFLINE", "0"}, {"HF_HUB_DOWNLOAD_TIMEOUT", "60"}, {"HF_HUB_ETAG_TIMEOUT", "5"}});
  EXPECT_EQ(both.file_timeout, 60);
  EXPECT_EQ(both.list_timeout, 5);
  EXPECT_EQ(settings({{"HF_ENDPOINT", "https://mirror.example/hub//"}}).endpoint.path, "/hub");
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"HF_HUB_OFFLINE", "on"},
                                          {"TRANSFORMERS_OFFLINE", "1"},
                                          {"HF_HUB_DOWNLOAD_TIMEOUT", "0"},
                                          {"HF_HUB_DOWNLOAD_TIMEOUT ", "x"},
                                          {"HF_HUB_ETAG_TIMEOUT", "10s"},
                                          {"SSL_CERT_FILE", "no/such.pem"},
                                          {"HF_ENDPOINT", "https://x/?a=b"},
                                          {"HF_TOKEN", "a b"}}) {
    const std::string plain = name.substr(0, name.find(' '));
    expect_error(error_of([&, v = value] { settings({{plain, v}}); }), ErrorCode::BadUsage, plain);
  }
}

TEST(HubSettings, NameTheCertificatesThatAreTrusted) {
  MemoryDisk disk;
  disk.make_folder("folder");
  write_text(disk, "a.pem", "a");
  write_text(disk, "b.pem", "b");
  const auto authorities = [&](const std::map<std::string, std::string>& variables) {
    const Authorities found =
        hub_settings(disk, [&](const char* name) -> std::optional<std::string> {
          const auto value = variables.find(name);
          if (value == variables.end()) return std::nullopt;
          return value->second;
        }).authorities;
    return found.file + "|" + found.folder;
  };
  EXPECT_EQ(authorities({}), "|");
  EXPECT_EQ(authorities({{"SSL_CERT_FILE", "a.pem"}, {"SSL_CERT_DIR", "folder"}}), "a.pem|folder");
  EXPECT_EQ(authorities({{"SSL_CERT_DIR", "folder"}}), "|folder");
  EXPECT_EQ(authorities({{"CURL_CA_BUNDLE", "folder"}, {"SSL_CERT_FILE", "a.pem"}}), "|folder");
  EXPECT_EQ(authorities({{"REQUESTS_CA_BUNDLE", "b.pem"}, {"CURL_CA_BUNDLE", "a.pem"}}), "b.pem|");
}

TEST(Url, IsTakenApart) {
  const auto url = parse_url("HTTPS://Hub.Example:8443/a%20b?c=d#e");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->scheme + " " + url->host + " " + url->port + " " + url->path,
            "https hub.example 8443 /a%20b");
  EXPECT_EQ(url->shown(), "https://hub.example:8443/a%20b");
  for (const char* text :
       {"", "hub.example", "ftp://x/", "file:///x", "https://u:p@x/", "https://"}) {
    EXPECT_FALSE(parse_url(text)) << text;
  }
  EXPECT_TRUE(parse_url("https://x")->has_origin_of(*parse_url("https://X:443/y")));
  EXPECT_FALSE(parse_url("https://x")->has_origin_of(*parse_url("http://x:443")));
  EXPECT_EQ(percent_encoded("refs/pr/1 \xC3\xA9", false), "refs%2Fpr%2F1%20%C3%A9");
  EXPECT_EQ(percent_encoded("a/b", true), "a/b");
}

}  // namespace
}  // namespace thorns
