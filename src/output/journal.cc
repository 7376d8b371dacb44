#include "output/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <string_view>
#include <utility>

#include "base/disk_resume.h"
#include "base/hash.h"
#include "base/json.h"
#include "output/manifest.h"
#include "output/safetensors_header.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kJournalSchema = "thorns/journal/1";
constexpr std::size_t kDepth = 8;
constexpr std::uint64_t kJournalPiece = std::uint64_t{64} << 10;  // read at once
constexpr std::uint64_t kLongestLine = std::uint64_t{16} << 20;   // of a key with all of its inputs

Json optional_time(Disk& disk, const std::string& path) {
  ResumableDisk* const times = resumable(disk);
  if (times == nullptr) return nullptr;
  try {
    return times->modified(path);
  } catch (const Error&) {
    return nullptr;
  }
}

// Configuration that decides how weights are read, beside them.
void add_configuration(Disk& disk, const std::string& path, Json& files) {
  if (!disk.exists(path)) return;
  const std::string folder = disk.stat(path).is_folder ? path : parent_path(path);
  for (const char* name : {"config.json", "adapter_config.json"}) {
    const std::string file = join_path(folder, name);
    if (!disk.exists(file)) continue;
    files[disk.canonical(file)] = {disk.stat(file).size, optional_time(disk, file)};
  }
}

Json inputs_json(Disk& disk, const Plan& plan) {
  Json files = Json::object();
  const auto add = [&](const std::string& path, const std::vector<InputFile>& weights) {
    for (const InputFile& file : weights) {
      files[disk.canonical(file.path)] = {file.size, optional_time(disk, file.path)};
    }
    add_configuration(disk, path, files);
  };
  for (const auto& leaf : plan.leaves) add(leaf->path(), leaf->files());
  for (const auto& adapter : plan.adapters) add(adapter->path(), adapter->files());
  return files;
}

Json settings_json(const RecipeSettings& settings, bool allow_nonfinite) {
  Json json = Json::object();
  json["name"] = settings.name;
  json["dtype"] = settings.dtype ? Json(torch_name(*settings.dtype)) : Json(nullptr);
  json["shard_size"] = settings.shard_size ? Json(*settings.shard_size) : Json(nullptr);
  json["tokenizer"] = settings.tokenizer;
  json["vocabulary"] = settings.vocabulary;
  json["prompt"] = settings.prompt;
  json["license"] = settings.license;
  json["allow_nonfinite"] = allow_nonfinite;
  return json;
}

// Names, types, shapes and places of all tensors, what each is made of, and the manifest's start.
std::string layout_hash(const Plan& plan) {
  Sha256 hash;
  const auto add = [&](std::string_view text) { hash.update(std::as_bytes(std::span(text))); };
  for (const Shard& shard : plan.shards) add(shard.file + '\n' + shard_header(plan, shard));
  for (const Program& program : plan.programs) {
    for (const Operand& operand : program.operands) {
      const double scale = operand.update == nullptr ? 1.0 : operand.update->scale;
      add(fmt::format("{} {} {} {} {}\n", static_cast<int>(program.kind), operand.label,
                      to_string(operand.dtype), operand.base.transposed,
                      std::bit_cast<std::uint64_t>(scale)));
      for (const RowRun& run : operand.rows ? *operand.rows : RowRuns()) {
        add(fmt::format("{} {} {}\n", run.to, run.from, run.count));
      }
    }
  }
  ManifestWriter(plan, add).begin();
  return hash.hex();
}

Json bits_json(const std::vector<double>& numbers) {
  Json json = Json::array();
  for (const double number : numbers) json.push_back(std::bit_cast<std::uint64_t>(number));
  return json;
}

// ---------------------------------------------------------------- reading; nullopt: not ours

std::optional<std::uint64_t> count_of(const Json& json) {
  if (!json.is_number_unsigned()) return std::nullopt;
  return json.get<std::uint64_t>();
}

