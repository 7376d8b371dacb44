// thorns.json read back: what a finished folder says of itself. docs/manifest.md explains the
// fields.
//
// Manifests come with folders from strangers. Every field that is known is checked for its type,
// its range and what it refers to; fields that are not known are those of a later version and
// passed over.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "thorns/dtype.h"

namespace thorns {

struct ManifestFile {
  std::string name;  // relative, stays inside its folder
  std::uint64_t size = 0;
  std::string sha256;  // 64 lower-case hexadecimal digits; of inputs only where it is known

  bool operator==(const ManifestFile&) const = default;
};

struct ManifestLeaf {
  std::string name;
  std::string where;
  std::string architecture;  // empty where unknown
  std::vector<ManifestFile> files;
};

struct ManifestAdapter {
  std::string name;
  std::string where;
  std::string family;
  std::string base_model;  // empty where unknown
  std::vector<ManifestFile> files;
};

struct ManifestSetting {
  std::string parameter;
  std::string filter;
  std::vector<double> values;

  bool operator==(const ManifestSetting&) const = default;
};

enum class ManifestNodeKind { Leaf, Fold, CombinedFold, Blend };

struct ManifestNode {  // refers to earlier nodes only
  ManifestNodeKind kind = ManifestNodeKind::Leaf;
  std::string key;
  std::string name;                   // its `let` name; empty where it has none
  std::size_t leaf = 0;               // Leaf: in leaves
  std::size_t adapter = 0;            // Fold: in adapters
  double weight = 1.0;                // Fold
  std::vector<std::size_t> adapters;  // CombinedFold: in adapters
  std::string label;                  // CombinedFold: of the sources that it makes
  std::vector<std::size_t> models;    // a fold: one; Blend: its models
  std::vector<double> weights;        // CombinedFold: one per adapter; Blend: one per model
  std::string method;                 // CombinedFold, Blend
  std::string majority_sign_method;   // CombinedFold, where it elects signs
  std::vector<ManifestSetting> settings;

  bool operator==(const ManifestNode&) const = default;
};

struct ManifestSource {
  std::string label;
  Dtype dtype = Dtype::F32;
  std::optional<double> coefficient;
  std::optional<double> least;  // of the coefficients, where every line has its own
  std::optional<double> most;
  std::optional<double> norm;
  std::optional<double> distance;  // of the result from it

  bool operator==(const ManifestSource&) const = default;
};

struct ManifestSolved {
  std::string node;  // key of a node
  std::vector<std::optional<double>> coefficients;
  std::optional<double> angle;  // radians
  bool fell_back = false;

  bool operator==(const ManifestSolved&) const = default;
};

struct ManifestBlock {
  std::uint64_t first_row = 0;
  std::uint64_t last_row = 0;
  std::vector<std::optional<double>> coefficients;

  bool operator==(const ManifestBlock&) const = default;
};

struct ManifestTensor {
  std::string name;
  std::string kind;  // "blend", "copy", "cast" or "same"
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 0;  // product of shape
  std::string file;            // one of the files
  std::optional<double> norm;
  std::uint64_t rounded = 0;  // at most `elements`, as the next two
  std::uint64_t clipped = 0;
  std::uint64_t nonfinite = 0;
  std::uint64_t sampled = 0;  // at most `elements`; 0 where the last node is no extra step
  std::uint64_t changed = 0;  // at most `sampled`
  std::vector<ManifestSource> sources;
  std::vector<ManifestSolved> nodes;
  std::vector<ManifestBlock> blocks;  // empty but where vocabularies differ

  bool operator==(const ManifestTensor&) const = default;
};

struct ManifestDropped {
  std::string tensor;
  std::string leaf;
  std::string reason;
};

struct ManifestSettings {  // of the recipe; empty where it says nothing
  std::string name;
  std::string dtype;
  std::optional<std::uint64_t> shard_size;
  std::string tokenizer;
  std::string vocabulary;
  std::string prompt;
  std::string license;
};

struct Manifest {
  std::string program_version;
  std::string published;
  std::string key;
  ManifestSettings settings;
  std::size_t root = 0;
  std::vector<ManifestNode> nodes;
  std::vector<ManifestLeaf> leaves;
  std::vector<ManifestAdapter> adapters;
  std::string dtype;  // commonest type of the output
  bool tied = false;
  std::string tokenizer;  // name of a leaf; empty where there is none
  std::uint64_t bytes = 0;
  std::vector<ManifestDropped> dropped;
  std::vector<std::string> warnings;
  std::vector<ManifestTensor> tensors;  // in storing order, names unique
  std::vector<ManifestFile> files;      // names unique, all with sha256
};

constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{256} << 20;

// `folder`/thorns.json. NotFound where `folder` has none; Unsupported for a schema of another
// version; Corrupt, naming the field, for everything else that is wrong.
Manifest read_manifest(Disk& disk, const std::string& folder);

// `path` only names the text in errors.
Manifest parse_manifest(const std::string& text, const std::string& path);

}  // namespace thorns
