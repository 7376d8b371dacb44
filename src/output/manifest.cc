#include "output/manifest.h"

#include <algorithm>
#include <utility>

#include "hub/repository.h"

namespace thorns {
namespace {

// No double is longer in its shortest decimal form.
constexpr double kLongestDouble = -2.2250738585072014e-308;

template <typename Range, typename Function>
std::string array_json(const Range& range, Function element) {
  std::string text = "[";
  for (const auto& item : range) {
    if (text.size() > 1) text += ", ";
    text += element(item);
  }
  return text + ']';
}

std::string strings_json(const std::vector<std::string>& texts) {
  return array_json(texts, [](const std::string& text) { return json_string(text); });
}

std::string numbers_json(const std::vector<double>& numbers) {
  return array_json(numbers, json_number);
}

std::string optional_json(const std::string& text) {
  return text.empty() ? "null" : json_string(text);
}

const char* kind_name(ProgramKind kind) {
  switch (kind) {
    case ProgramKind::Blend:
      return "blend";
    case ProgramKind::Copy:
      return "copy";
    case ProgramKind::Cast:
      return "cast";
    case ProgramKind::Same:
      return "same";
  }
  return "";
}

// A file of an input, relative to the input's folder.
std::string relative_name(const std::string& file, const std::string& folder) {
  const std::string prefix = folder.ends_with('/') ? folder : folder + '/';
  return file.starts_with(prefix) ? file.substr(prefix.size()) : base_name(file);
}

std::string files_json(const std::vector<InputFile>& files, const std::string& folder) {
  return array_json(files, [&](const InputFile& file) {
    return fmt::format(R"({{"name": {}, "size": {}}})",
                       json_string(relative_name(file.path, folder)), file.size);
  });
}

// A field with a comma behind it; nothing for what was not found in the Hub's cache.
std::string commit_json(const std::string& path) {
  const std::string commit = snapshot_commit(path);
  return commit.empty() ? commit : fmt::format(R"("commit": "{}", )", commit);
}

// A field with a comma behind it; nothing for the many adapters without.
std::string key_map_json(const KeyMap& map) {
  if (map.empty()) return {};
  std::string text;
  for (const KeyRule& rule : map) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", json_string(rule.from),
                        rule.to ? json_string(*rule.to) : "null");
  }
  return fmt::format(R"("key_map": {{{}}}, )", text);
}

std::string settings_json(const RecipeSettings& settings) {
  return fmt::format(
      R"({{"name": {}, "dtype": {}, "shard_size": {}, "tokenizer": {}, "vocabulary": {}, )"
      R"("prompt": {}, "license": {}}})",
      optional_json(settings.name),
      settings.dtype ? json_string(torch_name(*settings.dtype)) : "null",
      settings.shard_size ? fmt::format("{}", *settings.shard_size) : "null",
      optional_json(settings.tokenizer), optional_json(settings.vocabulary),
      optional_json(settings.prompt), optional_json(settings.license));
}

std::string combination_json(const Recipe& recipe, const FoldNode& fold) {
  const Combination& how = *fold.combination;
  const CombinationRule& rule = how.rule;
  return fmt::format(
      R"("kind": "combined_fold", "model": {}, "label": {}, "method": {}, "adapters": {}, "weights": {}, )"
      R"("density": {}, "majority_sign_method": {}, "svd_rank": {}, "seed": {}}})",
      fold.model, json_string(folded_name(recipe, fold)), json_string(std::string(rule.name)),
      array_json(fold.adapters,
                 [](const FoldNode::Share& share) { return fmt::format("{}", share.adapter); }),
      array_json(fold.adapters,
                 [](const FoldNode::Share& share) { return json_number(share.weight); }),
      rule.prunes() ? json_number(how.density) : "null",
      !rule.elects_signs ? "null"
      : how.by_frequency ? "\"frequency\""
                         : "\"total\"",
      how.svd_rank ? fmt::format("{}", *how.svd_rank) : "null",
      rule.pruning == Pruning::Random ? fmt::format("{}", how.seed) : "null");
}

std::string setting_json(const SpanMethod* method, const Setting& setting) {
  const bool named = method != nullptr && setting.parameter < method->parameters().size();
  return fmt::format(R"({{"parameter": {}, "filter": {}, "values": {}}})",
                     named ? json_string(method->parameters()[setting.parameter].name) : "null",
                     optional_json(setting.filter), numbers_json(setting.values));
}

}  // namespace

ManifestWriter::ManifestWriter(const Plan& plan, TextSink out)
    : plan_(plan), out_(std::move(out)), filter_(plan), shard_of_(plan.programs.size()) {
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    for (std::size_t i = 0; i < plan.shards[s].count; ++i) shard_of_[plan.shards[s].first + i] = s;
  }
}