std::optional<std::vector<double>> numbers_of(const Json& json) {
  if (!json.is_array()) return std::nullopt;
  std::vector<double> numbers;
  for (const Json& item : json) {
    const auto bits = count_of(item);
    if (!bits) return std::nullopt;
    numbers.push_back(std::bit_cast<double>(*bits));
  }
  return numbers;
}

// [recipe node, coefficients, angle or null, fell back, padded angle or null]
std::optional<NodeFacts> node_of(const Json& json, const Recipe& recipe) {
  if (!json.is_array() || json.size() != 5 || !json[3].is_boolean()) return std::nullopt;
  NodeFacts facts;
  const auto node = count_of(json[0]);
  const auto coefficients = numbers_of(json[1]);
  if (!node || *node >= recipe.nodes.size() || !coefficients) return std::nullopt;
  facts.recipe_node = static_cast<std::size_t>(*node);
  if (!std::holds_alternative<BlendNode>(recipe.nodes[facts.recipe_node].node)) return std::nullopt;
  facts.coefficients = *coefficients;
  for (const auto& [angle, stored] :
       {std::pair(&facts.angle, &json[2]), std::pair(&facts.padded_angle, &json[4])}) {
    if (stored->is_null()) continue;
    const auto bits = count_of(*stored);
    if (!bits) return std::nullopt;
    *angle = std::bit_cast<double>(*bits);
  }
  facts.fell_back = json[3].get<bool>();
  return facts;
}

// [sha256, coefficients, blocks, norms, distances, [norm], nodes, rounded, clipped, nonfinite,
// least, most, sampled, changed]
std::optional<JournalEntry> entry_of(const Json& json, const Plan& plan, const Program& program) {
  if (!json.is_array() || json.size() != 14 || !json[0].is_string()) return std::nullopt;
  JournalEntry entry;
  TensorFacts& facts = entry.facts;
  entry.sha256 = json[0].get<std::string>();
  const auto coefficients = numbers_of(json[1]);
  const auto norms = numbers_of(json[3]);
  const auto distances = numbers_of(json[4]);
  const auto norm = numbers_of(json[5]);
  const auto least = numbers_of(json[10]);
  const auto most = numbers_of(json[11]);
  if (!coefficients || !norms || !distances || !norm || norm->size() != 1) return std::nullopt;
  if (!least || !most || least->size() != most->size()) return std::nullopt;
  if (!json[2].is_array() || json[2].size() > program.blocks.size()) return std::nullopt;
  if (!json[2].empty() && (program.shape.empty() || program.elements == 0)) return std::nullopt;
  for (const Json& block : json[2]) {
    const auto numbers = numbers_of(block);
    if (!numbers) return std::nullopt;
    facts.blocks.push_back(*numbers);
  }
  if (!json[6].is_array()) return std::nullopt;
  for (const Json& item : json[6]) {
    const auto node = node_of(item, plan.recipe);
    if (!node) return std::nullopt;
    facts.nodes.push_back(*node);
  }
  const auto rounded = count_of(json[7]);
  const auto clipped = count_of(json[8]);
  const auto nonfinite = count_of(json[9]);
  const auto sampled = count_of(json[12]);
  const auto changed = count_of(json[13]);
  if (!rounded || !clipped || !nonfinite || !sampled || !changed) return std::nullopt;
  facts.coefficients = *coefficients;
  facts.norms = *norms;
  facts.distances = *distances;
  facts.least = *least;
  facts.most = *most;
  facts.norm = norm->front();
  facts.rounded = *rounded;
  facts.clipped = *clipped;
  facts.nonfinite = *nonfinite;
  facts.sampled = *sampled;
  facts.changed = *changed;
  return entry;
}

