// thorns::diff: two checkpoints opened, their common tensors compared on all threads.
#include "thorns/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "api/repositories.h"
#include "base/text.h"
#include "base/threads.h"
#include "checkpoint/checkpoint.h"
#include "insight/compare.h"
#include "plan/memory.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kPerTensor = 1'000;  // of the report, bytes

struct Pair {
  std::size_t in_a = 0;
  std::size_t in_b = 0;
};

std::vector<Pair> match(const Checkpoint& a, const Checkpoint& b, DiffReport& report) {
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < a.tensors().size(); ++i) {
    const TensorInfo& left = a.tensors()[i];
    const auto at = b.find(left.name);
    if (!at) {
      report.only_a.push_back(left.name);
    } else if (b.tensors()[*at].shape != left.shape) {
      report.reshaped.push_back(left.name + ": " + shape_text(left.shape) + " in A, " +
                                shape_text(b.tensors()[*at].shape) + " in B");
    } else {
      pairs.push_back({i, *at});
    }
  }
  for (const TensorInfo& right : b.tensors()) {
    if (!a.find(right.name)) report.only_b.push_back(right.name);
  }
  return pairs;
}

// As many threads as are asked for and fit under the ceiling.
std::size_t threads_within(const DiffOptions& options, std::uint64_t tensors) {
  const std::uint64_t resting = resting_memory(tensors) + tensors * kPerTensor;
  if (options.memory < resting + kComparing) {
    throw Error(ErrorCode::NoSpace,
                fmt::format("comparing these needs at least {} of memory; the ceiling is {}",
                            human_bytes(resting + kComparing), human_bytes(options.memory)),
                {},
                fmt::format("use --memory {}MB or more", (resting + kComparing) / 1'000'000 + 1));
  }
  const std::size_t wanted =
      options.threads > 0 ? options.threads : std::max(1U, std::thread::hardware_concurrency());
  return std::min<std::size_t>(wanted, (options.memory - resting) / kComparing);
}

}  // namespace

DiffReport diff(const DiffOptions& options, Observer& observer) {
  Disk& disk = real_disk();
  const auto a = open_checkpoint(disk, located(disk, options.a));
  const auto b = open_checkpoint(disk, located(disk, options.b));
  DiffReport report{options.a, options.b, {}, {}, {}, {}, {}, {}, 0, 0};
  const std::vector<Pair> pairs = match(*a, *b, report);
  report.tensors.resize(pairs.size());
  const auto bytes_of = [&](const Pair& pair) {
    return a->tensors()[pair.in_a].bytes() + b->tensors()[pair.in_b].bytes();
  };
  Progress now;
  for (const Pair& pair : pairs) now.bytes_total += bytes_of(pair);
  now.tensors_total = pairs.size();
  ThreadPool pool(threads_within(options, a->tensors().size() + b->tensors().size()));
  std::mutex mutex;
  pool.run(pairs.size(), [&](std::size_t index, std::size_t worker) {
    if (observer.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    const Pair& pair = pairs[index];
    report.tensors[index] = compare_tensors(*a, pair.in_a, *b, pair.in_b);
    const std::lock_guard lock(mutex);
    now.bytes_done += bytes_of(pair);
    ++now.tensors_done;
    now.tensor = report.tensors[index].tensor;
    if (worker == 0) observer.progress(now);  // worker 0 is the calling thread
  });
  report.bytes_read = now.bytes_done;
  for (const TensorDiff& tensor : report.tensors) report.equal += tensor.differing == 0 ? 1 : 0;
  report.layers = by_layer(report.tensors);
  report.modules = by_module(report.tensors);
  return report;
}

}  // namespace thorns