std::string ManifestWriter::node_json(const RecipeNode& node) const {
  std::string text =
      fmt::format(R"({{"key": {}, "name": {}, )", json_string(node.key), optional_json(node.name));
  if (const auto* leaf = std::get_if<LeafNode>(&node.node)) {
    return text + fmt::format(R"("kind": "leaf", "leaf": {}}})", leaf->leaf);
  }
  if (const auto* fold = std::get_if<FoldNode>(&node.node)) {
    if (fold->combination) return text + combination_json(plan_.recipe, *fold);
    const FoldNode::Share& only = fold->adapters.front();
    return text + fmt::format(R"("kind": "fold", "model": {}, "adapter": {}, "weight": {}}})",
                              fold->model, only.adapter, json_number(only.weight));
  }
  const auto& blend = std::get<BlendNode>(node.node);
  return text +
         fmt::format(
             R"("kind": "blend", "method": {}, "models": [{}], "weights": {}, "settings": {}}})",
             blend.method != nullptr ? json_string(blend.method->name()) : "null",
             fmt::join(blend.models, ", "), numbers_json(blend.weights),
             array_json(blend.settings, [&](const Setting& setting) {
               return setting_json(blend.method, setting);
             }));
}

std::string ManifestWriter::recipe_json() const {
  const Recipe& recipe = plan_.recipe;
  std::string text = fmt::format(
      "  \"recipe\": {{\n    \"published\": {},\n    \"key\": {},\n    \"settings\": {},\n"
      "    \"root\": {},\n    \"nodes\": [",
      json_string(recipe.published), json_string(recipe.key), settings_json(recipe.settings),
      recipe.root);
  const char* separator = "\n";
  for (const RecipeNode& node : recipe.nodes) {
    text += separator;
    text += "      " + node_json(node);
    separator = ",\n";
  }
  return text + "\n    ]\n  },\n";
}

void ManifestWriter::inputs() {
  out_("  \"leaves\": [");
  const char* separator = "\n";
  for (std::size_t i = 0; i < plan_.leaves.size() && i < plan_.recipe.leaves.size(); ++i) {
    const RecipeLeaf& named = plan_.recipe.leaves[i];
    const Checkpoint& leaf = *plan_.leaves[i];
    out_(fmt::format(R"({}    {{"name": {}, "where": {}, {}"architecture": {}, "files": {}}})",
                     separator, json_string(named.name),
                     json_string(published_where(named.where, named.path)), commit_json(named.path),
                     optional_json(architecture_of(leaf.config())),
                     files_json(leaf.files(), leaf.path())));
    separator = ",\n";
  }
  out_("\n  ],\n  \"adapters\": [");
  separator = "\n";
  for (std::size_t i = 0; i < plan_.adapters.size() && i < plan_.recipe.adapters.size(); ++i) {
    const RecipeAdapter& named = plan_.recipe.adapters[i];
    const Adapter& adapter = *plan_.adapters[i];
    out_(fmt::format(
        R"({}    {{"name": {}, "where": {}, {}"family": {}, "base_model": {}, {}"files": {}}})",
        separator, json_string(named.name), json_string(published_where(named.where, named.path)),
        commit_json(named.path), json_string(adapter.family()),
        optional_json(published_where(adapter.base_model())), key_map_json(named.key_map),
        files_json(adapter.files(), adapter.path())));
    separator = ",\n";
  }
  out_("\n  ],\n");
}

std::string ManifestWriter::dropped_json() const {
  return array_json(plan_.dropped, [&](const Dropped& dropped) {
    return fmt::format(R"({{"tensor": {}, "leaf": {}, "reason": {}}})", json_string(dropped.tensor),
                       json_string(dropped.leaf), json_string(filter_(dropped.reason)));
  });
}

void ManifestWriter::begin() {
  out_(
      fmt::format("{{\n  \"schema\": \"thorns/manifest/1\",\n"
                  "  \"program\": {{\"name\": \"thorns\", \"version\": {}}},\n",
                  json_string(THORNS_VERSION)));
  out_(recipe_json());
  inputs();
  const bool tokenizer = plan_.has_tokenizer && plan_.tokenizer_leaf < plan_.recipe.leaves.size();
  out_(fmt::format(R"(  "output": {{"dtype": {}, "tied": {}, "tokenizer": {}, "bytes": {}}},)"
                   "\n",
                   json_string(plan_.base_dtype), plan_.tied,
                   tokenizer ? json_string(plan_.recipe.leaves[plan_.tokenizer_leaf].name) : "null",
                   plan_.bytes_out));
  out_(fmt::format("  \"dropped\": {},\n", dropped_json()));
  std::vector<std::string> warnings;
  for (const std::string& warning : plan_.warnings) warnings.push_back(filter_(warning));
  out_(fmt::format("  \"warnings\": {},\n  \"tensors\": [", strings_json(warnings)));
  separator_ = "\n";
}

