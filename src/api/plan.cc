// thorns::plan and thorns::explain: what a merge would do.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "api/repositories.h"
#include "api/requests.h"
#include "output/writer.h"
#include "plan/memory.h"
#include "recipe/recipe.h"
#include "thorns/fetch.h"

namespace thorns {
namespace {

std::string dtypes_text(const Checkpoint& leaf) {
  std::map<std::string, std::uint64_t> counts;
  for (const TensorInfo& tensor : leaf.tensors()) ++counts[to_string(tensor.dtype)];
  if (counts.size() == 1) return counts.begin()->first;
  std::string text;
  for (const auto& [name, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, count);
  }
  return text;
}

std::uint64_t total_size(const std::vector<InputFile>& files) {
  std::uint64_t bytes = 0;
  for (const InputFile& file : files) bytes += file.size;
  return bytes;
}

LeafReport describe_leaf(const RecipeLeaf& leaf, const Checkpoint& checkpoint) {
  return {leaf.name,
          leaf.path,
          checkpoint.architecture(),
          checkpoint.tensors().size(),
          total_size(checkpoint.files()),
          dtypes_text(checkpoint)};
}

AdapterReport describe_adapter(const RecipeAdapter& adapter, const Adapter& opened) {
  return {adapter.name,
          adapter.path,
          opened.family(),
          opened.base_model(),
          opened.updates().size(),
          total_size(opened.files())};
}

// Reads a few megabytes of every leaf, spread over its largest tensor, for at most about half a
// second. Bytes per second, or nullopt where nothing could be read.
std::optional<double> measure_reading(const Plan& plan) {
  using Clock = std::chrono::steady_clock;
  constexpr std::uint64_t kRun = 2 << 20;  // bytes
  constexpr std::uint64_t kRuns = 4;       // per leaf
  const auto begin = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  std::vector<std::byte> buffer(kRun);
  std::uint64_t bytes = 0;
  for (const auto& leaf : plan.leaves) {
    const auto all = leaf->tensors();
    const auto largest = std::max_element(
        all.begin(), all.end(),
        [](const TensorInfo& a, const TensorInfo& b) { return a.bytes() < b.bytes(); });
    if (largest == all.end() || largest->elements == 0) continue;
    const auto tensor = static_cast<std::size_t>(largest - all.begin());
    const std::uint64_t width = size_of(largest->dtype);
    const std::uint64_t count = std::min(kRun / width, largest->elements);
    for (std::uint64_t run = 0; run < kRuns && elapsed() < 0.5; ++run) {
      const std::uint64_t first = (largest->elements - count) / kRuns * run;
      const auto size = static_cast<std::size_t>(count * width);
      leaf->read(tensor, first, std::span(buffer).first(size));
      bytes += size;
    }
  }
  if (bytes == 0) return std::nullopt;
  return static_cast<double>(bytes) / std::max(elapsed(), 1e-6);
}

}  // namespace

std::size_t thread_count(std::size_t wanted) {
  return wanted > 0 ? wanted : std::max(1U, std::thread::hardware_concurrency());
}

Bindings bindings(const Inputs& inputs) {
  Bindings bindings;
  for (const auto& [name, where] : inputs.models) bindings.models.push_back({name, where});
  for (const auto& [name, where] : inputs.adapters) bindings.adapters.push_back({name, where});
  for (const auto& [name, where] : inputs.key_maps) bindings.key_maps.push_back({name, where});
  bindings.paths = inputs.paths;
  bindings.fallback_paths = inputs.fallback_paths;
  return bindings;
}

Recipe bind(Disk& disk, const MergeOptions& options) {
  return bind_recipe(disk, options.recipe, bindings(options.inputs), options.standard_input);
}

PlanOptions plan_options(const MergeOptions& options) {
  PlanOptions result;
  result.dtype = options.dtype;
  result.shard_size = options.shard_size;
  result.tokenizer = options.tokenizer;
  result.vocabulary = options.vocabulary;
  result.memory = options.memory;
  result.threads = thread_count(options.threads);
  return result;
}

PlanReport describe(const Plan& plan) {
  PlanReport report;
  report.key = plan.recipe.key;
  for (std::size_t i = 0; i < plan.leaves.size(); ++i) {
    if (plan.leaves[i])
      report.leaves.push_back(describe_leaf(plan.recipe.leaves[i], *plan.leaves[i]));
  }
  for (std::size_t i = 0; i < plan.adapters.size(); ++i) {
    if (plan.adapters[i]) {
      report.adapters.push_back(describe_adapter(plan.recipe.adapters[i], *plan.adapters[i]));
    }
  }
  report.tensors = plan.programs.size();
  for (const Program& program : plan.programs) {
    switch (program.kind) {
      case ProgramKind::Blend:
        ++report.merged;
        break;
      case ProgramKind::Cast:
        ++report.cast;
        break;
      case ProgramKind::Copy:
      case ProgramKind::Same:
        ++report.copied;
        break;
    }
  }
  for (const Dropped& dropped : plan.dropped) {
    report.dropped.push_back({dropped.tensor, dropped.leaf, dropped.reason});
  }
  report.bytes_in = plan.bytes_in;
  report.bytes_read = plan.bytes_read;
  report.bytes_out = plan.bytes_out;
  report.memory = plan.memory.total();
  report.memory_ceiling = plan.memory.ceiling;
  for (const Shard& shard : plan.shards) {
    report.shards.push_back({shard.file, shard.count, shard.data_bytes});
  }
  report.warnings = plan.warnings;
  return report;
}

void add_needs(Disk& disk, const MergeOptions& options, const Plan& plan, PlanReport& report) {
  report.memory_ceiling = options.memory;
  if (!plan.programs.empty()) {
    report.least_memory = least_memory(plan, thread_count(options.threads));
    report.disk_needed = output_size(disk, plan);
  }
  report.disk_free = disk.free_space(options.output.empty() ? "." : parent_path(options.output));
}

namespace {

// How long reading takes is measured only where `local`: what the network gives nobody knows.
PlanReport plan_on(Disk& disk, bool local, const MergeOptions& options, Observer& observer) {
  PlanResult made = make_plan(disk, bind(disk, options), plan_options(options));
  PlanReport report = describe(made.plan);
  for (const std::string& warning : report.warnings) observer.warning(warning);
  report.problems = std::move(made.problems);
  try {
    add_needs(disk, options, made.plan, report);
    if (!options.output.empty()) check_output(disk, made.plan, {options.output, options.force});
  } catch (const Error& error) {
    report.problems.push_back(error);
  }
  if (report.problems.empty() && local) {
    if (const auto rate = measure_reading(made.plan)) {
      report.seconds = static_cast<double>(report.bytes_in + report.bytes_out) / *rate;
    }
  }
  return report;
}

std::string explain_on(Disk& disk, const MergeOptions& options, const std::string& tensor) {
  const PlanResult made = make_plan(disk, bind(disk, options), plan_options(options));
  if (!made.problems.empty()) throw Error(made.problems.front());
  return explain(made.plan, tensor);
}

}  // namespace

PlanReport plan(const MergeOptions& options, Observer& observer) {
  return plan_on(real_disk(), true, options, observer);
}

PlanReport plan_at_hub(const MergeOptions& options, Observer& observer) {
  RemoteInputs inputs(observer);
  return plan_on(inputs.disk(), false, options, observer);
}

std::string explain(const MergeOptions& options, const std::string& tensor) {
  return explain_on(real_disk(), options, tensor);
}

std::string explain_at_hub(const MergeOptions& options, const std::string& tensor) {
  Observer silent;
  RemoteInputs inputs(silent);
  return explain_on(inputs.disk(), options, tensor);
}

}  // namespace thorns
