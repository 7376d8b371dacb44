// One small merge on every SIMD target and with several numbers of threads: all give the same
// bytes, or all refuse with the same words. The input's first bytes choose key, types and shape;
// the rest are the numbers, bit for bit, so that NaN, infinities and subnormals come by themselves.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "kernel/kernels.h"
#include "support/fuzz_parts.h"
#include "support/memory_disk.h"
#include "support/memory_model.h"
#include "support/oracle.h"
#include "thorns/error.h"

namespace {

using namespace thorns;
using namespace thorns::testing_support;

constexpr std::array kTypes = {Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64};
constexpr std::array kOutputs = {Dtype::F32, Dtype::F16, Dtype::BF16};
constexpr std::array kKeys = {"{A+B}", "({A+B}[L]){C}", "{A+B+C;linear}",  "{0.3*A+0.7*B}",
                              "A[L]",  "{{A+B}+{B+C}}", "{A[0.5*L]+C[L]}", "({A+B}){C}[L]"};
const char* const kTensor = "model.layers.0.mlp.up_proj.weight";
const char* const kModule = "model.layers.0.mlp.up_proj";

Recipe recipe_of(const char* key) {
  MemoryDisk disk;
  for (const char* name : {"m/A", "m/B", "m/C"}) disk.add_model(name);
  disk.add_adapter("m/L");
  Bindings bindings;
  bindings.paths = {"m"};
  return bind_recipe(disk, key, bindings);
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::size_t choice(std::size_t bound) { return at_ < size_ ? data_[at_++] % bound : 0; }
  // The bytes that are left, again and again.
  std::vector<std::byte> bytes(std::size_t count) {
    std::vector<std::byte> result(count);
    const std::size_t left = size_ - at_;
    for (std::byte& byte : result) {
      byte = left == 0 ? std::byte{0} : static_cast<std::byte>(data_[at_ + next_++ % left]);
    }
    return result;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
  std::size_t next_ = 0;
};

struct Merge {
  std::size_t key = 0;
  Dtype output = Dtype::F32;
  std::uint64_t rows = 1;
  std::uint64_t columns = 1;
  bool allow_nonfinite = false;
  std::vector<MemoryTensor> models;
  MemoryTensor a;
  MemoryTensor b;
};

Merge merge_of(Input input) {
  Merge merge;
  merge.key = input.choice(kKeys.size());
  merge.output = kOutputs[input.choice(kOutputs.size())];
  merge.rows = 1 + input.choice(40);
  merge.columns = 1 + input.choice(70);
  merge.allow_nonfinite = input.choice(4) != 0;
  const std::uint64_t rank = 1 + input.choice(20);
  const auto tensor = [&](const char* name, Dtype dtype, std::vector<std::uint64_t> shape) {
    const std::uint64_t elements = shape[0] * shape[1];
    return MemoryTensor{name, dtype, std::move(shape), input.bytes(elements * size_of(dtype))};
  };
  std::array<Dtype, 5> types{};
  for (Dtype& type : types) type = kTypes[input.choice(kTypes.size())];
  for (std::size_t i = 0; i < 3; ++i) {
    merge.models.push_back(tensor(kTensor, types[i], {merge.rows, merge.columns}));
  }
  merge.a = tensor("a", types[3], {rank, merge.columns});
  merge.b = tensor("b", types[4], {merge.rows, rank});
  return merge;
}

struct Result {
  std::vector<std::vector<std::byte>> bytes;
  std::string error;
  bool operator==(const Result&) const = default;
};

Result run_merge(const Merge& merge, const Recipe& recipe, std::size_t threads) {
  std::vector<std::unique_ptr<Checkpoint>> leaves;
  for (const RecipeLeaf& leaf : recipe.leaves) {
    leaves.push_back(std::make_unique<MemoryCheckpoint>(
        leaf.name, std::vector{merge.models[static_cast<std::size_t>(leaf.name[0] - 'A')]}));
  }
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (const RecipeAdapter& adapter : recipe.adapters) {
    Update update;
    update.module = kModule;
    update.parameter = "weight";
    update.scale = 0.75;
    update.rank = merge.a.shape[0];
    update.first = 0;
    update.second = 1;
    adapters.push_back(std::make_unique<MemoryAdapter>(adapter.name, std::vector{update},
                                                       std::vector{merge.a, merge.b}));
  }
  PlanOptions options;
  options.dtype = merge.output;
  options.threads = threads;
  Result result;
  try {
    PlanResult made = make_plan(recipe, std::move(leaves), std::move(adapters), options);
    if (!made.problems.empty()) throw made.problems.front();
    MemorySink sink(made.plan);
    Observer silent;
    run(made.plan, sink, silent, {merge.allow_nonfinite});
    result.bytes = std::move(sink.bytes);
  } catch (const Error& error) {
    fuzz::require(error.code() != ErrorCode::Internal);
    result.error = to_string(error);
  }
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Recipe> recipes = [] {
    std::vector<Recipe> made;
    for (const char* key : kKeys) made.push_back(recipe_of(key));
    return made;
  }();
  static const std::vector<std::string> targets = simd_targets();
  const Merge merge = merge_of({data, size});
  const Recipe& recipe = recipes[merge.key];
  const Result expected = run_merge(merge, recipe, 1);
  fuzz::require(run_merge(merge, recipe, 3) == expected);
  for (const std::string& target : targets) {
    force_simd_target(target);
    fuzz::require(run_merge(merge, recipe, 1) == expected);
  }
  force_simd_target("");
  return 0;
}