std::string ManifestWriter::source_json(const Operand& operand, const TensorFacts& facts,
                                        std::size_t index) const {
  const auto at = [&](const std::vector<double>& numbers) {
    return index < numbers.size() ? json_number(numbers[index]) : std::string("null");
  };
  std::string range;
  if (!facts.least.empty()) {
    range = fmt::format(R"(, "least": {}, "most": {})", at(facts.least), at(facts.most));
  }
  return fmt::format(
      R"({{"label": {}, "dtype": "{}", "coefficient": {}{}, "norm": {}, "distance": {}}})",
      json_string(filter_(operand.label)), to_string(operand.dtype), at(facts.coefficients), range,
      at(facts.norms), at(facts.distances));
}

std::string ManifestWriter::solved_json(const NodeFacts& facts) const {
  const auto& nodes = plan_.recipe.nodes;
  return fmt::format(
      R"({{"node": {}, "coefficients": {}, "angle": {}, "fell_back": {}{}}})",
      facts.recipe_node < nodes.size() ? json_string(nodes[facts.recipe_node].key) : "null",
      numbers_json(facts.coefficients), facts.angle ? json_number(*facts.angle) : "null",
      facts.fell_back,
      facts.padded_angle ? fmt::format(R"(, "padded_angle": {})", json_number(*facts.padded_angle))
                         : "");
}

// Where vocabularies differ: rows (first and last) with the coefficients that hold there.
std::string ManifestWriter::blocks_json(const Program& program, const TensorFacts& facts) const {
  if (facts.blocks.empty()) return {};
  const std::uint64_t row = program.elements / program.shape[0];
  std::string text = R"(, "blocks": [)";
  for (std::size_t i = 0; i < facts.blocks.size(); ++i) {
    const Block& block = program.blocks[i];
    text += fmt::format(R"({}{{"rows": [{}, {}], "coefficients": {}}})", i == 0 ? "" : ", ",
                        block.first / row, (block.first + block.count) / row - 1,
                        numbers_json(facts.blocks[i]));
  }
  return text + "]";
}

void ManifestWriter::tensor(std::size_t index, const TensorFacts& facts) {
  const Program& program = plan_.programs[index];
  std::string sources;
  for (std::size_t i = 0; i < program.operands.size(); ++i) {
    if (i > 0) sources += ", ";
    sources += source_json(program.operands[i], facts, i);
  }
  std::string extra_step;
  if (facts.sampled > 0) {
    extra_step = fmt::format(R"(, "extra_step": {{"sampled": {}, "changed": {}}})", facts.sampled,
                             facts.changed);
  }
  const bool measured = program.kind == ProgramKind::Blend;
  out_(fmt::format(
      R"({}    {{"name": {}, "kind": "{}", "dtype": "{}", "shape": {}, "file": {}, )"
      R"("norm": {}, "rounded": {}, "clipped": {}, "nonfinite": {}, "sources": [{}], "nodes": {}{}{}}})",
      separator_, json_string(program.tensor), kind_name(program.kind), to_string(program.dtype),
      fmt::format("[{}]", fmt::join(program.shape, ", ")),
      json_string(plan_.shards[shard_of_[index]].file), measured ? json_number(facts.norm) : "null",
      facts.rounded, facts.clipped, facts.nonfinite, sources,
      array_json(facts.nodes, [&](const NodeFacts& node) { return solved_json(node); }),
      blocks_json(program, facts), extra_step));
  separator_ = ",\n";
}

void ManifestWriter::end(std::span<const WrittenFile> files) {
  out_("\n  ],\n  \"files\": [");
  const char* separator = "\n";
  for (const WrittenFile& file : files) {
    out_(fmt::format(R"({}    {{"name": {}, "size": {}, "sha256": "{}"}})", separator,
                     json_string(file.name), file.size, file.sha256));
    separator = ",\n";
  }
  out_("\n  ]\n}\n");
}

std::uint64_t manifest_bound(const Plan& plan, std::span<const WrittenFile> files) {
  std::uint64_t size = 0;
  ManifestWriter writer(plan, [&](std::string_view text) { size += text.size(); });
  writer.begin();
  for (std::size_t i = 0; i < plan.programs.size(); ++i) {
    const Program& program = plan.programs[i];
    TensorFacts facts;
    facts.coefficients.assign(program.operands.size(), kLongestDouble);
    facts.norms = facts.coefficients;
    facts.distances = facts.coefficients;
    if (program.lines != Lines::None) facts.least = facts.most = facts.coefficients;
    const auto written = std::count_if(program.blocks.begin(), program.blocks.end(),
                                       [](const Block& block) { return block.written; });
    if (written > 1) facts.blocks.assign(static_cast<std::size_t>(written), facts.coefficients);
    facts.norm = kLongestDouble;
    facts.rounded = facts.clipped = facts.nonfinite = program.elements;
    facts.sampled = facts.changed = program.elements;
    for (const ProgramNode& node : program.nodes) {
      if (!node.method) continue;
      facts.nodes.push_back({node.method->recipe_node,
                             std::vector<double>(node.method->models.size(), kLongestDouble),
                             kLongestDouble, false, kLongestDouble});
    }
    writer.tensor(i, facts);
  }
  writer.end(files);
  return size;
}

}  // namespace thorns
