#include "output/manifest_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>

#include "base/checked.h"
#include "base/json.h"
#include "base/path_within.h"
#include "output/manifest.h"
#include "output/tokenizer_files.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::string_view kManifestSchema = "thorns/manifest/1";
constexpr std::string_view kManifestFamily = "thorns/manifest/";

const char* type_name(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_string()) return "a string";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  return value.is_array() ? "an array" : "an object";
}

// A value of the document and its place in it, for messages: "tensors[3].norm".
class Field {
 public:
  Field(const Json& value, const std::string& file, std::string place)
      : value_(value), file_(file), place_(std::move(place)) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}`: `{}` {}", file_, place_, what),
                FilePlace{file_},
                "the manifest was changed or damaged after the merge that wrote it");
  }

  Field operator[](const char* name) const {
    if (!value_.is_object()) expect("an object");
    const auto at = value_.find(name);
    const std::string place = place_.empty() ? name : place_ + "." + name;
    if (at == value_.end()) Field(value_, file_, place).fail("is missing");
    return {*at, file_, place};
  }
  bool has(const char* name) const { return value_.is_object() && value_.contains(name); }
  bool is_null() const { return value_.is_null(); }

  const std::string& text() const {
    if (!value_.is_string()) expect("a string");
    return value_.get_ref<const std::string&>();
  }
  std::string optional_text() const { return is_null() ? std::string() : text(); }
  bool flag() const {
    if (!value_.is_boolean()) expect("true or false");
    return value_.get<bool>();
  }
  std::uint64_t count() const {
    if (!value_.is_number_unsigned()) expect("a whole number that is not negative");
    return value_.get<std::uint64_t>();
  }
  std::uint64_t count_up_to(std::uint64_t most) const {
    const std::uint64_t number = count();
    if (number > most) fail(fmt::format("is {}, more than {}", number, most));
    return number;
  }
  std::size_t index_below(std::size_t size) const {
    const std::uint64_t index = count();
    if (index >= size) fail(fmt::format("is {}, which refers to none of {}", index, size));
    return static_cast<std::size_t>(index);
  }
  double number() const {
    if (!value_.is_number()) expect("a number");
    const double number = value_.get<double>();
    if (!std::isfinite(number)) fail("is too large");
    return number;
  }
  std::optional<double> optional_number() const {
    if (is_null()) return std::nullopt;
    return number();
  }
  std::optional<double> optional_norm() const {
    const auto norm = optional_number();
    if (norm && *norm < 0) fail(fmt::format("is {}, but a norm is not negative", *norm));
    return norm;
  }
  Dtype dtype() const {
    const auto dtype = dtype_from_safetensors(text());
    if (!dtype) fail(fmt::format("is `{}`, which is no type", text()));
    return *dtype;
  }

  // read(item) for each item of an array.
  template <class Read>
  auto list(Read read) const {
    if (!value_.is_array()) expect("an array");
    std::vector<decltype(read(*this))> items;
    for (std::size_t i = 0; i < value_.size(); ++i) {
      items.push_back(read(Field(value_[i], file_, fmt::format("{}[{}]", place_, i))));
    }
    return items;
  }

 private:
  [[noreturn]] void expect(const char* what) const {
    const std::string problem = fmt::format("should be {}, found {}", what, type_name(value_));
    if (!place_.empty()) fail(problem);
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` {}", file_, problem), FilePlace{file_},
                "that is no manifest of a merge");
  }

  const Json& value_;
  const std::string& file_;
  std::string place_;
};

std::string hash_of(const Field& field) {
  const std::string& hash = field.text();
  const bool good = hash.size() == 64 && std::all_of(hash.begin(), hash.end(), [](char c) {
                      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                    });
  if (!good) field.fail("should be 64 lower-case hexadecimal digits");
  return hash;
}

std::string file_name(const Field& field) {
  if (!stays_inside(field.text())) {
    field.fail(fmt::format("is `{}`, which leads out of the folder", field.text()));
  }
  return field.text();
}

ManifestFile input_file(const Field& field) {
  ManifestFile file{file_name(field["name"]), field["size"].count(), {}};
  if (field.has("sha256")) file.sha256 = hash_of(field["sha256"]);
  return file;
}

ManifestFile output_file(const Field& field) {
  return {file_name(field["name"]), field["size"].count(), hash_of(field["sha256"])};
}

ManifestLeaf leaf(const Field& field) {
  return {field["name"].text(), field["where"].text(), field["architecture"].optional_text(),
          field["files"].list(input_file)};
}

ManifestAdapter adapter(const Field& field) {
  return {field["name"].text(), field["where"].text(), field["family"].text(),
          field["base_model"].optional_text(), field["files"].list(input_file)};
}

double number(const Field& field) { return field.number(); }
std::optional<double> optional_number(const Field& field) { return field.optional_number(); }

ManifestSetting setting(const Field& field) {
  return {field["parameter"].optional_text(), field["filter"].optional_text(),
          field["values"].list(number)};
}

