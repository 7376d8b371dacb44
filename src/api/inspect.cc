// thorns::inspect: what stands at a path, opened as what it is.
#include "thorns/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "adapter/adapter.h"
#include "adapter/norms.h"
#include "api/repositories.h"
#include "api/requests.h"
#include "base/text.h"
#include "base/threads.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/checkpoint_listing.h"
#include "checkpoint/weights_file.h"
#include "engine/engine.h"
#include "insight/adapter_facts.h"
#include "insight/checkpoint_facts.h"
#include "insight/tensor_groups.h"
#include "kernel/kernels.h"
#include "plan/memory.h"
#include "recipe/binder.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kScanned = std::uint64_t{1} << 18;   // elements at a time
constexpr std::uint64_t kScanning = std::uint64_t{4} << 20;  // bytes held for it, decoding included
constexpr const char* kModelName = "model";                  // in the key of a measurement
constexpr const char* kAdapterName = "adapter";
constexpr const char* kRefused = "no-leaf";  // the code of a note

// Calls work(index) for every index on as many threads as fit under the ceiling with `each` bytes;
// `bytes_of(index)` are read for it.
template <typename Bytes, typename Name, typename Work>
void share_out(const InspectOptions& options, std::uint64_t tensors, std::uint64_t each,
               std::size_t count, Observer& observer, Bytes bytes_of, Name name_of, Work work) {
  const std::uint64_t resting = resting_memory(tensors);
  if (options.memory < resting + each) {
    throw Error(ErrorCode::NoSpace,
                fmt::format("measuring this needs at least {} of memory; the ceiling is {}",
                            human_bytes(resting + each), human_bytes(options.memory)),
                {}, fmt::format("use --memory {}MB or more", (resting + each) / 1'000'000 + 1));
  }
  const std::uint64_t room = each == 0 ? options.memory : (options.memory - resting) / each;
  ThreadPool pool(
      static_cast<std::size_t>(std::clamp<std::uint64_t>(room, 1, thread_count(options.threads))));
  Progress now;
  now.tensors_total = count;
  for (std::size_t i = 0; i < count; ++i) now.bytes_total += bytes_of(i);
  std::mutex mutex;
  pool.run(count, [&](std::size_t index, std::size_t worker) {
    if (observer.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    work(index);
    const std::lock_guard lock(mutex);
    now.bytes_done += bytes_of(index);
    ++now.tensors_done;
    now.tensor = name_of(index);
    if (worker == 0) observer.progress(now);  // worker 0 is the calling thread
  });
}

std::uint64_t count_nonfinite(const TensorSource& source, std::size_t tensor) {
  const TensorInfo& info = source.tensors()[tensor];
  const std::size_t width = size_of(info.dtype);
  std::vector<std::byte> bytes(kScanned * width);
  std::vector<double> values(padded(kChunk));
  std::uint64_t found = 0;
  for (std::uint64_t first = 0; first < info.elements; first += kScanned) {
    const auto count = static_cast<std::size_t>(std::min(kScanned, info.elements - first));
    source.read(tensor, first, std::span(bytes).first(count * width));
    if (all_finite(info.dtype, bytes.data(), count)) continue;
    for (std::size_t at = 0; at < count; at += kChunk) {
      const std::size_t run = std::min(kChunk, count - at);
      widen(info.dtype, bytes.data() + at * width, run, values.data());
      found += static_cast<std::uint64_t>(
          std::count_if(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(run),
                        [](double value) { return !std::isfinite(value); }));
    }
  }
  return found;
}

void scan(const InspectOptions& options, const TensorSource& source, Observer& observer,
          InspectReport& report) {
  const auto tensors = source.tensors();
  std::vector<std::uint64_t> found(tensors.size(), 0);
  share_out(
      options, tensors.size(), kScanning, tensors.size(), observer,
      [&](std::size_t i) { return tensors[i].bytes(); },
      [&](std::size_t i) { return tensors[i].name; },
      [&](std::size_t i) {
        if (is_blendable(tensors[i].dtype)) found[i] = count_nonfinite(source, i);
      });
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    all += found[i];
    if (found[i] == 0) continue;
    report.notes.push_back(
        {"nonfinite", fmt::format("{} of the {} numbers of `{}` are NaN or Inf", found[i],
                                  tensors[i].elements, tensors[i].name)});
  }
  if (all == 0) report.notes.push_back({"all-finite", "no number is NaN or Inf"});
}

