// One small merge on every SIMD target and with several numbers of threads: all give the same
// bytes, or all refuse with the same words. The input's first bytes choose key, types, shape and
// the adapter's family; the rest are the numbers, bit for bit, so that NaN, infinities and
// subnormals come by themselves.
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
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace {

using namespace thorns;
using namespace thorns::testing_support;

constexpr std::array kTypes = {Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64};
constexpr std::array kOutputs = {Dtype::F32, Dtype::F16, Dtype::BF16};
constexpr std::array kKeys = {"{A+B}", "({A+B}[L]){C}", "{A+B+C;linear}",  "{0.3*A+0.7*B}",
                              "A[L]",  "{{A+B}+{B+C}}", "{A[0.5*L]+C[L]}", "({A+B}){C}[L]"};
const char* const kTensor = "model.layers.0.mlp.up_proj.weight";
const char* const kIntegers = "model.ids";
const char* const kNorm = "model.norm.weight";
const char* const kModule = "base_model.model.model.layers.0.mlp.up_proj.";

// A tensor of an adapter; its sides are those of the model's tensor, the rank, or numbers.
struct FamilyTensor {
  const char* name;
  std::vector<int> shape;
};
struct Family {
  const char* config;
  std::vector<FamilyTensor> tensors;
};
constexpr int kRows = 0;
constexpr int kColumns = -1;
constexpr int kRank = -2;

// One of each kind: products, products and norms, factors, generated and mapped weights.
const std::vector<Family>& families() {
  static const std::vector<FamilyTensor> factors = {{"lora_A.weight", {kRank, kColumns}},
                                                    {"lora_B.weight", {kRows, kRank}}};
  static const std::vector<Family> all = {
      {R"({"peft_type": "LORA", "r": 4, "lora_alpha": 3})", factors},
      {R"({"peft_type": "LORA", "r": 4, "lora_alpha": 3, "use_dora": true})",
       {factors[0], factors[1], {"lora_magnitude_vector", {kRows}}}},
      {R"({"peft_type": "IA3", "feedforward_modules": []})", {{"ia3_l", {kRows, 1}}}},
      {R"({"peft_type": "LOHA", "r": 4, "alpha": 3})",
       {{"hada_w1_a", {kRows, kRank}},
        {"hada_w1_b", {kRank, kColumns}},
        {"hada_w2_a", {kRows, kRank}},
        {"hada_w2_b", {kRank, kColumns}}}},
      {R"({"peft_type": "HRA", "r": 4})", {{"hra_u", {kColumns, kRank}}}}};
  return all;
}

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
  std::vector<std::vector<MemoryTensor>> models;
  MemoryDisk disk;  // with the adapter "L"
};

struct Sizes {
  std::uint64_t rows;
  std::uint64_t columns;
  std::uint64_t rank;
  std::uint64_t of(int side) const {
    return side == kRows      ? rows
           : side == kColumns ? columns
           : side == kRank    ? rank
                              : static_cast<std::uint64_t>(side);
  }
};

// The adapter's file, its numbers from the input.
std::string weights_of(const Family& family, const Sizes& sizes, Dtype dtype, Input& input) {
  thorns::test::SafetensorsBuilder weights;
  for (const FamilyTensor& tensor : family.tensors) {
    std::vector<std::uint64_t> shape;
    std::uint64_t elements = 1;
    for (const int side : tensor.shape) {
      shape.push_back(sizes.of(side));
      elements *= shape.back();
    }
    const auto bytes = input.bytes(elements * size_of(dtype));
    weights.add_bytes(std::string(kModule) + tensor.name, dtype, shape,
                      {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  return weights.bytes();
}

Merge merge_of(Input input) {
  Merge merge;
  merge.key = input.choice(kKeys.size());
  merge.output = kOutputs[input.choice(kOutputs.size())];
  merge.rows = 1 + input.choice(40);
  merge.columns = 1 + input.choice(70);
  merge.allow_nonfinite = input.choice(4) != 0;
  const std::uint64_t rank = 1 + input.choice(20);
  std::array<Dtype, 4> types{};
  for (Dtype& type : types) type = kTypes[input.choice(kTypes.size())];
  const Family& family = families()[input.choice(families().size())];
  for (std::size_t i = 0; i < 3; ++i) {
    const std::uint64_t row = merge.columns * size_of(types[i]);
    merge.models.push_back(
        {{kIntegers, Dtype::I64, {1}, std::vector<std::byte>(sizeof(std::int64_t))},
         {kTensor, types[i], {merge.rows, merge.columns}, input.bytes(merge.rows * row)},
         {kNorm, types[i], {merge.columns}, input.bytes(row)}});
  }
  merge.disk.add_file("L/adapter_config.json", family.config);
  merge.disk.add_file("L/adapter_model.safetensors",
                      weights_of(family, {merge.rows, merge.columns, rank}, types[3], input));
  return merge;
}

struct Result {
  std::vector<std::vector<std::byte>> bytes;
  std::string error;
  bool operator==(const Result&) const = default;
};

Result run_merge(Merge& merge, const Recipe& recipe, std::size_t threads) {
  std::vector<std::unique_ptr<Checkpoint>> leaves;
  for (const RecipeLeaf& leaf : recipe.leaves) {
    leaves.push_back(std::make_unique<MemoryCheckpoint>(
        leaf.name, merge.models[static_cast<std::size_t>(leaf.name[0] - 'A')]));
  }
  PlanOptions options;
  options.dtype = merge.output;
  options.threads = threads;
  Result result;
  try {
    std::vector<std::unique_ptr<Adapter>> adapters;
    for (std::size_t i = 0; i < recipe.adapters.size(); ++i) {
      adapters.push_back(open_adapter(merge.disk, "L"));
    }
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
  Merge merge = merge_of({data, size});
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
