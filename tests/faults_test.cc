// What a whole merge asks of the operating system: what it reads, and what becomes of it when any
// single call fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder_out.h"
#include "support/watched_system.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

using test::Fault;
using test::ModelFolder;
using test::names_in;
using test::SystemCall;
using test::WatchedSystem;

using Files = std::map<std::string, std::string>;  // path relative to a folder -> content

std::vector<double> numbers(std::size_t count, unsigned seed) {
  std::vector<double> values(count);
  for (double& value : values) {
    seed = seed * 1664525 + 1013904223;
    value = static_cast<double>(seed >> 20) / 1024 - 2;
  }
  return values;
}

void write_model(const std::string& folder, unsigned seed, std::uint64_t rows, bool whole) {
  ModelFolder model;
  for (const char* name : {"model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight",
                           "model.norm.weight"}) {
    model.weights.add(name, Dtype::F32, {rows, 8}, numbers(rows * 8, ++seed));
  }
  model.other_files = {{"tokenizer.json", "{}"}, {"generation_config.json", "{}"}};
  whole ? model.write(folder) : model.write_sharded(folder, 2);
}

// A LoRA of the first layer, or a DoRA of the second.
void write_adapter(const std::string& folder, std::uint64_t rows, bool dora = false) {
  std::string config = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": )";
  config += dora ? R"(["up_proj"], "use_dora": true})" : R"(["up_proj"]})";
  test::spill(folder + "/adapter_config.json", config);
  const std::string name =
      std::string("base_model.model.model.layers.") + (dora ? "1" : "0") + ".mlp.up_proj.lora_";
  test::SafetensorsBuilder weights;
  weights.add(name + "A.weight", Dtype::F32, {2, 8}, numbers(16, 7));
  weights.add(name + "B.weight", Dtype::F32, {rows, 2}, numbers(rows * 2, 8));
  if (dora) weights.add(name + "magnitude_vector", Dtype::F32, {rows}, numbers(rows, 9));
  weights.write(folder + "/adapter_model.safetensors");
}

Files files_below(const std::string& folder) {
  Files files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    files[std::filesystem::relative(entry.path(), folder)] = test::slurp(entry.path());
  }
  return files;
}

// {A[L]+B}, A in two shards and B in one, to `out` in several: so small that a merge takes a
// moment.
class Faults : public testing::Test {
 protected:
  Faults() { make_inputs(4); }

  void make_inputs(std::uint64_t rows) {
    write_model(temp_ / "in/A", 1, rows, false);
    write_model(temp_ / "in/B", 5, rows, true);
    write_adapter(temp_ / "in/L", rows);
    std::filesystem::create_directory(temp_ / "to");
    options_.recipe = "{A[L]+B}";
    options_.inputs.paths = {temp_ / "in"};
    options_.output = temp_ / "to/out";
    options_.shard_size = rows * 8 * 4;
    options_.threads = 1;
  }

  void merge() {
    Observer silent;
    thorns::merge(options_, silent);
  }
  // The error of a merge; none where it succeeds.
  std::optional<Error> try_merge() {
    try {
      merge();
      return std::nullopt;
    } catch (const Error& error) {
      return error;
    }
  }

  // A run for which the disk is too full, in its second shard.
  void interrupt() {
    const std::string second =
        temp_ / "to/.out.thorns-partial/model/model-00002-of-00003.safetensors";
    WatchedSystem system(temp_ / "to");
    system.strike({"write", second}, Fault::NoSpace);
    const auto error = try_merge();
    ASSERT_TRUE(error && system.has_struck());
    EXPECT_EQ(error->code(), ErrorCode::NoSpace);
  }

  test::OutFolder temp_;
  MergeOptions options_;
};

TEST_F(Faults, ARunThatGoesOnTellsOfTheWholeMerge) {
  write_adapter(temp_ / "in/L", 4, true);
  interrupt();
  class Last : public Observer {
   public:
    void progress(const Progress& now) override { last = now; }
    Progress last;
  } observer;
  const MergeSummary summary = thorns::merge(options_, observer);
  EXPECT_EQ(observer.last.bytes_done, observer.last.bytes_total);
  EXPECT_EQ(summary.tensors_kept, 1U);
  EXPECT_EQ(summary.bytes_kept, 4U * 8 * 4);
  EXPECT_EQ(summary.bytes_written + summary.bytes_kept, summary.plan.bytes_out);
  EXPECT_EQ(summary.bytes_read + summary.reads_spared, summary.plan.bytes_read);
}

