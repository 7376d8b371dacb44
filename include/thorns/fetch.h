// Repositories of the Hub brought to this machine, into the cache that huggingface_hub uses, too
// (docs/hub.md). Afterwards owner/repo[@revision] is a name like any other. Nothing else in thorns
// uses the network, but for plan_at_hub and explain_at_hub.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "thorns/observer.h"
#include "thorns/thorns.h"

namespace thorns {

struct FetchOptions {
  std::vector<std::string> repositories;  // "owner/repo", "owner/repo@revision"
  // Patterns of the files to fetch, with * and ?; none: what a merge needs.
  std::vector<std::string> include;
};

struct FetchedRepository {
  std::string repository;  // "owner/repo@revision"
  std::string commit;
  std::string folder;  // its snapshot in the cache
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;        // of all its files
  std::uint64_t bytes_there = 0;  // of them, that were in the cache before
};

struct FetchReport {
  std::vector<FetchedRepository> repositories;
  double seconds = 0.0;
};

// What is about to be fetched, once it is known.
struct FetchStarted {
  std::string repository;  // "owner/repo@revision"
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;        // of all its files
  std::uint64_t bytes_there = 0;  // of them, that are in the cache already
};

// Progress counts the bytes of a repository's files; `tensor` is the file begun last. It may come
// from other threads than the caller's, from one at a time.
class FetchObserver : public Observer {
 public:
  // Once per repository, before its first progress but for that of a shard index.
  virtual void fetch_started(const FetchStarted& /*job*/) {}
};

// Throws BadUsage (no such name, no network allowed), NotFound, Io, Corrupt (what came is not what
// the Hub lists), NoSpace and Cancelled. What has come by then is kept and gone on with.
FetchReport fetch(const FetchOptions& options, FetchObserver& observer);

std::string to_json(const FetchReport& report);

// `plan` and `explain` for a recipe whose repositories need not be in the cache: of those that are
// not, headers and small files are read at the Hub. No estimate of time is made. Throw what `fetch`
// throws, too.
PlanReport plan_at_hub(const MergeOptions& options, Observer& observer);
std::string explain_at_hub(const MergeOptions& options, const std::string& tensor);

}  // namespace thorns
