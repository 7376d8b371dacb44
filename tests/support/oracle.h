// The slow, obvious evaluation of a recipe: node by node, in float64, nothing shared with the
// engine. A merge is compared with it.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/disk.h"
#include "recipe/recipe.h"
#include "support/memory_model.h"

namespace thorns::testing_support {

// What a change of an update does to a whole tensor, said again without the engine.
class PlainChange {
 public:
  virtual ~PlainChange() = default;
  virtual void change(std::vector<double>& values) const = 0;
};

// One LoRA update of `module` with random factors.
inline std::unique_ptr<MemoryAdapter> lora(const std::string& name, const std::string& module,
                                           std::uint64_t rows, std::uint64_t columns,
                                           std::uint64_t rank, double scale, std::uint64_t seed) {
  std::vector<MemoryTensor> tensors;
  tensors.push_back(tensor(module + ".lora_A.weight", Dtype::F32, {rank, columns},
                           normal_values(rank * columns, seed, 0.1)));
  tensors.push_back(tensor(module + ".lora_B.weight", Dtype::F16, {rows, rank},
                           normal_values(rows * rank, seed + 1, 0.05)));
  Update update;
  update.kind = UpdateKind::LowRank;
  update.module = module;
  update.parameter = "weight";
  update.scale = scale;
  update.rank = rank;
  update.first = 0;
  update.second = 1;
  return std::make_unique<MemoryAdapter>(name, std::vector<Update>{update}, std::move(tensors));
}

// Binds keys over model and adapter names without any content: folders that hold only a config.
class KeyBinder {
 public:
  KeyBinder(const std::vector<std::string>& models, const std::vector<std::string>& adapters) {
    std::string pattern = (std::filesystem::temp_directory_path() / "thorns-names-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    root_ = pattern;
    for (const std::string& name : models) put(name, "config.json");
    for (const std::string& name : adapters) put(name, "adapter_config.json");
  }
  ~KeyBinder() { std::filesystem::remove_all(root_); }
  KeyBinder(const KeyBinder&) = delete;
  KeyBinder& operator=(const KeyBinder&) = delete;

  Recipe bind(const std::string& key) const {
    Bindings bindings;
    bindings.paths = {root_};
    return bind_recipe(real_disk(), key, bindings);
  }

 private:
  void put(const std::string& name, const std::string& file) const {
    std::filesystem::create_directories(root_ + "/" + name);
    std::ofstream(root_ + "/" + name + "/" + file) << "{}";
  }
  std::string root_;
};

using Models = std::map<std::string, std::vector<MemoryTensor>>;
using Loras = std::map<std::string, std::unique_ptr<MemoryAdapter>>;

class Oracle {
 public:
  Oracle(const Recipe& recipe, const Models& models, const Loras& loras)
      : recipe_(recipe), models_(models), loras_(loras) {}

  std::vector<double> tensor(const std::string& name) const { return node(recipe_.root, name); }

 private:
  std::vector<double> node(std::size_t index, const std::string& name) const {
    const auto& value = recipe_.nodes[index].node;
    if (const auto* leaf = std::get_if<LeafNode>(&value)) {
      for (const MemoryTensor& t : models_.at(recipe_.leaves[leaf->leaf].name)) {
        if (t.name == name) return t.values();
      }
      throw std::runtime_error("the oracle has no tensor " + name);
    }
    if (const auto* fold = std::get_if<FoldNode>(&value)) return folded(*fold, name);
    return blended(std::get<BlendNode>(value), name);
  }

  std::vector<double> folded(const FoldNode& fold, const std::string& name) const {
    const std::vector<double> model = node(fold.model, name);
    std::vector<double> result = model;
    const MemoryAdapter& adapter = *loras_.at(recipe_.adapters[fold.adapters.front().adapter].name);
    for (const Update& update : adapter.updates()) {
      if (update.module + "." + update.parameter != name) continue;
      if (const auto* plain = dynamic_cast<const PlainChange*>(update.change.get())) {
        plain->change(result);
        continue;
      }
      const auto& source = static_cast<const MemoryCheckpoint&>(adapter.source());
      const std::uint64_t columns = source.tensors()[update.first].shape[1];
      const std::uint64_t rows = source.tensors()[update.second].shape[0];
      const auto delta =
          reference::low_rank(source.data()[update.second].values(),
                              source.data()[update.first].values(), rows, update.rank, columns);
      for (std::size_t e = 0; e < result.size(); ++e) result[e] += update.scale * delta[e];
    }
    // A weight goes that part of the way.
    for (std::size_t e = 0; e < result.size(); ++e)
      result[e] = model[e] + fold.weight() * (result[e] - model[e]);
    return result;
  }

  std::vector<double> blended(const BlendNode& blend, const std::string& name) const {
    std::vector<std::vector<double>> models;
    for (const std::size_t model : blend.models) models.push_back(node(model, name));
    std::vector<double> weights = blend.weights;
    if (blend.method->name() == "linear") {
      double sum = 0;
      for (const double weight : weights) sum += weight;
      for (double& weight : weights) weight /= sum;
    } else {
      double t = weights[1] / (weights[0] + weights[1]);
      for (const Setting& setting : blend.settings) t = setting.values.at(0);  // tests set t alone
      weights = slerp(models[0], models[1], t);
    }
    std::vector<double> result(models[0].size(), 0.0);
    for (std::size_t m = 0; m < models.size(); ++m) {
      for (std::size_t e = 0; e < result.size(); ++e) result[e] += weights[m] * models[m][e];
    }
    return result;
  }

  // Shoemake 1985, on the raw tensors; linear where the vectors are nearly parallel or one is 0.
  static std::vector<double> slerp(const std::vector<double>& a, const std::vector<double>& b,
                                   double t) {
    const double norms = std::sqrt(reference::dot(a, a)) * std::sqrt(reference::dot(b, b));
    if (norms == 0) return {1 - t, t};
    const double cosine = reference::dot(a, b) / norms;
    if (std::abs(cosine) > 0.9995) return {1 - t, t};
    const double angle = std::acos(cosine);
    return {std::sin((1 - t) * angle) / std::sin(angle), std::sin(t * angle) / std::sin(angle)};
  }

  const Recipe& recipe_;
  const Models& models_;
  const Loras& loras_;
};

// The promise of exactness: every element within half a unit in the last place plus 2^-22 of the
// tensor's largest magnitude. Counts how many are correctly rounded.
struct Exactness {
  std::uint64_t elements = 0;
  std::uint64_t correct = 0;

  void check(Dtype dtype, const std::vector<std::byte>& stored, const std::vector<double>& exact,
             const std::string& what) {
    ASSERT_EQ(stored.size(), exact.size() * size_of(dtype)) << what;
    double largest = 0;
    for (const double value : exact) largest = std::max(largest, std::abs(value));
    for (std::size_t e = 0; e < exact.size(); ++e) {
      const double got = reference::load(dtype, stored.data(), e);
      const double bound = reference::ulp(dtype, exact[e]) / 2 + largest * 0x1p-22;
      ASSERT_LE(std::abs(got - exact[e]), bound)
          << what << " element " << e << ": " << got << " for " << exact[e];
      ++elements;
      correct += got == reference::round_to(dtype, exact[e]) ? 1U : 0U;
    }
  }
  double share() const { return static_cast<double>(correct) / static_cast<double>(elements); }
};

}  // namespace thorns::testing_support
