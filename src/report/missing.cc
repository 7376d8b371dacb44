#include "report/missing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/threads.h"
#include "checkpoint/checkpoint.h"
#include "kernel/kernels.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kRun = std::uint64_t{1} << 16;  // elements

struct Stored {
  ManifestTensor* listed = nullptr;
  const Checkpoint* shard = nullptr;
  std::size_t index = 0;

  std::uint64_t bytes() const { return shard->tensors()[index].bytes(); }
};

double norm_of(const Stored& stored) {
  const TensorInfo& info = stored.shard->tensors()[stored.index];
  std::vector<std::byte> bytes(kRun * size_of(info.dtype));
  std::vector<double> values(kRun);
  double square = 0;
  for (std::uint64_t first = 0; first < info.elements; first += kRun) {
    const auto count = static_cast<std::size_t>(std::min(kRun, info.elements - first));
    stored.shard->read(stored.index, first, std::span(bytes).first(count * size_of(info.dtype)));
    widen(info.dtype, bytes.data(), count, values.data());
    for (std::size_t i = 0; i < count; ++i) {
      if (std::isfinite(values[i])) square += values[i] * values[i];
    }
  }
  return std::sqrt(square);
}

Stored find(const Checkpoint& shard, ManifestTensor& listed) {
  const auto at = shard.find(listed.name);
  if (at && shard.tensors()[*at].dtype == listed.dtype &&
      shard.tensors()[*at].shape == listed.shape) {
    return {&listed, &shard, *at};
  }
  throw Error(ErrorCode::Mismatch,
              fmt::format("`{}` of `{}` is not as the manifest lists it", listed.name, listed.file),
              TensorPlace{listed.name}, "`thorns verify` says what was changed");
}

}  // namespace

std::uint64_t measure_missing(Disk& disk, const std::string& folder, std::size_t threads,
                              Manifest& manifest, Observer& observer) {
  std::map<std::string, std::unique_ptr<Checkpoint>> shards;
  std::vector<Stored> missing;
  for (ManifestTensor& tensor : manifest.tensors) {
    if (tensor.norm || tensor.kind == "blend" || !is_blendable(tensor.dtype)) continue;
    const auto [shard, is_new] = shards.try_emplace(tensor.file);
    if (is_new) {
      const std::string path = join_path(folder, tensor.file);
      if (disk.exists(path)) {
        shard->second = open_checkpoint(disk, path);
      } else {
        manifest.warnings.push_back(fmt::format(
            "`{}` is not there, so norms of its copied tensors are missing here", tensor.file));
      }
    }
    if (shard->second) missing.push_back(find(*shard->second, tensor));
  }
  Progress now;
  for (const Stored& stored : missing) now.bytes_total += stored.bytes();
  now.tensors_total = missing.size();
  std::mutex mutex;
  ThreadPool pool(threads > 0 ? threads : std::max(1U, std::thread::hardware_concurrency()));
  pool.run(missing.size(), [&](std::size_t index, std::size_t worker) {
    if (observer.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    const Stored& stored = missing[index];
    ManifestTensor& tensor = *stored.listed;
    tensor.norm = norm_of(stored);
    if (tensor.kind == "copy" && tensor.sources.size() == 1) {
      tensor.sources[0].norm = tensor.norm;
      tensor.sources[0].distance = 0.0;
    }
    const std::lock_guard lock(mutex);
    now.bytes_done += stored.bytes();
    ++now.tensors_done;
    now.tensor = tensor.name;
    if (worker == 0) observer.progress(now);  // worker 0 is the calling thread
  });
  return now.bytes_done;
}

}  // namespace thorns