// The tensors of `source`, as `stored_as(index)` has them.
template <typename StoredAsOf>
void list_tensors(const TensorSource& source, bool fold, StoredAsOf stored_as,
                  InspectReport& report) {
  std::vector<GroupedTensor> all;
  for (std::size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    StoredAs stored = stored_as(i);
    report.parameters += info.elements;
    report.bytes += stored.bytes;
    all.push_back({info.name, info.shape, std::move(stored.type), info.elements, stored.bytes});
  }
  report.tensors = all.size();
  report.groups = group_tensors(all, fold);
}

void list_tensors(const TensorSource& source, bool fold, InspectReport& report) {
  list_tensors(
      source, fold,
      [&](std::size_t i) {
        const TensorInfo& info = source.tensors()[i];
        return StoredAs{to_string(info.dtype), info.bytes()};
      },
      report);
}

// Whether an input was opened and found to be none that can be merged.
bool is_refusal(const Error& error) {
  switch (error.code()) {
    case ErrorCode::NotFound:
    case ErrorCode::Mismatch:
    case ErrorCode::Corrupt:
    case ErrorCode::Unsupported:
      return true;
    default:
      return false;
  }
}

void list_files(Disk& disk, const std::vector<InputFile>& files, InspectReport& report) {
  for (const InputFile& file : files) report.files.push_back({file.path, file.size});
  std::sort(report.files.begin(), report.files.end(),
            [](const InspectedFile& a, const InspectedFile& b) { return a.path < b.path; });
  for (const InspectedFile& file : report.files) {
    if (!file.path.ends_with(".json")) report.format = weights_format(*disk.open(file.path));
  }
}

void measure_updates(const InspectOptions& options, const Adapter& adapter, Observer& observer,
                     AdapterFacts& facts) {
  const std::vector<const Update*> sole = sole_updates(adapter);
  std::uint64_t each = 0;
  for (const Update* update : sole) {
    if (update != nullptr) each = std::max(each, norm_memory(*update));
  }
  share_out(
      options, adapter.source().tensors().size(), each, sole.size(), observer,
      [&](std::size_t i) {
        std::uint64_t bytes = 0;
        if (sole[i] == nullptr) return bytes;
        for (const std::size_t tensor : sole[i]->tensors()) {
          bytes += adapter.source().tensors()[tensor].bytes();
        }
        return bytes;
      },
      [&](std::size_t i) { return facts.updates[i].parameter; },
      [&](std::size_t i) {
        if (sole[i] != nullptr) facts.updates[i].norm = norm_alone(adapter, *sole[i]);
      });
}

// The adapter folded into the base, tensor by tensor, in one sweep over both.
std::vector<ChangedTensor> measure_on_base(Disk& disk, const InspectOptions& options,
                                           Observer& observer) {
  Bindings bindings;
  bindings.models.push_back({kModelName, options.base});
  bindings.adapters.push_back({kAdapterName, options.path});
  MergeOptions machine;
  machine.memory = options.memory;
  machine.threads = options.threads;
  PlanOptions settings = plan_options(machine);
  settings.findings = true;
  const PlanResult made = make_plan(
      disk, bind_key(disk, fmt::format("{}[{}]", kModelName, kAdapterName), bindings), settings);
  if (!made.problems.empty()) throw Error(made.problems.front());
  std::vector<ChangedTensor> changed;
  survey(made.plan, observer, {}, [&](std::size_t program, const CellGrams& grams) {
    if (auto one = changed_tensor(made.plan, program, grams)) changed.push_back(std::move(*one));
  });
  std::sort(changed.begin(), changed.end(), [](const ChangedTensor& a, const ChangedTensor& b) {
    return natural_less(a.tensor, b.tensor);
  });
  return changed;
}

