// The JSON documents of the public reports. Every document opens with its schema; fields are named
// as in the structs of thorns.h. Text that is not valid UTF-8 is written with replacement
// characters, so that writing a document never fails.
#include "base/json.h"

#include "thorns/check.h"
#include "thorns/diff.h"
#include "thorns/fetch.h"
#include "thorns/inspect.h"
#include "thorns/report.h"
#include "thorns/thorns.h"
#include "thorns/verify.h"

namespace thorns {
namespace {

// nlohmann's own conversion of a list of strings keeps them as they are; lists of structs go
// through this.
template <typename Item, typename Convert>
Json list_of(const std::vector<Item>& items, Convert convert) {
  Json list = Json::array();
  for (const Item& item : items) list.push_back(convert(item));
  return list;
}

std::string document(const char* schema, const Json& fields) {
  Json whole;
  whole["schema"] = schema;
  whole.update(fields);
  return whole.dump(2, ' ', false, Json::error_handler_t::replace);
}

// Unknown parts of a place are left out.
struct PlaceFields {
  Json operator()(std::monostate) const { return nullptr; }
  Json operator()(const KeySpan& span) const {
    return {{"key_span", {{"text", span.text}, {"begin", span.begin}, {"end", span.end}}}};
  }
  Json operator()(const FilePlace& place) const {
    Json fields = {{"file", place.path}};
    if (place.offset) fields["offset"] = *place.offset;
    if (place.line > 0) fields["line"] = place.line;
    if (place.column > 0) fields["column"] = place.column;
    return fields;
  }
  Json operator()(const TensorPlace& place) const {
    Json fields = {{"tensor", place.tensor}};
    if (place.element) fields["element"] = *place.element;
    if (!place.source.empty()) fields["source"] = place.source;
    return fields;
  }
};

Json error_fields(const Error& error) {
  return {{"code", to_string(error.code())},
          {"message", error.message()},
          {"hint", error.hint()},
          {"where", std::visit(PlaceFields{}, error.where())}};
}

Json optional_number(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json parameter_fields(const MethodParameter& parameter) {
  return {{"name", parameter.name},
          {"type", parameter.type},
          {"default_value", parameter.default_value},
          {"range", parameter.range},
          {"help", parameter.help}};
}

Json method_fields(const MethodInfo& method) {
  return {{"name", method.name},
          {"summary", method.summary},
          {"reference", method.reference},
          {"models", method.models},
          {"parameters", list_of(method.parameters, parameter_fields)}};
}

Json part_fields(const KeyPart& part) {
  return {{"depth", part.depth}, {"label", part.label}, {"share", part.share}};
}

Json share_fields(const KeyShare& one) { return {{"name", one.name}, {"share", one.share}}; }

Json leaf_fields(const LeafReport& leaf) {
  return {{"name", leaf.name},       {"path", leaf.path},   {"architecture", leaf.architecture},
          {"tensors", leaf.tensors}, {"bytes", leaf.bytes}, {"dtypes", leaf.dtypes}};
}

Json adapter_fields(const AdapterReport& adapter) {
  return {{"name", adapter.name},       {"path", adapter.path},
          {"family", adapter.family},   {"base_model", adapter.base_model},
          {"updates", adapter.updates}, {"bytes", adapter.bytes}};
}

Json shard_fields(const ShardReport& shard) {
  return {{"file", shard.file}, {"tensors", shard.tensors}, {"bytes", shard.bytes}};
}

Json dropped_fields(const DroppedReport& dropped) {
  return {{"tensor", dropped.tensor}, {"leaf", dropped.leaf}, {"reason", dropped.reason}};
}

Json plan_fields(const PlanReport& report) {
  Json fields = {{"key", report.key},
                 {"leaves", list_of(report.leaves, leaf_fields)},
                 {"adapters", list_of(report.adapters, adapter_fields)},
                 {"tensors", report.tensors},
                 {"merged", report.merged},
                 {"copied", report.copied},
                 {"cast", report.cast},
                 {"dropped", list_of(report.dropped, dropped_fields)},
                 {"bytes_in", report.bytes_in},
                 {"bytes_read", report.bytes_read},
                 {"bytes_out", report.bytes_out},
                 {"memory", report.memory},
                 {"memory_ceiling", report.memory_ceiling},
                 {"least_memory", report.least_memory},
                 {"disk_needed", report.disk_needed},
                 {"disk_free", report.disk_free}};
  fields["seconds"] = report.seconds ? Json(*report.seconds) : Json(nullptr);
  fields["shards"] = list_of(report.shards, shard_fields);
  fields["warnings"] = report.warnings;
  fields["problems"] = list_of(report.problems, error_fields);
  return fields;
}

Json extreme_fields(const std::optional<AngleExtreme>& extreme) {
  if (!extreme) return nullptr;
  return {{"radians", extreme->radians}, {"tensor", extreme->tensor}};
}

Json node_fields(const NodeSummary& node) {
  return {{"key", node.key},
          {"method", node.method},
          {"smallest", extreme_fields(node.smallest)},
          {"largest", extreme_fields(node.largest)},
          {"fell_back", node.fell_back}};
}

Json first_angles_fields(const FirstAngles& first) {
  return {{"tensor", first.tensor},
          {"angles", list_of(first.angles, [](const std::pair<std::string, double>& angle) {
             return Json{{"key", angle.first}, {"radians", angle.second}};
           })}};
}

Json finding_fields(const Finding& finding) {
  Json where = std::visit(PlaceFields{}, finding.place);
  if (where.is_null()) where = Json::object();
  if (!finding.leaf.empty()) where["leaf"] = finding.leaf;
  if (!finding.adapter.empty()) where["adapter"] = finding.adapter;
  if (!finding.node.empty()) where["node"] = finding.node;
  Json measured = Json::object();
  for (const auto& [name, value] : finding.measured) measured[name] = value;
  return {{"code", finding.code}, {"severity", to_string(finding.severity)},
          {"where", where},       {"message", finding.message},
          {"measured", measured}, {"advice", finding.advice}};
}

Json fold_measure_fields(const FoldMeasure& fold) {
  return {{"adapter", fold.adapter},          {"model", fold.model},
          {"strength", fold.strength},        {"overlap", fold.overlap},
          {"fit", optional_number(fold.fit)}, {"reaches", fold.reaches},
          {"tensors", fold.tensors}};
}

Json placement_fields(const PlacementMeasure& one) {
  return {{"adapter", one.adapter},
          {"model", one.model},
          {"strength", one.strength},
          {"held", one.held},
          {"reaches", one.reaches}};
}

Json suggestion_fields(const std::optional<Suggestion>& suggestion) {
  if (!suggestion) return nullptr;
  return {{"seen_from", suggestion->seen_from},
          {"table", list_of(suggestion->table, placement_fields)},
          {"chosen", list_of(suggestion->chosen, placement_fields)},
          {"key", suggestion->key}};
}

Json node_measure_fields(const NodeMeasure& node) {
  return {{"key", node.key},           {"tensors", node.tensors}, {"fell_back", node.fell_back},
          {"smallest", node.smallest}, {"median", node.median},   {"largest", node.largest}};
}

Json tensor_diff_fields(const TensorDiff& tensor) {
  return {{"tensor", tensor.tensor},
          {"dtype_a", tensor.dtype_a},
          {"dtype_b", tensor.dtype_b},
          {"elements", tensor.elements},
          {"differing", tensor.differing},
          {"same_bytes", tensor.same_bytes},
          {"norm_a", optional_number(tensor.norm_a)},
          {"norm_b", optional_number(tensor.norm_b)},
          {"distance", optional_number(tensor.distance)},
          {"relative", optional_number(tensor.relative)},
          {"angle", optional_number(tensor.angle)},
          {"largest", optional_number(tensor.largest)}};
}

const char* kind_text(ReportInput::Kind kind) {
  if (kind == ReportInput::Kind::Model) return "model";
  return kind == ReportInput::Kind::Adapter ? "adapter" : "other";
}

Json input_fields(const ReportInput& input) {
  return {{"kind", kind_text(input.kind)},  {"name", input.name},
          {"where", input.where},           {"what", input.what},
          {"base_model", input.base_model}, {"bytes", input.bytes}};
}

Json numbers_fields(const ReportNumbers& numbers) {
  const auto part = [](const ReportPart& one) {
    return Json{{"norm", optional_number(one.norm)},
                {"distance", optional_number(one.distance)},
                {"length", optional_number(one.length)},
                {"share", optional_number(one.share)}};
  };
  const auto angles = [](const ReportAngles& one) -> Json {
    if (one.tensors == 0) return nullptr;
    return {{"tensors", one.tensors},
            {"averaged", one.averaged},
            {"smallest", one.smallest},
            {"mean", one.mean},
            {"largest", one.largest}};
  };
  return {{"tensors", numbers.tensors},
          {"elements", numbers.elements},
          {"norm", optional_number(numbers.norm)},
          {"parts", list_of(numbers.parts, part)},
          {"angles", list_of(numbers.angles, angles)},
          {"rounded", numbers.rounded},
          {"clipped", numbers.clipped},
          {"nonfinite", numbers.nonfinite},
          {"sampled", numbers.sampled},
          {"changed", numbers.changed}};
}

Json place_fields(const ReportPlace& place) {
  return {{"layer", place.layer ? Json(*place.layer) : Json(nullptr)},
          {"module", place.module},
          {"tensor", place.tensor},
          {"made", place.made},
          {"dtype", to_string(place.dtype)},
          {"shape", place.shape},
          {"numbers", numbers_fields(place.numbers)}};
}

Json report_node_fields(const ReportNode& node) {
  const auto edge = [](const ReportEdge& one) {
    return Json{{"to", one.to_adapter ? "input" : "node"},
                {"index", one.index},
                {"weight", one.weight},
                {"share", optional_number(one.share)}};
  };
  return {{"key", node.key},
          {"method", node.method.empty() ? Json(nullptr) : Json(node.method)},
          {"model", node.leaf ? Json(*node.leaf) : Json(nullptr)},
          {"edges", list_of(node.edges, edge)},
          {"share", optional_number(node.share)}};
}

Json diff_group_fields(const DiffGroup& group) {
  return {{"name", group.name},
          {"tensors", group.tensors},
          {"elements", group.elements},
          {"differing", group.differing},
          {"distance", group.distance},
          {"relative", optional_number(group.relative)},
          {"angle", optional_number(group.angle)},
          {"largest", group.largest}};
}

Json explanation_fields(const Explanation& one) {
  return {{"tensor", one.tensor},
          {"best", one.best},
          {"coefficients", one.coefficients},
          {"residual", one.residual}};
}

Json optional_count(const std::optional<std::uint64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json group_fields(const TensorGroup& group) {
  return {{"name", group.name}, {"tensors", group.tensors},   {"shape", group.shape},
          {"type", group.type}, {"elements", group.elements}, {"bytes", group.bytes}};
}

Json tokenizer_fields(const std::optional<TokenizerFacts>& tokenizer) {
  if (!tokenizer) return nullptr;
  const auto special = [](const SpecialToken& one) {
    return Json{{"role", one.role}, {"token", one.token}};
  };
  return {{"kind", tokenizer->kind},
          {"tokens", optional_count(tokenizer->tokens)},
          {"added", optional_count(tokenizer->added)},
          {"special", list_of(tokenizer->special, special)},
          {"chat_template", tokenizer->chat_template},
          {"files", tokenizer->files}};
}

Json checkpoint_fields(const std::optional<CheckpointFacts>& checkpoint) {
  if (!checkpoint) return nullptr;
  const ModelShape& shape = checkpoint->shape;
  return {{"model_type", shape.model_type},
          {"architecture", shape.architecture},
          {"dtype", shape.dtype},
          {"layers", optional_count(shape.layers)},
          {"hidden_size", optional_count(shape.hidden_size)},
          {"intermediate_size", optional_count(shape.intermediate_size)},
          {"heads", optional_count(shape.heads)},
          {"key_value_heads", optional_count(shape.key_value_heads)},
          {"head_size", optional_count(shape.head_size)},
          {"experts", optional_count(shape.experts)},
          {"vocabulary", optional_count(shape.vocabulary)},
          {"positions", optional_count(shape.positions)},
          {"quantisation", checkpoint->quantisation},
          {"head", checkpoint->head},
          {"tokenizer", tokenizer_fields(checkpoint->tokenizer)}};
}

Json inspected_adapter_fields(const std::optional<AdapterFacts>& adapter) {
  if (!adapter) return nullptr;
  const auto rank = [](const RankUse& one) {
    return Json{{"rank", one.rank},
                {"alpha", optional_number(one.alpha)},
                {"scale", one.scale},
                {"updates", one.updates}};
  };
  const auto target = [](const TargetUse& one) {
    return Json{{"name", one.name}, {"modules", one.modules}};
  };
  const auto update = [](const UpdateFacts& one) {
    return Json{{"parameter", one.parameter},
                {"change", one.change},
                {"rank", one.rank},
                {"scale", one.scale},
                {"norm", optional_number(one.norm)}};
  };
  const auto changed = [](const ChangedTensor& one) {
    return Json{
        {"tensor", one.tensor}, {"norm", one.norm}, {"relative", optional_number(one.relative)}};
  };
  return {{"family", adapter->family},
          {"base_model", adapter->base_model},
          {"ranks", list_of(adapter->ranks, rank)},
          {"targets", list_of(adapter->targets, target)},
          {"replaced", adapter->replaced},
          {"updates", list_of(adapter->updates, update)},
          {"changed", list_of(adapter->changed, changed)},
          {"warnings", adapter->warnings}};
}

}  // namespace

std::string to_json(const InspectReport& report) {
  const auto file = [](const InspectedFile& one) {
    return Json{{"path", one.path}, {"bytes", one.bytes}};
  };
  const auto note = [](const InspectNote& one) {
    return Json{{"code", one.code}, {"message", one.message}};
  };
  return document("thorns/inspect/1", {{"path", report.path},
                                       {"kind", report.kind},
                                       {"format", report.format},
                                       {"files", list_of(report.files, file)},
                                       {"tensors", report.tensors},
                                       {"parameters", report.parameters},
                                       {"bytes", report.bytes},
                                       {"groups", list_of(report.groups, group_fields)},
                                       {"notes", list_of(report.notes, note)},
                                       {"checkpoint", checkpoint_fields(report.checkpoint)},
                                       {"adapter", inspected_adapter_fields(report.adapter)}});
}

std::string to_json(const Report& report) {
  const auto layer = [](const ReportLayer& one) {
    return Json{{"layer", one.layer}, {"numbers", numbers_fields(one.numbers)}};
  };
  const auto dropped = [](const ReportDropped& one) {
    return Json{{"tensor", one.tensor}, {"leaf", one.leaf}, {"reason", one.reason}};
  };
  const auto file = [](const ReportFile& one) {
    return Json{{"name", one.name}, {"size", one.size}, {"sha256", one.sha256}};
  };
  return document("thorns/report/1", {{"name", report.name},
                                      {"program_version", report.program_version},
                                      {"published", report.published},
                                      {"key", report.key},
                                      {"dtype", report.dtype},
                                      {"bytes", report.bytes},
                                      {"inputs", list_of(report.inputs, input_fields)},
                                      {"nodes", list_of(report.nodes, report_node_fields)},
                                      {"root", report.root},
                                      {"measured", report.measured},
                                      {"whole", numbers_fields(report.whole)},
                                      {"layers", list_of(report.layers, layer)},
                                      {"places", list_of(report.places, place_fields)},
                                      {"warnings", report.warnings},
                                      {"dropped", list_of(report.dropped, dropped)},
                                      {"files", list_of(report.files, file)}});
}

std::string to_json(const VerifyReport& report) {
  const auto fields = [](const VerifyProblem& problem) {
    return Json{{"check", to_string(problem.check)},
                {"file", problem.file},
                {"tensor", problem.tensor},
                {"element", problem.element ? Json(*problem.element) : Json(nullptr)},
                {"message", problem.message}};
  };
  return document("thorns/verify/1", {{"folder", report.folder},
                                      {"key", report.key},
                                      {"holds", report.holds()},
                                      {"files", report.files},
                                      {"tensors", report.tensors},
                                      {"remade", report.remade},
                                      {"bytes_read", report.bytes_read},
                                      {"problems", list_of(report.problems, fields)},
                                      {"extra", report.extra}});
}

std::string to_json(const DiffReport& report) {
  return document("thorns/diff/1", {{"a", report.a},
                                    {"b", report.b},
                                    {"only_a", report.only_a},
                                    {"only_b", report.only_b},
                                    {"reshaped", report.reshaped},
                                    {"tensors", list_of(report.tensors, tensor_diff_fields)},
                                    {"layers", list_of(report.layers, diff_group_fields)},
                                    {"modules", list_of(report.modules, diff_group_fields)},
                                    {"equal", report.equal},
                                    {"bytes_read", report.bytes_read}});
}

std::string to_json(const BlameReport& report) {
  return document("thorns/blame/1", {{"model", report.model},
                                     {"recipe", report.recipe},
                                     {"candidates", report.candidates},
                                     {"models", report.models},
                                     {"whole", explanation_fields(report.whole)},
                                     {"tensors", list_of(report.tensors, explanation_fields)},
                                     {"bytes_read", report.bytes_read}});
}

std::string to_json(const FetchReport& report) {
  const auto fields = [](const FetchedRepository& one) {
    return Json{{"repository", one.repository}, {"commit", one.commit},
                {"folder", one.folder},         {"files", one.files},
                {"bytes", one.bytes},           {"bytes_there", one.bytes_there}};
  };
  return document("thorns/fetch/1", {{"repositories", list_of(report.repositories, fields)},
                                     {"seconds", report.seconds}});
}

std::string to_json(const CheckReport& report) {
  return document("thorns/check/1", {{"recipe", report.key},
                                     {"findings", list_of(report.findings, finding_fields)},
                                     {"folds", list_of(report.folds, fold_measure_fields)},
                                     {"nodes", list_of(report.nodes, node_measure_fields)},
                                     {"suggestion", suggestion_fields(report.suggestion)},
                                     {"tensors", report.tensors},
                                     {"measured", report.measured},
                                     {"bytes_read", report.bytes_read}});
}

std::string to_json(const KeyReport& report) {
  return document("thorns/key/1",
                  {{"canonical", report.canonical},
                   {"tree", report.tree},
                   {"legend", report.legend},
                   {"models", report.models},
                   {"adapters", report.adapters},
                   {"parts", list_of(report.parts, part_fields)},
                   {"model_shares", list_of(report.model_shares, share_fields)},
                   {"adapter_shares", list_of(report.adapter_shares, share_fields)}});
}

std::string to_json(const std::vector<MethodInfo>& methods,
                    const std::vector<MethodInfo>& combinations) {
  return document("thorns/methods/1", {{"methods", list_of(methods, method_fields)},
                                       {"combinations", list_of(combinations, method_fields)}});
}

std::string to_json(const PlanReport& report) {
  return document("thorns/plan/1", plan_fields(report));
}

std::string to_json(const MergeSummary& summary) {
  return document("thorns/merge/1",
                  {{"output", summary.output},
                   {"merged", summary.merged},
                   {"copied", summary.copied},
                   {"cast", summary.cast},
                   {"dropped", summary.dropped},
                   {"bytes_read", summary.bytes_read},
                   {"bytes_written", summary.bytes_written},
                   {"tensors_kept", summary.tensors_kept},
                   {"bytes_kept", summary.bytes_kept},
                   {"reads_spared", summary.reads_spared},
                   {"peak_memory", summary.peak_memory},
                   {"seconds", summary.seconds},
                   {"elements", summary.elements},
                   {"rounded", summary.rounded},
                   {"clipped", summary.clipped},
                   {"nonfinite", summary.nonfinite},
                   {"nodes", list_of(summary.nodes, node_fields)},
                   {"first_angles", list_of(summary.first_angles, first_angles_fields)},
                   {"warnings", summary.warnings},
                   {"plan", plan_fields(summary.plan)}});
}

std::string to_json(const Error& error) { return document("thorns/error/1", error_fields(error)); }

}  // namespace thorns
