#include <gtest/gtest.h>

#include <cstdlib>

#include "hub/http.h"

namespace thorns {
namespace {

TEST(CurlClient, TellsNoProxysPassword) {
  ASSERT_EQ(setenv("http_proxy", "http://me:s3cret@[::", 1), 0);
  const HttpAnswer answer =
      curl_client({}, {})->get({"http://hub.example/", {}},
                               [](const HttpHead&, std::span<const std::byte>) { return true; });
  unsetenv("http_proxy");
  EXPECT_NE(answer.failure.find("proxy"), std::string::npos) << answer.failure;
  EXPECT_EQ(answer.failure.find("s3cret"), std::string::npos) << answer.failure;
}

}  // namespace
}  // namespace thorns
