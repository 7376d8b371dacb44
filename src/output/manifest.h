// thorns.json: what a finished folder is made of, and how, in numbers. docs/manifest.md explains
// every field and docs/manifest.schema.json is its schema. The document is written piece by piece
// while the merge runs, so its memory does not grow with the number of tensors.
//
// It depends on the recipe and the inputs alone: no times, no thread counts, no memory figures.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "output/json_text.h"
#include "output/provenance.h"
#include "output/writer.h"
#include "plan/plan.h"
#include "plan/sink.h"

namespace thorns {

inline constexpr const char* kManifestFile = "thorns.json";

class ManifestWriter {
 public:
  // `plan` must outlive this. Pieces go to `out` in order. Nothing here throws but what `out` does.
  ManifestWriter(const Plan& plan, TextSink out);

  void begin();                                              // all that is known before the merge
  void tensor(std::size_t index, const TensorFacts& facts);  // for every program, in order
  void end(std::span<const WrittenFile> files);              // all files but the manifest itself

 private:
  std::string recipe_json() const;
  std::string node_json(const RecipeNode& node) const;
  std::string dropped_json() const;
  std::string source_json(const Operand& operand, const TensorFacts& facts,
                          std::size_t index) const;
  std::string solved_json(const NodeFacts& facts) const;
  std::string blocks_json(const Program& program, const TensorFacts& facts) const;
  void inputs();

  const Plan& plan_;
  TextSink out_;
  PathFilter filter_;
  std::vector<std::size_t> shard_of_;  // program -> shard
  const char* separator_ = "\n";
};

// An upper bound on the manifest's size in bytes: every number at its longest.
std::uint64_t manifest_bound(const Plan& plan, std::span<const WrittenFile> files);

}  // namespace thorns