// Of what cannot be opened: what its files say, and why. Throws `refusal` where none can be read.
void inspect_refused(Disk& disk, const InspectOptions& options, const Error& refusal,
                     InspectReport& report) {
  CheckpointListing listing;
  try {
    listing = list_checkpoint(disk, options.path);
  } catch (const Error&) {
    throw Error(refusal);
  }
  list_files(disk, listing.files, report);
  std::vector<GroupedTensor> all;
  for (ListedTensor& one : listing.tensors) {
    report.parameters += one.elements;
    report.bytes += one.stored.bytes;
    all.push_back({std::move(one.name), std::move(one.shape), std::move(one.stored.type),
                   one.elements, one.stored.bytes});
  }
  report.tensors = all.size();
  report.groups = group_tensors(all, options.fold);
  report.notes.push_back(
      {kRefused, refusal.hint().empty()
                     ? refusal.message()
                     : fmt::format("{}; {}", refusal.message(), refusal.hint())});
  for (std::string& message : listing.broken) {
    if (message != refusal.message()) report.notes.push_back({"broken-file", std::move(message)});
  }
  if (report.kind != "adapter") {
    report.checkpoint = checkpoint_facts(disk, options.path, listing, report.notes);
  }
}

void inspect_adapter(Disk& disk, const InspectOptions& options, Observer& observer,
                     InspectReport& report) {
  report.kind = "adapter";
  std::unique_ptr<Adapter> adapter;
  try {
    adapter = open_adapter(disk, options.path);
  } catch (const Error& error) {
    if (!is_refusal(error) || options.scan || !options.base.empty()) throw;
    return inspect_refused(disk, options, error, report);
  }
  list_files(disk, adapter->files(), report);
  list_tensors(adapter->source(), options.fold, report);
  report.adapter = adapter_facts(*adapter);
  if (options.norms) measure_updates(options, *adapter, observer, *report.adapter);
  if (!options.base.empty()) report.adapter->changed = measure_on_base(disk, options, observer);
  if (options.scan) scan(options, adapter->source(), observer, report);
}

void inspect_model(Disk& disk, const InspectOptions& options, Observer& observer,
                   InspectReport& report) {
  const bool folder = disk.stat(options.path).is_folder;
  std::unique_ptr<Checkpoint> model;
  try {
    model = open_checkpoint(disk, options.path);
  } catch (const Error& error) {
    if (!is_refusal(error) || options.scan) throw;
    report.kind = folder ? "checkpoint" : "weights";
    return inspect_refused(disk, options, error, report);
  }
  list_files(disk, model->files(), report);
  list_tensors(
      *model, options.fold, [&](std::size_t i) { return model->stored_as(i); }, report);
  report.kind = model->config().is_object() || folder ? "checkpoint" : "weights";
  report.checkpoint = checkpoint_facts(disk, *model, report.notes);
  if (options.scan) scan(options, *model, observer, report);
}

// One file of a sharded checkpoint, which is no model by itself.
void inspect_part(Disk& disk, const InspectOptions& options, Observer& observer,
                  InspectReport& report) {
  const auto source = open_weights(disk, options.path);
  report.kind = "weights";
  list_files(disk, {{options.path, disk.stat(options.path).size}}, report);
  list_tensors(*source, options.fold, report);
  report.notes.push_back(
      {"part-of-a-model", fmt::format("this is one of {} files of a model; its folder has the rest",
                                      shard_count_of(base_name(options.path)))});
  if (options.scan) scan(options, *source, observer, report);
}

// An index or configuration stands for its folder.
std::string meant_by(Disk& disk, const std::string& path) {
  if (!disk.exists(path)) {
    throw Error(ErrorCode::NotFound, fmt::format("there is nothing at `{}`", path), FilePlace{path},
                "give a folder, or a .safetensors, .bin or .gguf file");
  }
  return path.ends_with(".json") && !disk.stat(path).is_folder ? parent_path(path) : path;
}

}  // namespace

InspectReport inspect(const InspectOptions& options, Observer& observer) {
  Disk& disk = real_disk();
  InspectOptions meant = options;
  meant.path = meant_by(disk, located(disk, options.path));
  InspectReport report;
  report.path = options.path;
  const bool adapter = is_adapter(disk, meant.path);
  if (!adapter && !meant.base.empty()) {
    throw Error(ErrorCode::BadUsage,
                fmt::format("`--base` measures an adapter, and `{}` is none", options.path));
  }
  if (adapter) {
    inspect_adapter(disk, meant, observer, report);
  } else if (!disk.stat(meant.path).is_folder && shard_count_of(base_name(meant.path)) > 1) {
    inspect_part(disk, meant, observer, report);
  } else {
    inspect_model(disk, meant, observer, report);
  }
  return report;
}

}  // namespace thorns
