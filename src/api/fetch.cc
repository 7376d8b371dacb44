// thorns::fetch: every repository in turn.
#include "thorns/fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "api/repositories.h"
#include "hub/cache.h"
#include "hub/environment.h"
#include "hub/fetch_repository.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kConnections = 4;  // files fetched at a time

Repository repository_named(const std::string& text) {
  const auto repository = parse_repository(text);
  if (!repository) {
    throw Error(ErrorCode::BadUsage, fmt::format("`{}` is no repository of the Hub", text), {},
                "a repository is written owner/repo or owner/repo@revision");
  }
  return *repository;
}

}  // namespace

std::string located(Disk& disk, const std::string& path) {
  return located_in_cache(disk, hub_cache_folder(), path);
}

Hub::Wait patient_wait(Observer& observer) {
  return [&observer](double seconds) {
    constexpr auto kStep = std::chrono::milliseconds(50);
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    do {
      if (observer.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
      std::this_thread::sleep_for(kStep);
    } while (Clock::now() < end);
  };
}

RemoteInputs::RemoteInputs(Observer& observer)
    : settings_(hub_settings(real_disk())),
      client_(curl_client(settings_.authorities, [&observer] { return observer.cancelled(); })),
      hub_(*client_, settings_, patient_wait(observer)),
      disk_(real_disk(), hub_) {}

FetchReport fetch(const FetchOptions& options, FetchObserver& observer) {
  const auto begin = Clock::now();
  std::vector<Repository> repositories;
  for (const std::string& text : options.repositories) {
    repositories.push_back(repository_named(text));
  }
  Disk& disk = real_disk();
  const std::string cache = hub_cache_folder();
  if (cache.empty()) {
    throw Error(ErrorCode::BadUsage, "there is no folder for the Hub cache", {},
                "set HF_HUB_CACHE or HOME");
  }
  const HubSettings settings = hub_settings(disk);
  JointObserver joint(observer);
  const Hub::Wait wait = patient_wait(joint);
  std::vector<std::unique_ptr<HttpClient>> clients;
  std::vector<Hub> hubs;
  for (std::size_t i = 0; i < kConnections; ++i) {
    clients.push_back(curl_client(settings.authorities, [&joint] { return joint.cancelled(); }));
    hubs.emplace_back(*clients.back(), settings, wait);
  }
  FetchReport report;
  for (const Repository& repository : repositories) {
    report.repositories.push_back(
        fetch_repository(disk, hubs, cache, repository, options.include, wait, joint));
  }
  report.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return report;
}

}  // namespace thorns
