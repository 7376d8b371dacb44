#include "output/manifest_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "base/text.h"
#include "output/manifest.h"

namespace thorns {
namespace {

using Differences = std::vector<ManifestDifference>;

// What the plan's own manifest would say, read back as the one it is held against.
Manifest manifest_of(const Plan& plan, const std::vector<TensorFacts>& facts) {
  std::string text;
  ManifestWriter writer(plan, [&](std::string_view piece) { text += piece; });
  writer.begin();
  for (std::size_t i = 0; i < plan.programs.size(); ++i) writer.tensor(i, facts[i]);
  std::vector<WrittenFile> files;
  for (const Shard& shard : plan.shards) files.push_back({shard.file, 0, std::string(64, '0')});
  writer.end(files);
  return parse_manifest(text, kManifestFile);
}

class InputCheck {
 public:
  InputCheck(Disk& disk, Differences& differences) : disk_(disk), differences_(differences) {}

  void compare(const std::string& name, const std::vector<ManifestFile>& recorded,
               const std::vector<InputFile>& present, const std::vector<ManifestFile>& now) {
    for (const ManifestFile& file : recorded) {
      const auto found = std::find_if(now.begin(), now.end(),
                                      [&](const auto& other) { return other.name == file.name; });
      if (found == now.end()) {
        add("`{}` was made from `{}`, which is not among its files now", name, file.name);
      } else if (found->size != file.size) {
        add("`{}` of `{}` had {} bytes and has {} now", file.name, name, file.size, found->size);
      } else if (!file.sha256.empty()) {
        const InputFile& input = present.at(static_cast<std::size_t>(found - now.begin()));
        const std::string hash = sha256_of(*disk_.open(input.path));
        if (hash == file.sha256) continue;
        add("`{}` of `{}` had the SHA-256 {} and has {} now", file.name, name, file.sha256, hash);
      }
    }
    for (const ManifestFile& file : now) {
      const bool known = std::any_of(recorded.begin(), recorded.end(),
                                     [&](const auto& other) { return other.name == file.name; });
      if (!known) add("`{}` of `{}` is there now and was not read for it", file.name, name);
    }
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> text, Args&&... args) {
    differences_.push_back({"", fmt::format(text, std::forward<Args>(args)...)});
  }

  static std::string sha256_of(const ReadFile& file) {
    Sha256 hash;
    std::vector<std::byte> piece(std::size_t{1} << 20);
    for (std::uint64_t at = 0; at < file.size(); at += piece.size()) {
      piece.resize(std::min<std::uint64_t>(piece.size(), file.size() - at));
      file.read(at, piece);
      hash.update(piece);
    }
    return hash.hex();
  }