class NodeReader {
 public:
  NodeReader(std::size_t leaves, std::size_t adapters) : leaves_(leaves), adapters_(adapters) {}

  ManifestNode operator()(const Field& field) {
    ManifestNode node;
    node.key = field["key"].text();
    node.name = field["name"].optional_text();
    const std::string& kind = field["kind"].text();
    // The nodes that it may refer to are those before it.
    const auto earlier = [&](const Field& model) { return model.index_below(read_); };
    if (kind == "leaf") {
      node.leaf = field["leaf"].index_below(leaves_);
    } else if (kind == "fold") {
      node.kind = ManifestNodeKind::Fold;
      node.models = {earlier(field["model"])};
      node.adapter = field["adapter"].index_below(adapters_);
      node.weight = field["weight"].number();
    } else if (kind == "combined_fold") {
      node.kind = ManifestNodeKind::CombinedFold;
      node.models = {earlier(field["model"])};
      node.label = field["label"].text();
      node.method = field["method"].text();
      node.adapters = field["adapters"].list(
          [&](const Field& adapter) { return adapter.index_below(adapters_); });
      node.weights = field["weights"].list(number);
      if (node.adapters.size() < 2 || node.adapters.size() != node.weights.size()) {
        field["weights"].fail(fmt::format("has {} numbers for {} adapters", node.weights.size(),
                                          node.adapters.size()));
      }
      for (const char* parameter : {"density", "svd_rank", "seed"}) {
        const auto value = field[parameter].optional_number();
        if (value) node.settings.push_back({parameter, {}, {*value}});
      }
      node.majority_sign_method = field["majority_sign_method"].optional_text();
    } else if (kind == "blend") {
      node.kind = ManifestNodeKind::Blend;
      node.method = field["method"].optional_text();
      node.models = field["models"].list(earlier);
      node.weights = field["weights"].list(number);
      if (node.models.empty() || node.models.size() != node.weights.size()) {
        field["weights"].fail(
            fmt::format("has {} numbers for {} models", node.weights.size(), node.models.size()));
      }
      node.settings = field["settings"].list(setting);
    } else {
      field["kind"].fail(fmt::format("is `{}`, expected leaf, fold, combined_fold or blend", kind));
    }
    ++read_;
    return node;
  }

 private:
  std::size_t leaves_;
  std::size_t adapters_;
  std::size_t read_ = 0;
};

class TensorEntries {
 public:
  explicit TensorEntries(const Manifest& manifest) {
    for (const ManifestNode& node : manifest.nodes) nodes_.insert(node.key);
    for (const ManifestFile& file : manifest.files) files_.insert(file.name);
  }

  ManifestTensor operator()(const Field& field) {
    ManifestTensor tensor;
    tensor.name = field["name"].text();
    if (!names_.insert(tensor.name).second) {
      field["name"].fail(fmt::format("is `{}`, which stands twice", tensor.name));
    }
    tensor.kind = field["kind"].text();
    if (std::find(kKinds.begin(), kKinds.end(), tensor.kind) == kKinds.end()) {
      field["kind"].fail(fmt::format("is `{}`, expected blend, copy, cast or same", tensor.kind));
    }
    tensor.dtype = field["dtype"].dtype();
    tensor.shape = field["shape"].list([](const Field& size) { return size.count(); });
    tensor.elements = elements(field["shape"], tensor.shape);
    tensor.file = field["file"].text();
    if (!files_.contains(tensor.file)) {
      field["file"].fail(fmt::format("is `{}`, which is not in `files`", tensor.file));
    }
    tensor.norm = field["norm"].optional_norm();
    tensor.rounded = field["rounded"].count_up_to(tensor.elements);
    tensor.clipped = field["clipped"].count_up_to(tensor.elements);
    tensor.nonfinite = field["nonfinite"].count_up_to(tensor.elements);
    tensor.sources = field["sources"].list([](const Field& source) {
      ManifestSource read;
      read.label = source["label"].text();
      read.dtype = source["dtype"].dtype();
      read.coefficient = source["coefficient"].optional_number();
      if (source.has("least")) read.least = source["least"].number();
      if (source.has("most")) read.most = source["most"].number();
      read.norm = source["norm"].optional_norm();
      // The first manifests had none.
      if (source.has("distance")) read.distance = source["distance"].optional_norm();
      return read;
    });
    tensor.nodes = field["nodes"].list([&](const Field& node) { return solved(node); });
    if (field.has("blocks")) {
      tensor.blocks = field["blocks"].list([&](const Field& part) { return block(part, tensor); });
    }
    if (field.has("extra_step")) {
      const Field step = field["extra_step"];
      tensor.sampled = step["sampled"].count_up_to(tensor.elements);
      tensor.changed = step["changed"].count_up_to(tensor.sampled);
    }
    return tensor;
  }

 private:
  static constexpr std::array<std::string_view, 4> kKinds = {"blend", "copy", "cast", "same"};

