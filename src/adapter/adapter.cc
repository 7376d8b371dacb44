#include "adapter/adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "adapter/adapter_config.h"
#include "adapter/dora.h"
#include "adapter/ia3.h"
#include "adapter/keys.h"
#include "adapter/patterns.h"
#include "adapter/scaled_factors.h"
#include "base/text.h"
#include "checkpoint/config.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";
constexpr const char* kPyTorchFile = "adapter_model.bin";
constexpr std::size_t kMostNamed = 12;    // names spelled out in a message
constexpr std::size_t kCompared = 16384;  // elements compared at a time

class OpenAdapter final : public Adapter {
 public:
  const std::string& path() const override { return path_; }
  const std::string& family() const override { return family_; }
  const std::string& base_model() const override { return config_.base_model; }
  const std::vector<Update>& updates() const override { return updates_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const TensorSource& source() const override { return *source_; }
  bool fan_in_fan_out() const override { return config_.fan_in_fan_out; }

 private:
  friend class Opener;
  std::string path_;
  std::string family_;
  AdapterConfig config_;
  std::vector<Update> updates_;
  std::vector<std::string> warnings_;
  std::vector<InputFile> files_;
  std::unique_ptr<TensorSource> source_;
};

struct Located {
  std::string config;
  std::string weights;
};

bool is_file(Disk& disk, const std::string& path) {
  return disk.exists(path) && !disk.stat(path).is_folder;
}

// The weights in `folder`; safetensors go before PyTorch.
std::string weights_in(Disk& disk, const std::string& folder) {
  const std::string weights = join_path(folder, kWeightsFile);
  const std::string pytorch = join_path(folder, kPyTorchFile);
  return !disk.exists(weights) && disk.exists(pytorch) ? pytorch : weights;
}

// The folder's adapter. An adapter that is not called "default" is saved in a folder of its name
// within the one that was meant.
Located locate_in_folder(Disk& disk, const std::string& path) {
  std::string folder = path;
  if (!is_file(disk, join_path(folder, kConfigFile))) {
    std::vector<std::string> inner;
    for (const std::string& name : disk.list(folder)) {
      if (is_file(disk, join_path(join_path(folder, name), kConfigFile))) inner.push_back(name);
    }
    if (inner.size() > 1) {
      throw Error(ErrorCode::Mismatch,
                  fmt::format("`{}` holds {} adapters: {}", path, inner.size(),
                              list_text(inner, kMostNamed)),
                  FilePlace{path}, "name the one that is meant");
    }
    if (inner.empty()) {
      throw Error(ErrorCode::NotFound, fmt::format("there is no {} in `{}`", kConfigFile, path),
                  FilePlace{path}, "an adapter folder holds that file beside its weights");
    }
    folder = join_path(folder, inner.front());
  }
  return {join_path(folder, kConfigFile), weights_in(disk, folder)};
}

Located locate(Disk& disk, const std::string& path) {
  if (!disk.exists(path)) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no adapter at `{}`", path),
                FilePlace{path},
                "give an adapter folder, or a file beside its adapter_config.json");
  }
  if (disk.stat(path).is_folder) return locate_in_folder(disk, path);
  const std::string config = join_path(parent_path(path), kConfigFile);
  if (base_name(path) == kConfigFile) {
    return {path, weights_in(disk, parent_path(path))};
  }
  if (!is_file(disk, config)) {
    throw Error(ErrorCode::NotFound, fmt::format("there is no {} beside `{}`", kConfigFile, path),
                FilePlace{path}, "rank and alpha stand in that file; fetch it, too");
  }
  return {config, path};
}

void check_weights_exist(Disk& disk, const Located& located) {
  if (disk.exists(located.weights)) return;
  const std::string folder = parent_path(located.weights);
  throw Error(ErrorCode::NotFound, fmt::format("there is no {} in `{}`", kWeightsFile, folder),
              FilePlace{folder}, "fetch the adapter's weights, too");
}

// Builds an OpenAdapter step by step.
class Opener {
 public:
  explicit Opener(const std::string& path) : adapter_(std::make_unique<OpenAdapter>()) {
    adapter_->path_ = path;
  }