// ---------------------------------------------------------------- what is read

class Reads : public Faults {
 protected:
  // How often the byte of a file that was read most was read, by file: of its tensors alone, when
  // the header had been read. Nothing may be mapped: of that only whole pages are seen.
  std::map<std::string, int> most_reads(const WatchedSystem& system) {
    std::map<std::string, std::vector<int>> counts;
    for (const SystemCall& call : system.calls()) {
      if (call.function != "pread" || !call.path.ends_with(".safetensors")) continue;
      if (call.offset < data_begin(call.path)) continue;
      std::vector<int>& bytes = counts[call.path];
      bytes.resize(std::filesystem::file_size(call.path));
      for (std::uint64_t i = 0; i < call.bytes; ++i) ++bytes.at(call.offset + i);
    }
    std::map<std::string, int> most;
    for (const auto& [path, bytes] : counts) {
      const auto begin =
          static_cast<std::ptrdiff_t>(read_safetensors_header(*real_disk().open(path)).data_begin);
      const auto [least, greatest] = std::minmax_element(bytes.begin() + begin, bytes.end());
      EXPECT_GE(*least, 1) << path << ": not every byte is read";
      most[std::filesystem::relative(path, temp_ / "in")] = *greatest;
    }
    return most;
  }

  static std::uint64_t data_begin(const std::string& path) {
    return read_safetensors_header(*real_disk().open(path)).data_begin;
  }
};

using Most = std::map<std::string, int>;

TEST_F(Reads, EveryByteOnceWhereATensorFitsIntoMemory) {
  WatchedSystem system(temp_ / "in");
  system.refuse_mappings();
  merge();
  EXPECT_EQ(most_reads(system), (Most{{"A/model-00001-of-00002.safetensors", 1},
                                      {"A/model-00002-of-00002.safetensors", 1},
                                      {"B/model.safetensors", 1},
                                      {"L/adapter_model.safetensors", 1}}));
}

