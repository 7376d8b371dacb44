#include "report/anatomy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "method/method.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using Kind = ReportInput::Kind;

// Numbers by place and input; the largest models and recipes of today need a hundredth of it.
constexpr std::size_t kMostNumbers = 4'000'000;

// The root of a sum of squares, where there was anything to add.
struct Length {
  double square = 0;
  bool known = false;

  void add(double length) {
    square += length * length;
    known = true;
  }
  std::optional<double> value() const {
    return known ? std::optional(std::sqrt(square)) : std::nullopt;
  }
};

// Which input a source of a tensor is, by its label.
class Inputs {
 public:
  explicit Inputs(const Manifest& manifest) {
    for (const ManifestLeaf& leaf : manifest.leaves) {
      models_.emplace(leaf.name, list.size());
      list.push_back({Kind::Model, leaf.name, leaf.where, leaf.architecture, {}, size(leaf.files)});
    }
    first_adapter_ = list.size();
    for (const ManifestAdapter& adapter : manifest.adapters) {
      adapters_.emplace(adapter.name, list.size());
      list.push_back({Kind::Adapter, adapter.name, adapter.where, adapter.family,
                      adapter.base_model, size(adapter.files)});
    }
  }

  std::size_t adapter(std::size_t index) const { return first_adapter_ + index; }

  // A model and an adapter may have one name; only models are far from the result. What an adapter
  // makes of another source ("Rose[Dew]") is that source's.
  std::size_t of(const ManifestSource& source) {
    const auto model = models_.find(source.label);
    const auto adapter = adapters_.find(source.label);
    if (model != models_.end() && (source.distance || adapter == adapters_.end())) {
      return model->second;
    }
    if (adapter != adapters_.end()) return adapter->second;
    for (std::size_t at = source.label.rfind('['); at != std::string::npos && at > 0;
         at = source.label.rfind('[', at - 1)) {
      const std::string base = source.label.substr(0, at);
      if (const auto found = models_.find(base); found != models_.end()) return found->second;
      if (const auto found = adapters_.find(base); found != adapters_.end()) return found->second;
    }
    return other(source.label);
  }

  // What is neither: several adapters made one.
  std::size_t other(const std::string& label) {
    const auto [other, is_new] = others_.emplace(label, list.size());
    if (is_new) list.push_back({Kind::Other, label, {}, {}, {}, 0});
    return other->second;
  }

  std::vector<ReportInput> list;

 private:
  static std::uint64_t size(const std::vector<ManifestFile>& files) {
    std::uint64_t bytes = 0;
    for (const ManifestFile& file : files) bytes += file.size;
    return bytes;
  }

  std::size_t first_adapter_ = 0;
  std::map<std::string, std::size_t> models_;
  std::map<std::string, std::size_t> adapters_;
  std::map<std::string, std::size_t> others_;
};

// Numbers of a growing set of tensors.
class Tally {
 public:
  Tally(std::size_t inputs, std::size_t measured) : parts_(inputs) {
    numbers_.angles.resize(measured);
  }

  // `input_of`: by source, in `inputs`.
  void add(const ManifestTensor& tensor, const std::vector<std::size_t>& input_of,
           const std::vector<ReportInput>& inputs,
           const std::map<std::string, std::size_t>& measured) {
    ++numbers_.tensors;
    numbers_.elements += tensor.elements;
    numbers_.rounded += tensor.rounded;
    numbers_.clipped += tensor.clipped;
    numbers_.nonfinite += tensor.nonfinite;
    numbers_.sampled += tensor.sampled;
    numbers_.changed += tensor.changed;
    if (tensor.norm) norm_.add(*tensor.norm);
    for (std::size_t i = 0; i < tensor.sources.size(); ++i) {
      const ReportInput& input = inputs[input_of[i]];
      const bool is_model = input.kind == Kind::Model && input.name == tensor.sources[i].label;
      add_source(tensor.sources[i], is_model, parts_[input_of[i]]);
    }
    if (tensor.sources.size() == 1) ++parts_[input_of[0]].alone;
    for (const ManifestSolved& solved : tensor.nodes) {
      const auto node = measured.find(solved.node);
      if (node != measured.end() && solved.angle) {
        add_angle(numbers_.angles[node->second], *solved.angle, solved.fell_back);
      }
    }
  }