  std::unique_ptr<Adapter> open(Disk& disk) {
    const Located located = locate(disk, adapter_->path_);
    config_path_ = located.config;
    weights_path_ = located.weights;
    adapter_->config_ = read_adapter_config(read_json_file(disk, config_path_), config_path_);
    adapter_->family_ = config().ia3       ? "IA3"
                        : config().norms   ? "LN tuning"
                        : config().adalora ? "AdaLoRA"
                        : config().dora    ? "DoRA"
                        : config().rslora  ? "rsLoRA"
                                           : "LoRA";
    check_weights_exist(disk, located);
    adapter_->source_ = open_weights(disk, weights_path_);
    for (const std::string& file : {config_path_, weights_path_}) {
      adapter_->files_.push_back({file, disk.stat(file).size});
    }
    sort_tensors();
    if (config().adalora) apply_singular_values();
    make_updates();
    add_warnings();
    return std::move(adapter_);
  }

 private:
  // The tensors of one module; indices into the source.
  struct Module {
    std::optional<std::size_t> a;
    std::optional<std::size_t> b;
    std::optional<std::size_t> bias;      // lora_B.bias
    std::optional<std::size_t> singular;  // lora_E
    std::optional<std::size_t> embedding_a;
    std::optional<std::size_t> embedding_b;
    std::optional<std::size_t> magnitude;  // of DoRA
    std::optional<std::size_t> ia3;
    std::map<std::string, std::size_t> replaced;  // by parameter
  };

  const AdapterConfig& config() const { return adapter_->config_; }
  std::span<const TensorInfo> tensors() const { return adapter_->source_->tensors(); }
  const TensorInfo& tensor(std::size_t index) const { return tensors()[index]; }
  void warn(std::string message) { adapter_->warnings_.push_back(std::move(message)); }

  [[noreturn]] void refuse(ErrorCode code, const std::string& what, const std::string& tensor = {},
                           const std::string& hint = {}) const {
    Where where = FilePlace{weights_path_};
    if (!tensor.empty()) where = TensorPlace{tensor, std::nullopt, weights_path_};
    throw Error(code, fmt::format("the adapter `{}` {}", adapter_->path_, what), where, hint);
  }

  void put(std::optional<std::size_t>& slot, std::size_t index) const {
    if (slot) {
      refuse(ErrorCode::Corrupt,
             fmt::format("holds the same tensor under two names, `{}` and `{}`", tensor(*slot).name,
                         tensor(index).name),
             tensor(index).name);
    }
    slot = index;
  }

  // Gives every tensor of the file a place in modules_, or refuses the adapter.
  void sort_tensors() {
    if (tensors().empty()) {
      refuse(ErrorCode::Corrupt, "holds no tensors", {},
             "it was probably saved before training put anything into it");
    }
    std::map<std::string, std::vector<std::string>> foreign;  // kind -> tensors
    std::set<std::string> infixes;
    for (std::size_t i = 0; i < tensors().size(); ++i) {
      AdapterKey key = parse_adapter_key(tensor(i).name);
      check_family(key);
      if (!key.infix.empty()) infixes.insert(key.infix);
      if (key.role == AdapterKey::Role::Foreign) foreign[key.foreign].push_back(tensor(i).name);
      place(key, i);
    }
    if (!foreign.empty()) {
      const auto& [kind, names] = *foreign.begin();
      refuse(
          ErrorCode::Unsupported,
          fmt::format("holds {}, which is not folded yet: {}", kind, list_text(names, kMostNamed)),
          names.front());
    }
    if (infixes.size() > 1) {
      refuse(ErrorCode::Unsupported,
             fmt::format("holds several adapters in one file: {}",
                         list_text({infixes.begin(), infixes.end()}, kMostNamed)),
             {}, "save the one that is meant alone");
    }
    if (copies_ > 0) {
      warn(fmt::format("{} untouched copies of base weights (original_module) are passed over",
                       copies_));
    }
  }