TEST_F(Reads, ALeafTwiceAndAnAdapterOnceWhereItDoesNot) {
  make_inputs(200'000);
  options_.output = temp_ / "to/other";
  Observer silent;
  options_.memory = plan(options_, silent).least_memory;
  WatchedSystem system(temp_ / "in");
  system.refuse_mappings();
  merge();
  EXPECT_EQ(most_reads(system), (Most{{"A/model-00001-of-00002.safetensors", 2},
                                      {"A/model-00002-of-00002.safetensors", 2},
                                      {"B/model.safetensors", 2},
                                      {"L/adapter_model.safetensors", 1}}));
}

// ---------------------------------------------------------------- what fails

// What this call may answer.
std::vector<Fault> faults_of(const SystemCall& call) {
  const std::string& name = call.function;
  if (name == "open" && call.creates) {
    return {Fault::Interrupted, Fault::Io, Fault::NoSpace, Fault::NoDescriptor};
  }
  if (name == "open") return {Fault::Interrupted, Fault::Io, Fault::NoDescriptor};
  // The first look at a tokenizer file only asks whether it is a Git-LFS pointer; what happens to
  // it then has happened before it is copied.
  if (name == "pread" && call.nth == 1 && call.path.ends_with("/tokenizer.json")) {
    return {Fault::Interrupted, Fault::Io, Fault::Short};
  }
  if (name == "pread") {
    return {Fault::Interrupted, Fault::Io, Fault::Short, Fault::Shrinks, Fault::Changes};
  }
  if (name == "mmap" || name == "madvise") return {Fault::Io, Fault::Shrinks, Fault::Changes};
  if (name == "write") return {Fault::Interrupted, Fault::Io, Fault::NoSpace, Fault::Short};
  if (name == "fsync") return {Fault::Interrupted, Fault::Io, Fault::NoSpace};
  if (name == "close") return {Fault::Interrupted, Fault::Io};
  if (name == "fallocate") return {Fault::Interrupted, Fault::NoSpace, Fault::Unsupported};
  if (name == "flock") return {Fault::Interrupted, Fault::Io, Fault::Unsupported};
  if (name == "rename" || name == "mkdir") return {Fault::Io, Fault::NoSpace};
  if (name == "opendir") return {Fault::Io, Fault::NoDescriptor};
  return {Fault::Io};
}

// Faults that a merge must get over.
bool is_harmless(const SystemCall& call, Fault fault) {
  return fault == Fault::Interrupted || fault == Fault::Short || fault == Fault::Unsupported ||
         call.function == "posix_fadvise" ||
         (fault == Fault::Io && (call.function == "mmap" || call.function == "madvise"));
}

class Failing : public Faults {
 protected:
  Failing() : inputs_(files_below(temp_ / "in")) {
    restore_inputs();
    merge();
    expected_ = files_below(options_.output);
    std::filesystem::remove_all(options_.output);
  }

  // Makes each call that a merge makes fail in each way. `prepare` makes what is there before.
  template <class Prepare>
  void fail_everywhere(Prepare prepare) {
    std::vector<SystemCall> calls;
    prepare();
    {
      const WatchedSystem system(temp_.path());
      merge();
      calls = system.calls();
    }
    std::size_t injected = 0;
    std::size_t overcome = 0;
    for (const SystemCall& call : calls) {
      for (const Fault fault : faults_of(call)) {
        SCOPED_TRACE(std::string(to_string(fault)) + " at call " + std::to_string(call.nth) +
                     " of " + call.function + " for " + call.path);
        std::filesystem::remove_all(temp_ / "to");
        std::filesystem::create_directory(temp_ / "to");
        prepare();
        ++injected;
        overcome += inject(call, fault) ? 1U : 0U;
        if (HasFailure()) return;
      }
    }
    RecordProperty("calls", static_cast<int>(calls.size()));
    std::printf("%zu calls, %zu faults injected, %zu of them overcome\n", calls.size(), injected,
                overcome);
  }

  // True where the merge succeeds all the same.
  bool inject(const SystemCall& call, Fault fault) {
    std::optional<Error> error;
    {
      WatchedSystem system(temp_.path());
      system.strike(call, fault);
      error = try_merge();
      EXPECT_TRUE(system.has_struck());
    }
    if (fault == Fault::Shrinks || fault == Fault::Changes) {
      // Of what an interrupted run left, a part can be lost.
      EXPECT_TRUE(error || call.path.starts_with(temp_ / "to"));
      restore_inputs();
    }
    if (error) {
      EXPECT_FALSE(is_harmless(call, fault)) << error->message();
      EXPECT_NE(error->code(), ErrorCode::Internal) << error->message();
      EXPECT_NE(error->message(), "");
    }
    const bool finished = std::filesystem::exists(options_.output);
    EXPECT_TRUE(error || finished);
    if (finished) {
      EXPECT_EQ(files_below(options_.output), expected_);
    }
    // The next run makes it good.
    std::filesystem::remove_all(options_.output);
    merge();
    EXPECT_EQ(files_below(options_.output), expected_);
    EXPECT_EQ(names_in(temp_ / "to"), std::vector<std::string>{"out"});
    return !error;
  }

  // With their times, or what a run left would be of other inputs.
  void restore_inputs() {
    for (const auto& [name, content] : inputs_) {
      const std::string path = temp_ / "in/" + name;
      const auto time = times_.try_emplace(name, std::filesystem::last_write_time(path));
      test::write_file(path, content);
      std::filesystem::last_write_time(path, time.first->second);
    }
  }

  Files inputs_;
  std::map<std::string, std::filesystem::file_time_type> times_;
  Files expected_;
};

TEST_F(Failing, ReplacesAFolderWhereTwoCannotBeExchanged) {
  test::spill(options_.output + "/config.json", "old");
  options_.force = true;
  WatchedSystem system(temp_ / "to");
  system.strike({"renameat2", temp_ / "to/.out.thorns-partial/model"}, Fault::Unsupported);
  merge();
  EXPECT_TRUE(system.has_struck());
  EXPECT_EQ(files_below(options_.output), expected_);
  EXPECT_EQ(names_in(temp_ / "to"), std::vector<std::string>{"out"});
}

TEST_F(Failing, AnyCallOfAMerge) {
  fail_everywhere([] {});
}

TEST_F(Failing, AnyCallOfAMergeThatGoesOn) {
  interrupt();
  std::filesystem::rename(temp_ / "to", temp_ / "before");
  fail_everywhere([&] {
    std::filesystem::remove_all(temp_ / "to");
    std::filesystem::copy(temp_ / "before", temp_ / "to", std::filesystem::copy_options::recursive);
  });
}

}  // namespace
}  // namespace thorns