  static std::uint64_t elements(const Field& field, const std::vector<std::uint64_t>& shape) {
    const auto product = checked_product(shape);
    if (!product) field.fail("is larger than any tensor");
    return *product;
  }

  ManifestSolved solved(const Field& field) const {
    ManifestSolved node;
    node.node = field["node"].optional_text();
    if (!node.node.empty() && !nodes_.contains(node.node)) {
      field["node"].fail(fmt::format("is `{}`, which is no node of the recipe", node.node));
    }
    node.coefficients = field["coefficients"].list(optional_number);
    node.angle = field["angle"].optional_number();
    node.fell_back = field["fell_back"].flag();
    return node;
  }

  static ManifestBlock block(const Field& field, const ManifestTensor& tensor) {
    const auto rows = field["rows"].list([](const Field& row) { return row.count(); });
    if (rows.size() != 2 || rows[0] > rows[1] || tensor.shape.empty() ||
        rows[1] >= tensor.shape[0]) {
      field["rows"].fail("should be the first and last of rows that the tensor has");
    }
    ManifestBlock block{rows[0], rows[1], field["coefficients"].list(optional_number)};
    if (block.coefficients.size() != tensor.sources.size()) {
      field["coefficients"].fail(fmt::format("has {} numbers for {} sources",
                                             block.coefficients.size(), tensor.sources.size()));
    }
    return block;
  }

  std::set<std::string, std::less<>> nodes_;
  std::set<std::string, std::less<>> files_;
  std::set<std::string> names_;
};

void read_recipe(const Field& field, Manifest& manifest) {
  manifest.published = field["published"].text();
  manifest.key = field["key"].text();
  const Field settings = field["settings"];
  manifest.settings.name = settings["name"].optional_text();
  manifest.settings.dtype = settings["dtype"].optional_text();
  if (!settings["shard_size"].is_null()) {
    manifest.settings.shard_size = settings["shard_size"].count();
  }
  manifest.settings.tokenizer = settings["tokenizer"].optional_text();
  manifest.settings.vocabulary = settings["vocabulary"].optional_text();
  manifest.settings.prompt = settings["prompt"].optional_text();
  manifest.settings.license = settings["license"].optional_text();
  NodeReader node(manifest.leaves.size(), manifest.adapters.size());
  manifest.nodes = field["nodes"].list([&](const Field& one) { return node(one); });
  manifest.root = field["root"].index_below(manifest.nodes.size());
}

void refuse_other_schemas(const Field& root, const std::string& path) {
  const std::string& schema = root["schema"].text();
  if (schema == kManifestSchema) return;
  if (schema.starts_with(kManifestFamily)) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("`{}` is a manifest of schema `{}`; this version reads `{}`", path,
                            schema, kManifestSchema),
                FilePlace{path}, "use the version of thorns that wrote it, or a later one");
  }
  root["schema"].fail(fmt::format("is `{}`, expected `{}`", schema, kManifestSchema));
}

}  // namespace

Manifest parse_manifest(const std::string& text, const std::string& path) {
  const Json document = parse_json(text, path);
  const Field root(document, path, "");
  refuse_other_schemas(root, path);
  Manifest manifest;
  manifest.program_version = root["program"]["version"].text();
  manifest.leaves = root["leaves"].list(leaf);
  manifest.adapters = root["adapters"].list(adapter);
  read_recipe(root["recipe"], manifest);
  const Field output = root["output"];
  manifest.dtype = output["dtype"].text();
  manifest.tied = output["tied"].flag();
  manifest.tokenizer = output["tokenizer"].optional_text();
  manifest.bytes = output["bytes"].count();
  manifest.dropped = root["dropped"].list([](const Field& field) {
    return ManifestDropped{field["tensor"].text(), field["leaf"].text(), field["reason"].text()};
  });
  manifest.warnings = root["warnings"].list([](const Field& field) { return field.text(); });
  std::set<std::string> names;
  manifest.files = root["files"].list([&](const Field& field) {
    ManifestFile file = output_file(field);
    if (!names.insert(file.name).second) {
      field["name"].fail(fmt::format("is `{}`, which stands twice", file.name));
    }
    return file;
  });
  TensorEntries tensor(manifest);
  manifest.tensors = root["tensors"].list([&](const Field& field) { return tensor(field); });
  return manifest;
}

Manifest read_manifest(Disk& disk, const std::string& folder) {
  const std::string path = join_path(folder, kManifestFile);
  if (!disk.exists(folder)) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no folder `{}`", folder),
                FilePlace{folder});
  }
  if (!disk.exists(path)) {
    throw Error(ErrorCode::NotFound,
                fmt::format("`{}` has no {}, so thorns did not make it", folder, kManifestFile),
                FilePlace{folder}, "give the folder that `thorns merge -o` made");
  }
  return parse_manifest(
      read_text(disk, path_within(disk, folder, kManifestFile), kMaxManifestBytes), path);
}

}  // namespace thorns
