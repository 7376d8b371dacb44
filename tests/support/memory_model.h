// Models, adapters and sinks that live in memory, for tests of planning and of the engine.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "checkpoint/checkpoint.h"
#include "kernel/reference.h"
#include "plan/plan.h"
#include "plan/sink.h"
#include "thorns/error.h"

namespace thorns::testing_support {

struct MemoryTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;
  std::vector<std::byte> bytes;

  std::vector<double> values() const {
    return reference::load_all(dtype, bytes.data(), bytes.size() / size_of(dtype));
  }
};

// Rounds `values` to `dtype`.
inline MemoryTensor tensor(const std::string& name, Dtype dtype, std::vector<std::uint64_t> shape,
                           const std::vector<double>& values) {
  MemoryTensor made{name, dtype, std::move(shape), {}};
  for (const double value : values) reference::store(dtype, value, made.bytes);
  return made;
}

inline std::vector<double> normal_values(std::size_t count, std::uint64_t seed,
                                         double scale = 0.02) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> distribution(0, scale);
  std::vector<double> values(count);
  for (double& value : values) value = distribution(random);
  return values;
}

class MemoryCheckpoint : public Checkpoint {
 public:
  MemoryCheckpoint(std::string name, std::vector<MemoryTensor> tensors, Json config = Json())
      : path_(std::move(name)), config_(std::move(config)), data_(std::move(tensors)) {
    std::sort(data_.begin(), data_.end(),
              [](const MemoryTensor& a, const MemoryTensor& b) { return a.name < b.name; });
    for (const MemoryTensor& t : data_) {
      infos_.push_back({t.name, t.dtype, t.shape, t.bytes.size() / size_of(t.dtype)});
    }
  }
  std::span<const TensorInfo> tensors() const override { return infos_; }
  void read(std::size_t index, std::uint64_t first, std::span<std::byte> to) const override {
    const std::size_t begin = static_cast<std::size_t>(first) * size_of(infos_[index].dtype);
    if (begin + to.size() > data_[index].bytes.size()) {
      throw Error(ErrorCode::Internal, "a test read beyond the end of " + infos_[index].name);
    }
    std::copy_n(data_[index].bytes.begin() + static_cast<std::ptrdiff_t>(begin), to.size(),
                to.begin());
  }
  void will_need(std::size_t, std::uint64_t, std::uint64_t) const override {}
  std::string file_of(std::size_t) const override { return path_; }
  const std::string& path() const override { return path_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const Json& config() const override { return config_; }
  const std::optional<std::string>& generation_config() const override {
    return generation_config_;
  }
  const std::vector<std::string>& tokenizer_files() const override { return tokenizer_files_; }

  const std::vector<MemoryTensor>& data() const { return data_; }

 private:
  std::string path_;
  Json config_;
  std::vector<MemoryTensor> data_;
  std::vector<TensorInfo> infos_;
  std::vector<InputFile> files_;
  std::optional<std::string> generation_config_;
  std::vector<std::string> tokenizer_files_;
};

// An adapter in memory: LoRA factors by module, unscaled.
class MemoryAdapter : public Adapter {
 public:
  MemoryAdapter(std::string name, std::vector<Update> updates, std::vector<MemoryTensor> tensors,
                std::string base = {})
      : path_(std::move(name)),
        base_(std::move(base)),
        updates_(std::move(updates)),
        source_(path_, std::move(tensors)) {}
  const std::string& path() const override { return path_; }
  const std::string& family() const override { return family_; }
  const std::string& base_model() const override { return base_; }
  const std::vector<Update>& updates() const override { return updates_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const TensorSource& source() const override { return source_; }
  bool fan_in_fan_out() const override { return false; }

 private:
  std::string path_;
  std::string family_ = "LoRA";
  std::string base_;
  std::vector<Update> updates_;
  std::vector<std::string> warnings_;
  std::vector<InputFile> files_;
  MemoryCheckpoint source_;
};

// Keeps everything that the engine writes.
class MemorySink : public Sink {
 public:
  explicit MemorySink(const Plan& plan)
      : bytes(plan.programs.size()), facts(plan.programs.size()) {}
  void write(std::size_t program, std::span<const std::byte> run) override {
    bytes[program].insert(bytes[program].end(), run.begin(), run.end());
  }
  void finished(std::size_t program, const TensorFacts& what) override {
    facts[program] = what;
    order.push_back(program);
  }

  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorFacts> facts;
  std::vector<std::size_t> order;
};

}  // namespace thorns::testing_support