  ReportNumbers numbers() const {
    ReportNumbers numbers = numbers_;
    numbers.norm = norm_.value();
    double sum = 0;
    for (const Part& part : parts_) sum += part.length.value().value_or(0);
    for (const Part& part : parts_) {
      ReportPart& made = numbers.parts.emplace_back();
      made.norm = part.norm.value();
      made.distance = part.distance.value();
      made.length = part.length.value();
      if (sum > 0 && std::isfinite(sum)) made.share = made.length.value_or(0) / sum;
      // Nothing is measured of what is copied.
      if (sum == 0 && numbers.tensors > 0 && part.alone == numbers.tensors) made.share = 1.0;
    }
    for (ReportAngles& angles : numbers.angles) {
      if (angles.tensors > 0) angles.mean /= static_cast<double>(angles.tensors);
    }
    return numbers;
  }

 private:
  struct Part {
    Length norm;
    Length distance;
    Length length;
    std::uint64_t alone = 0;  // tensors of which it is the only source
  };

  static void add_source(const ManifestSource& source, bool is_model, Part& part) {
    if (is_model && source.distance) part.distance.add(*source.distance);
    if (is_model && source.norm) part.norm.add(*source.norm);
    if (source.norm && source.coefficient) part.length.add(*source.norm * *source.coefficient);
  }

  static void add_angle(ReportAngles& angles, double angle, bool averaged) {
    angles.smallest = angles.tensors == 0 ? angle : std::min(angles.smallest, angle);
    angles.largest = std::max(angles.largest, angle);
    angles.mean += angle;  // their sum, until the end
    angles.averaged += averaged ? 1 : 0;
    ++angles.tensors;
  }

  ReportNumbers numbers_;
  Length norm_;
  std::vector<Part> parts_;
};

// ---------------------------------------------------------------- places

struct Place {
  std::optional<std::size_t> layer;
  std::string stack;   // "model.layers"
  std::string module;  // what follows the layer's number
};

Place place_of(const std::string& tensor, const LayerStack& stack) {
  Place place;
  const LayerPosition position = stack.position(tensor);
  place.module = tensor;
  if (position.part == LayerPosition::Inside) {
    const std::string number = "." + std::to_string(position.layer) + ".";
    if (const std::size_t at = tensor.find(number); at != std::string::npos) {
      place.layer = position.layer;
      place.stack = tensor.substr(0, at);
      place.module = without_numbers(tensor.substr(at + number.size()));
    }
  }
  constexpr std::string_view kWeight = ".weight";
  if (place.module.ends_with(kWeight)) place.module.resize(place.module.size() - kWeight.size());
  return place;
}

// ---------------------------------------------------------------- along the recipe

// Mean part of each model in its node, over all elements of all tensors.
std::map<std::string, std::vector<double>> measured_parts(const Manifest& manifest) {
  std::map<std::string, std::vector<double>> parts;
  for (const ManifestTensor& tensor : manifest.tensors) {
    for (const ManifestSolved& solved : tensor.nodes) {
      double sum = 0;
      for (const auto& value : solved.coefficients) sum += std::abs(value.value_or(0));
      if (!(sum > 0) || !std::isfinite(sum)) continue;
      std::vector<double>& part = parts[solved.node];
      part.resize(std::max(part.size(), solved.coefficients.size()), 0.0);
      for (std::size_t i = 0; i < solved.coefficients.size(); ++i) {
        part[i] += std::abs(solved.coefficients[i].value_or(0)) / sum *
                   static_cast<double>(tensor.elements);
      }
    }
  }
  return parts;
}