  bool same_elements(std::size_t one, std::size_t other) const {
    const TensorInfo& info = tensor(one);
    if (info.dtype != tensor(other).dtype || info.shape != tensor(other).shape) return false;
    const std::size_t size = size_of(info.dtype);
    std::vector<std::byte> a(std::min<std::uint64_t>(kCompared, info.elements) * size);
    std::vector<std::byte> b(a.size());
    for (std::uint64_t first = 0; first < info.elements; first += kCompared) {
      const std::size_t bytes = std::min<std::uint64_t>(kCompared, info.elements - first) * size;
      adapter_->source_->read(one, first, std::span(a).first(bytes));
      adapter_->source_->read(other, first, std::span(b).first(bytes));
      if (!std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(bytes), b.begin())) {
        return false;
      }
    }
    return true;
  }

  // What belongs to the other family is foreign.
  void check_family(AdapterKey& key) const {
    using Role = AdapterKey::Role;
    const char* other = nullptr;
    if (key.role == Role::Norm && !config().norms) other = "LN tuning";
    if (key.role == Role::LoraE && !config().adalora) other = "AdaLoRA";
    if (config().norms && key.role != Role::Norm && key.role != Role::Tensor &&
        key.role != Role::Copy && key.role != Role::Foreign) {
      other = "LoRA";
    }
    if (other == nullptr) return;
    key.role = Role::Foreign;
    key.foreign = fmt::format("{} in an adapter of type {}", other, adapter_->family_);
  }

  void place(const AdapterKey& key, std::size_t index) {
    switch (key.role) {
      case AdapterKey::Role::LoraA:
        return put(modules_[key.module].a, index);
      case AdapterKey::Role::LoraB:
        return put(modules_[key.module].b, index);
      case AdapterKey::Role::LoraBias:
        return put(modules_[key.module].bias, index);
      case AdapterKey::Role::Magnitude:
        return put(modules_[key.module].magnitude, index);
      case AdapterKey::Role::Ia3:
        return put(modules_[key.module].ia3, index);
      case AdapterKey::Role::LoraE:
        return put(modules_[key.module].singular, index);
      case AdapterKey::Role::EmbeddingA:
        return put(modules_[key.module].embedding_a, index);
      case AdapterKey::Role::EmbeddingB:
        return put(modules_[key.module].embedding_b, index);
      case AdapterKey::Role::Norm:
      case AdapterKey::Role::Tensor: {
        const auto [slot, added] = modules_[key.module].replaced.try_emplace(key.parameter, index);
        // PEFT saves the biases of modules_to_save twice where it saves all biases.
        if (added || same_elements(slot->second, index)) return;
        std::optional<std::size_t> taken = slot->second;
        return put(taken, index);
      }
      case AdapterKey::Role::Copy:
        ++copies_;
        return;
      case AdapterKey::Role::Foreign:
        return;
    }
  }

  // AdaLoRA: from here on lora_A stands for diag(E) A.
  void apply_singular_values() {
    std::map<std::size_t, std::size_t> scales;
    for (const auto& [name, module] : modules_) {
      if (module.embedding_a || module.embedding_b || module.bias) {
        refuse(ErrorCode::Unsupported,
               fmt::format("is AdaLoRA on a layer that is not linear, or with a bias: `{}`", name),
               name);
      }
      if (module.a.has_value() != module.singular.has_value()) {
        refuse(ErrorCode::Corrupt,
               fmt::format("has no lora_{} for `{}`", module.a ? "E" : "A", name), name,
               "the file was saved incompletely");
      }
      if (!module.a) continue;
      check_type(*module.a);
      check_type(*module.singular);
      const TensorInfo& a = tensor(*module.a);
      const TensorInfo& e = tensor(*module.singular);
      if (a.shape.size() != 2 || a.elements == 0 ||
          e.shape != std::vector<std::uint64_t>{a.shape[0], 1}) {
        refuse(ErrorCode::Corrupt,
               fmt::format("has singular values of shape {} for a lora_A of shape {}: `{}`",
                           shape_text(e.shape), shape_text(a.shape), e.name),
               e.name);
      }
      scales.emplace(*module.a, *module.singular);
    }
    adapter_->source_ = scale_rows(std::move(adapter_->source_), scales);
  }

  void make_updates() {
    for (const auto& [name, module] : modules_) {
      for (const auto& [parameter, index] : module.replaced) {
        check_type(index);
        adapter_->updates_.push_back({UpdateKind::Replace, name, parameter, 1.0, 0, index, 0});
      }
      if (module.a || module.b || module.bias) {
        make_low_rank(name, module.a, module.b, false);
        if (module.bias) make_bias(name, *module.b, *module.bias);
      }
      if (module.embedding_a || module.embedding_b) {
        make_low_rank(name, module.embedding_a, module.embedding_b, true);
      }
      make_norm(name, module);
      if (module.ia3) make_ia3(name, *module.ia3);
    }
    if (adapter_->updates_.empty()) refuse(ErrorCode::Corrupt, "changes nothing");
    if (differing_ranks_.empty()) return;
    warn(
        fmt::format("the rank of {} modules is not the one its configuration gives; the tensors' "
                    "own rank is used: {}",
                    differing_ranks_.size(), list_text(differing_ranks_, kMostNamed)));
  }

  void make_low_rank(const std::string& name, std::optional<std::size_t> first,
                     std::optional<std::size_t> second, bool embedding) {
    const char* const mark = embedding ? "lora_embedding_" : "lora_";
    if (!first || !second) {
      refuse(ErrorCode::Corrupt, fmt::format("has no {}{} for `{}`", mark, first ? "B" : "A", name),
             name, "the file was saved incompletely");
    }
    for (const std::size_t index : {*first, *second}) {
      check_type(index);
      const std::size_t dims = tensor(index).shape.size();
      if (dims < 2 || (embedding && dims > 2) || tensor(index).elements == 0) {
        refuse(ErrorCode::Corrupt,
               fmt::format("has a factor of shape {}, expected a matrix: `{}`",
                           shape_text(tensor(index).shape), tensor(index).name),
               tensor(index).name,
               "a sharded training run saves empty tensors unless they are gathered first");
      }
    }
    const TensorInfo& a = tensor(*first);
    const TensorInfo& b = tensor(*second);
    if (a.shape[0] != b.shape[1]) {
      refuse(ErrorCode::Corrupt,
             fmt::format("has factors of different rank for `{}`: {}A is {}, {}B is {}", name, mark,
                         shape_text(a.shape), mark, shape_text(b.shape)),
             b.name,
             a.shape.size() > 2 ? "LoRA on a convolution of several groups has no product" : "");
    }
    // On a convolution A has its kernel and B is one pixel wide, so that the update is B A with A
    // read as rank x (channels * kernel).
    if (b.elements != b.shape[0] * b.shape[1]) {
      refuse(ErrorCode::Unsupported,
             fmt::format("has a lora_B of shape {} on a convolution; only kernels of one element "
                         "can be multiplied out: `{}`",
                         shape_text(b.shape), b.name),
             b.name);
    }
    const std::uint64_t rank = a.shape[0];
    adapter_->updates_.push_back({UpdateKind::LowRank, name, "weight", scale_of(name, rank), rank,
                                  *first, *second, embedding});
  }

  void make_bias(const std::string& name, std::size_t second, std::size_t bias) {
    check_type(bias);
    const TensorInfo& b = tensor(second);
    if (tensor(bias).shape != std::vector<std::uint64_t>{b.shape[0]}) {
      refuse(ErrorCode::Corrupt,
             fmt::format("has a bias of shape {} for a lora_B of shape {}: `{}`",
                         shape_text(tensor(bias).shape), shape_text(b.shape), tensor(bias).name),
             tensor(bias).name);
    }
    const double scale = adapter_->updates_.back().scale;  // that of the product it belongs to
    adapter_->updates_.push_back({UpdateKind::Add, name, "bias", scale, 0, bias, 0});
  }

  void make_norm(const std::string& name, const Module& module) {
    const bool low_rank = module.a || module.embedding_a;
    if (module.magnitude ? !config().dora || !low_rank : config().dora && low_rank) {
      refuse(ErrorCode::Corrupt,
             !module.magnitude
                 ? fmt::format("is DoRA, but has no lora_magnitude_vector for `{}`", name)
             : config().dora
                 ? fmt::format("has a lora_magnitude_vector for `{}`, but no factors", name)
                 : fmt::format("has a lora_magnitude_vector for `{}`, but its configuration does "
                               "not say use_dora",
                               name),
             name, "the file and its adapter_config.json do not belong together");
    }
    if (!module.magnitude) return;
    check_type(*module.magnitude);
    add_change(UpdateKind::Normalise, name, "weight",
               dora_magnitudes(*module.magnitude, tensor(*module.magnitude).elements,
                               module.embedding_a.has_value()));
  }

  void make_ia3(const std::string& name, std::size_t index) {
    check_type(index);
    const std::vector<std::uint64_t>& shape = tensor(index).shape;
    const bool outputs = shape.size() == 2 && shape[1] == 1;
    if (!config().ia3 || (!outputs && (shape.size() != 2 || shape[0] != 1))) {
      refuse(ErrorCode::Unsupported,
             config().ia3 ? fmt::format("has IA3 on a layer that is not linear: `{}` has shape {}",
                                        tensor(index).name, shape_text(shape))
                          : fmt::format("holds IA3, but its configuration says LoRA: `{}`",
                                        tensor(index).name),
             tensor(index).name);
    }
    const auto change =
        ia3_scale(index, tensor(index).elements, outputs ? Ia3Side::Outputs : Ia3Side::Inputs);
    add_change(UpdateKind::Map, name, "weight", change);
    if (!outputs) return;
    add_change(UpdateKind::Map, name, "bias", change);
    adapter_->updates_.back().if_present = true;
  }

  void add_change(UpdateKind kind, const std::string& module, const char* parameter,
                  std::shared_ptr<const Change> change) {
    Update update;
    update.kind = kind;
    update.module = module;
    update.parameter = parameter;
    update.change = std::move(change);
    adapter_->updates_.push_back(std::move(update));
  }

  // alpha / rank, or alpha / sqrt(rank): alpha as configured, the rank of the tensors.
  double scale_of(const std::string& name, std::uint64_t rank) {
    if (config().adalora) {
      // PEFT divides by the rank that training began with, whatever was cut away since.
      const double alpha = config().alpha > 0 ? config().alpha : config().initial_rank;
      return alpha / (config().initial_rank + 1e-5);
    }
    if (!ranks_) {
      ranks_.emplace(keys_of(config().rank_pattern),
                     fmt::format("rank_pattern of `{}`", config_path_));
      alphas_.emplace(keys_of(config().alpha_pattern),
                      fmt::format("alpha_pattern of `{}`", config_path_));
    }
    const auto rank_at = ranks_->first_match(name);
    const auto alpha_at = alphas_->first_match(name);
    const std::uint64_t expected = rank_at ? config().rank_pattern[*rank_at].second : config().rank;
    if (expected != rank) {
      differing_ranks_.push_back(fmt::format("{} ({} instead of {})", name, rank, expected));
    }
    const double alpha = alpha_at ? config().alpha_pattern[*alpha_at].second : config().alpha;
    const auto divisor = static_cast<double>(rank);
    return alpha / (config().rslora ? std::sqrt(divisor) : divisor);
  }

  template <typename Value>
  static std::vector<std::string> keys_of(
      const std::vector<std::pair<std::string, Value>>& pattern) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : pattern) keys.push_back(key);
    return keys;
  }

  void check_type(std::size_t index) const {
    if (is_blendable(tensor(index).dtype)) return;
    refuse(ErrorCode::Unsupported,
           fmt::format("holds a tensor of type {}, which cannot be folded: `{}`",
                       to_string(tensor(index).dtype), tensor(index).name),
           tensor(index).name, "save the adapter in a 16-bit or 32-bit floating type");
  }

  void add_warnings() {
    const auto& updates = adapter_->updates_;
    const auto any = [&](UpdateKind kind, std::string_view parameter) {
      return std::any_of(updates.begin(), updates.end(), [&](const Update& update) {
        return update.kind == kind && update.parameter == parameter;
      });
    };
    if (config().bias != "none" && !any(UpdateKind::Replace, "bias")) {
      warn(
          fmt::format("its configuration says bias={}, but the trained biases are missing from "
                      "this adapter",
                      config().bias));
    }
    if (config().lora_bias && !any(UpdateKind::Add, "bias")) {
      warn("its configuration says lora_bias, but no such bias is in the file");
    }
    for (const std::string& saved : config().modules_to_save) {
      // PEFT adds these two for classification, whichever of them the model has.
      if (saved == "classifier" || saved == "score") continue;
      const bool found = std::any_of(updates.begin(), updates.end(), [&](const Update& update) {
        return update.kind == UpdateKind::Replace &&
               update.module.find(saved) != update.module.npos;
      });
      if (!found) {
        warn(fmt::format("modules_to_save names `{}`, but no such tensor is in the file", saved));
      }
    }
    std::vector<std::string> unused;
    if (ranks_) unused = ranks_->unused();
    if (alphas_) {
      for (std::string& key : alphas_->unused()) unused.push_back(std::move(key));
    }
    if (!unused.empty()) {
      warn(fmt::format("keys of rank_pattern or alpha_pattern that decide for no module: {}",
                       list_text(unused, kMostNamed)));
    }
  }

  std::unique_ptr<OpenAdapter> adapter_;
  std::string config_path_;
  std::string weights_path_;
  std::map<std::string, Module> modules_;
  std::size_t copies_ = 0;
  std::optional<PatternList> ranks_;  // made with the first low-rank update
  std::optional<PatternList> alphas_;
  std::vector<std::string> differing_ranks_;
};

}  // namespace

std::unique_ptr<Adapter> open_adapter(Disk& disk, const std::string& path) {
  return Opener(path).open(disk);
}

}  // namespace thorns