  Disk& disk_;
  Differences& differences_;
};

template <class Input>
std::vector<std::string> names_of(const std::vector<Input>& inputs) {
  std::vector<std::string> names;
  for (const Input& input : inputs) names.push_back(input.name);
  return names;
}

template <class Input>
std::string names_text(const std::vector<Input>& inputs) {
  return inputs.empty() ? "none" : list_text(names_of(inputs));
}

// False where the inputs are not even the same in number and name.
template <class Input, class Opened>
bool compare_inputs(Disk& disk, const char* what, const std::vector<Input>& recorded,
                    const std::vector<Input>& now, const Opened& opened, Differences& differences) {
  if (names_of(recorded) != names_of(now)) {
    differences.push_back({"", fmt::format("lists the {}s {}; the recipe names {}", what,
                                           names_text(recorded), names_text(now))});
    return false;
  }
  InputCheck check(disk, differences);
  for (std::size_t i = 0; i < now.size(); ++i) {
    check.compare(now[i].name, recorded[i].files, opened[i]->files(), now[i].files);
  }
  return true;
}

bool same_node(ManifestNode a, const ManifestNode& b) {
  a.name = b.name;  // of `let`, which the key does not hold
  return a == b;
}

void compare_recipe(const Manifest& manifest, const Manifest& now, Differences& differences) {
  const bool same =
      manifest.root == now.root && std::equal(manifest.nodes.begin(), manifest.nodes.end(),
                                              now.nodes.begin(), now.nodes.end(), same_node);
  if (!same) differences.push_back({"", "has other nodes than its key makes"});
  for (std::size_t i = 0; i < now.leaves.size(); ++i) {
    if (manifest.leaves[i].architecture == now.leaves[i].architecture) continue;
    differences.push_back(
        {"", fmt::format("says that `{}` is a {}; it is a {}", now.leaves[i].name,
                         manifest.leaves[i].architecture, now.leaves[i].architecture)});
  }
  const auto value = [&](const char* name, const auto& recorded, const auto& made) {
    if (recorded == made) return;
    differences.push_back(
        {"", fmt::format("has `output.{}` {}; the recipe makes {}", name, recorded, made)});
  };
  value("dtype", manifest.dtype, now.dtype);
  value("tied", manifest.tied, now.tied);
  value("tokenizer", manifest.tokenizer, now.tokenizer);
  value("bytes", manifest.bytes, now.bytes);
}

std::string made_text(const ManifestTensor& tensor) {
  return fmt::format("{} {} {} in `{}`", tensor.kind, to_string(tensor.dtype),
                     shape_text(tensor.shape), tensor.file);
}

void compare_tensors(const Manifest& manifest, const Manifest& now, Differences& differences) {
  std::map<std::string_view, const ManifestTensor*> recorded;
  for (const ManifestTensor& tensor : manifest.tensors) recorded[tensor.name] = &tensor;
  for (const ManifestTensor& tensor : now.tensors) {
    const auto found = recorded.find(tensor.name);
    if (found == recorded.end()) {
      differences.push_back({tensor.name, "is made by the recipe and not listed"});
      continue;
    }
    const ManifestTensor& listed = *found->second;
    recorded.erase(found);
    const auto same_source = [](const ManifestSource& a, const ManifestSource& b) {
      return a.label == b.label && a.dtype == b.dtype;
    };
    if (made_text(listed) != made_text(tensor)) {
      differences.push_back({tensor.name, fmt::format("is listed as {}; the recipe makes {}",
                                                      made_text(listed), made_text(tensor))});
    } else if (!std::equal(listed.sources.begin(), listed.sources.end(), tensor.sources.begin(),
                           tensor.sources.end(), same_source)) {
      differences.push_back({tensor.name, "is listed with other sources than the recipe has"});
    }
  }
  for (const auto& [name, tensor] : recorded) {
    differences.push_back({std::string(name), "is listed and not made by the recipe"});
  }
}

}  // namespace

Differences recipe_differences(Disk& disk, const Manifest& manifest, const Plan& plan) {
  const Manifest now = manifest_of(plan, std::vector<TensorFacts>(plan.programs.size()));
  Differences differences;
  const bool leaves =
      compare_inputs(disk, "model", manifest.leaves, now.leaves, plan.leaves, differences);
  const bool adapters =
      compare_inputs(disk, "adapter", manifest.adapters, now.adapters, plan.adapters, differences);
  if (!leaves || !adapters) return differences;
  compare_recipe(manifest, now, differences);
  compare_tensors(manifest, now, differences);
  return differences;
}

Differences number_differences(const Manifest& manifest, const Plan& plan,
                               const std::vector<TensorFacts>& facts) {
  const Manifest now = manifest_of(plan, facts);
  std::map<std::string_view, const ManifestTensor*> recorded;
  for (const ManifestTensor& tensor : manifest.tensors) recorded[tensor.name] = &tensor;
  Differences differences;
  for (const ManifestTensor& tensor : now.tensors) {
    const auto found = recorded.find(tensor.name);
    if (found == recorded.end() || *found->second == tensor) continue;
    differences.push_back({tensor.name, "is listed with other numbers than were computed now"});
  }
  return differences;
}

}  // namespace thorns