std::vector<ReportNode> recipe_nodes(const Manifest& manifest, Inputs& inputs) {
  std::vector<ReportNode> nodes;
  for (const ManifestNode& from : manifest.nodes) {
    ReportNode node;
    node.key = from.key;
    if (from.kind == ManifestNodeKind::Leaf) {
      node.leaf = from.leaf;
    } else if (from.kind == ManifestNodeKind::Fold) {
      node.edges = {{false, from.models[0], 1.0, {}},
                    {true, inputs.adapter(from.adapter), from.weight, {}}};
    } else if (from.kind == ManifestNodeKind::CombinedFold) {
      node.edges = {{false, from.models[0], 1.0, {}}, {true, inputs.other(from.label), 1.0, {}}};
    } else {
      node.method = from.method.empty() ? "blend" : from.method;
      for (std::size_t i = 0; i < from.models.size(); ++i) {
        node.edges.push_back({false, from.models[i], from.weights[i], {}});
      }
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

// By node and edge: what the node takes of what it is made of, as measured or as its weights say.
std::vector<std::vector<double>> edge_factors(const Manifest& manifest,
                                              const std::vector<ReportNode>& nodes) {
  const auto measured = measured_parts(manifest);
  std::vector<std::vector<double>> factors;
  for (const ReportNode& node : nodes) {
    std::vector<double>& parts = factors.emplace_back();
    const auto found = measured.find(node.key);
    if (found != measured.end() && found->second.size() == node.edges.size()) {
      parts = found->second;
    } else {
      for (const ReportEdge& edge : node.edges) parts.push_back(std::abs(edge.weight));
    }
    const double sum = std::accumulate(parts.begin(), parts.end(), 0.0);
    if (node.method.empty() || sum == 0) continue;
    for (double& part : parts) part /= sum;
  }
  return factors;
}

// How much of the result goes through every edge. The share of a model or an adapter is measured;
// where it takes several ways to the root, it is divided among them like its coefficients.
void share_out(const Manifest& manifest, Report& report) {
  const auto factors = edge_factors(manifest, report.nodes);
  std::vector<double> reach(report.nodes.size(), 0.0);
  std::vector<double> reach_adapter(report.inputs.size(), 0.0);
  if (!reach.empty()) reach[report.root] = 1.0;
  for (std::size_t n = report.nodes.size(); n-- > 0;) {
    for (std::size_t i = 0; i < report.nodes[n].edges.size(); ++i) {
      const ReportEdge& edge = report.nodes[n].edges[i];
      (edge.to_adapter ? reach_adapter : reach)[edge.index] += reach[n] * factors[n][i];
    }
  }
  for (std::size_t n = 0; n < report.nodes.size(); ++n) {
    ReportNode& node = report.nodes[n];
    if (node.leaf) {
      if (reach[n] > 0) node.share = report.whole.parts[*node.leaf].share;
      continue;
    }
    double sum = 0;
    bool all = reach[n] > 0;
    for (std::size_t i = 0; i < node.edges.size(); ++i) {
      ReportEdge& edge = node.edges[i];
      const auto whole =
          edge.to_adapter ? report.whole.parts[edge.index].share : report.nodes[edge.index].share;
      const double of = edge.to_adapter ? reach_adapter[edge.index] : reach[edge.index];
      if (whole && of > 0 && std::isfinite(of)) edge.share = *whole * reach[n] * factors[n][i] / of;
      if (whole && of == 0) edge.share = 0.0;
      all = all && edge.share.has_value();
      sum += edge.share.value_or(0);
    }
    if (all) node.share = sum;
  }
}

}  // namespace

std::string without_numbers(const std::string& name) {
  std::string text;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string component = name.substr(begin, end - begin);
    const bool number =
        !component.empty() && component.find_first_not_of("0123456789") == std::string::npos;
    if (begin > 0) text += '.';
    text += number ? "*" : component;
    begin = end + 1;
  }
  return text;
}

Report anatomy(const Manifest& manifest, const std::string& name) {
  Report report;
  report.name = name;
  report.program_version = manifest.program_version;
  report.published = manifest.published;
  report.key = manifest.key;
  report.dtype = manifest.dtype;
  report.bytes = manifest.bytes;
  report.root = manifest.root;
  report.warnings = manifest.warnings;
  for (const ManifestDropped& one : manifest.dropped) {
    report.dropped.push_back({one.tensor, one.leaf, one.reason});
  }
  for (const ManifestFile& file : manifest.files) {
    report.files.push_back({file.name, file.size, file.sha256});
  }

  Inputs inputs(manifest);
  report.nodes = recipe_nodes(manifest, inputs);
  std::set<std::string> with_angles;
  std::vector<std::vector<std::size_t>> input_of;  // by tensor and source
  std::vector<std::string> names;
  for (const ManifestTensor& tensor : manifest.tensors) {
    names.push_back(tensor.name);
    std::vector<std::size_t>& of = input_of.emplace_back();
    for (const ManifestSource& source : tensor.sources) of.push_back(inputs.of(source));
    for (const ManifestSolved& solved : tensor.nodes) {
      if (solved.angle) with_angles.insert(solved.node);
    }
  }
  std::map<std::string, std::size_t> measured;  // key -> index in report.measured
  for (std::size_t n = 0; n < report.nodes.size(); ++n) {
    if (!with_angles.contains(report.nodes[n].key)) continue;
    if (measured.emplace(report.nodes[n].key, report.measured.size()).second) {
      report.measured.push_back(n);
    }
  }
  report.inputs = std::move(inputs.list);

  const LayerStack stack(names);
  std::set<std::string> stacks;
  std::vector<Place> where;
  for (const std::string& tensor : names) {
    where.push_back(place_of(tensor, stack));
    if (where.back().layer) stacks.insert(where.back().stack);
  }
  const Tally empty(report.inputs.size(), report.measured.size());
  Tally whole = empty;
  std::map<std::size_t, Tally> layers;
  std::map<std::pair<std::optional<std::size_t>, std::string>, std::size_t> places;
  std::vector<Tally> place_tallies;
  for (std::size_t t = 0; t < manifest.tensors.size(); ++t) {
    const ManifestTensor& tensor = manifest.tensors[t];
    Place& place = where[t];
    if (stacks.size() > 1 && place.layer) place.module = place.stack + ".*." + place.module;
    const auto [at, is_new] =
        places.emplace(std::pair(place.layer, place.module), place_tallies.size());
    if (is_new) {
      if ((places.size() + layers.size()) * (report.inputs.size() + report.measured.size()) >
          kMostNumbers) {
        throw Error(ErrorCode::Unsupported,
                    fmt::format("{} tensors of {} models and adapters are too many for one report",
                                manifest.tensors.size(), report.inputs.size()));
      }
      place_tallies.push_back(empty);
      report.places.push_back(
          {place.layer, place.module, tensor.name, tensor.kind, tensor.dtype, tensor.shape, {}});
    } else if (report.places[at->second].made != tensor.kind) {
      report.places[at->second].made = "various";
    }
    whole.add(tensor, input_of[t], report.inputs, measured);
    place_tallies[at->second].add(tensor, input_of[t], report.inputs, measured);
    if (place.layer) {
      layers.try_emplace(*place.layer, empty)
          .first->second.add(tensor, input_of[t], report.inputs, measured);
    }
  }
  report.whole = whole.numbers();
  for (const auto& [layer, tally] : layers) report.layers.push_back({layer, tally.numbers()});
  for (std::size_t p = 0; p < report.places.size(); ++p) {
    report.places[p].numbers = place_tallies[p].numbers();
  }
  std::stable_sort(
      report.places.begin(), report.places.end(),
      [](const ReportPlace& a, const ReportPlace& b) { return natural_less(a.tensor, b.tensor); });
  share_out(manifest, report);
  return report;
}

}  // namespace thorns