std::optional<Json> parse_line(std::string_view line, std::size_t depth) {
  try {
    return parse_json(std::string(line), kJournalFile, 0, depth);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::string journal_identity(Disk& disk, const Plan& plan, bool allow_nonfinite) {
  Json json = Json::object();
  json["schema"] = kJournalSchema;
  json["program"] = THORNS_VERSION;
  json["recipe"] = plan.recipe.key;
  json["settings"] = settings_json(plan.recipe.settings, allow_nonfinite);
  json["inputs"] = inputs_json(disk, plan);
  json["layout"] = layout_hash(plan);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string identity_difference(const std::string& before, const std::string& now) {
  if (before == now) return {};
  const auto old_json = parse_line(before, kDepth);
  const auto new_json = parse_line(now, kDepth);
  if (!old_json || !new_json || !old_json->is_object() || !old_json->contains("schema") ||
      (*old_json)["schema"] != kJournalSchema) {
    return "its journal cannot be read";
  }
  const auto value = [](const Json& json, const char* name) {
    const auto found = json.find(name);
    return found == json.end() ? Json(nullptr) : *found;
  };
  const auto differs = [&](const char* name) {
    return value(*old_json, name) != value(*new_json, name);
  };
  if (differs("program")) return "another version of thorns made it";
  if (differs("recipe")) return "the recipe is another";
  if (differs("settings")) {
    const Json old_settings = value(*old_json, "settings");
    const Json new_settings = value(*new_json, "settings");
    for (const auto& [name, setting] : new_settings.items()) {
      if (!old_settings.is_object() || value(old_settings, name.c_str()) != setting) {
        return fmt::format("`{}` is set otherwise", name);
      }
    }
  }
  if (differs("inputs")) {
    const Json old_inputs = value(*old_json, "inputs");
    const Json new_inputs = value(*new_json, "inputs");
    for (const auto& [path, facts] : new_inputs.items()) {
      if (!old_inputs.is_object() || !old_inputs.contains(path)) {
        return fmt::format("`{}` was not read for it", path);
      }
      if (old_inputs[path] != facts) return fmt::format("`{}` has changed since", path);
    }
    return "it was made from other files too";
  }
  return "its tensors are laid out or made otherwise";
}

std::string journal_line(const TensorFacts& facts, const std::string& sha256) {
  Json blocks = Json::array();
  for (const auto& block : facts.blocks) blocks.push_back(bits_json(block));
  Json nodes = Json::array();
  for (const NodeFacts& node : facts.nodes) {
    const auto bits = [](const std::optional<double>& angle) {
      return angle ? Json(std::bit_cast<std::uint64_t>(*angle)) : Json(nullptr);
    };
    nodes.push_back(Json::array({node.recipe_node, bits_json(node.coefficients), bits(node.angle),
                                 node.fell_back, bits(node.padded_angle)}));
  }
  const Json json =
      Json::array({sha256, bits_json(facts.coefficients), blocks, bits_json(facts.norms),
                   bits_json(facts.distances), bits_json({facts.norm}), nodes, facts.rounded,
                   facts.clipped, facts.nonfinite, bits_json(facts.least), bits_json(facts.most),
                   facts.sampled, facts.changed});
  return json.dump() + '\n';
}

JournalReader::JournalReader(std::unique_ptr<ReadFile> file, const Plan& plan)
    : file_(std::move(file)), plan_(plan), identity_(line().value_or("")) {}

std::optional<std::string> JournalReader::line() {
  std::size_t searched = 0;
  for (;;) {
    const std::size_t newline = read_.find('\n', searched);
    if (newline != std::string::npos) {
      std::string found = read_.substr(0, newline);
      read_.erase(0, newline + 1);
      end_ += newline + 1;
      return found;
    }
    searched = read_.size();
    const std::uint64_t left = file_->size() - end_ - searched;
    if (left == 0 || searched > kLongestLine) return std::nullopt;
    read_.resize(searched + static_cast<std::size_t>(std::min(left, kJournalPiece)));
    file_->read(end_ + searched, std::as_writable_bytes(std::span(read_).subspan(searched)));
  }
}

std::optional<JournalEntry> JournalReader::next() {
  std::optional<JournalEntry> entry;
  if (!ended_ && program_ < plan_.programs.size()) {
    const auto text = line();
    const auto json = text ? parse_line(*text, kDepth) : std::nullopt;
    if (json) entry = entry_of(*json, plan_, plan_.programs[program_]);
  }
  ended_ = !entry;
  ++program_;
  if (entry) entry->end = end_;
  return entry;
}

}  // namespace thorns
