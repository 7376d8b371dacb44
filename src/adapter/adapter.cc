#include "adapter/adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "adapter/adapter_config.h"
#include "adapter/adapter_view.h"
#include "adapter/contents.h"
#include "adapter/family.h"
#include "adapter/keys.h"
#include "adapter/replication.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

class OpenAdapter final : public Adapter {
 public:
  const std::string& path() const override { return path_; }
  const std::string& family() const override { return family_; }
  const std::string& base_model() const override { return base_model_; }
  const std::vector<Update>& updates() const override { return updates_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::vector<InputFile>& files() const override { return files_; }
  const TensorSource& source() const override { return *source_; }
  bool fan_in_fan_out() const override { return fan_in_fan_out_; }
  const std::vector<LayerRange>& layer_replication() const { return layer_replication_; }
  bool rotates_neighbours() const override { return rotates_neighbours_; }

 private:
  friend class Opener;
  std::string path_;
  std::string family_;
  std::string base_model_;
  bool fan_in_fan_out_ = false;
  std::vector<LayerRange> layer_replication_;
  bool rotates_neighbours_ = false;
  std::vector<Update> updates_;
  std::vector<std::string> warnings_;
  std::vector<InputFile> files_;
  std::unique_ptr<TensorSource> source_;
};

// Builds an OpenAdapter step by step.
class Opener {
 public:
  explicit Opener(const std::string& path) : adapter_(std::make_unique<OpenAdapter>()) {
    adapter_->path_ = path;
    opening_.path = path;
  }

  std::unique_ptr<Adapter> open(Disk& disk) {
    AdapterContents contents = read_contents(disk, adapter_->path_);
    config_ = read_adapter_config(contents.config, contents.config_path);
    opening_.weights_path = std::move(contents.weights_path);
    opening_.config = &config_.fields;
    opening_.source = std::move(contents.source);
    opening_.warnings = std::move(contents.warnings);
    adapter_->files_ = std::move(contents.files);
    adapter_->rotates_neighbours_ = contents.rotates_neighbours;
    sort_tensors();
    make_updates();
    add_warnings();
    adapter_->family_ = config_.name;
    adapter_->base_model_ = config_.base_model;
    adapter_->fan_in_fan_out_ = config_.fan_in_fan_out;
    adapter_->layer_replication_ = config_.layer_replication;
    adapter_->updates_ = std::move(opening_.updates);
    adapter_->warnings_ = std::move(opening_.warnings);
    adapter_->source_ = std::move(opening_.source);
    return std::move(adapter_);
  }

 private:
  // The tensors of one module; indices into the source.
  struct Module {
    NamedTensors own;                             // of the family
    std::string known_as;                         // to the patterns for own
    std::map<std::string, std::size_t> replaced;  // by parameter
    bool weight_below = false;                    // replaced's weight is what own lies on
  };

  const AdapterFamily& family() const { return *config_.family; }
  std::span<const TensorInfo> tensors() const { return opening_.source->tensors(); }
  const TensorInfo& tensor(std::size_t index) const { return tensors()[index]; }
  void warn(std::string message) { opening_.warnings.push_back(std::move(message)); }

  [[noreturn]] void refuse_twice(std::size_t one, std::size_t other) const {
    opening_.refuse(ErrorCode::Corrupt,
                    fmt::format("holds the same tensor under two names, `{}` and `{}`",
                                tensor(one).name, tensor(other).name),
                    tensor(other).name);
  }

  // Gives every tensor of the file a place in modules_, or refuses the adapter.
  void sort_tensors() {
    if (tensors().empty()) {
      opening_.refuse(ErrorCode::Corrupt, "holds no tensors", {},
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
      opening_.refuse(ErrorCode::Unsupported,
                      fmt::format("holds {}, which cannot be folded: {}", kind, list_text(names)),
                      names.front());
    }
    if (infixes.size() > 1) {
      opening_.refuse(ErrorCode::Unsupported,
                      fmt::format("holds several adapters in one file: {}",
                                  list_text({infixes.begin(), infixes.end()})),
                      {}, "save the one that is meant alone");
    }
    if (copies_ > 0) {
      warn(fmt::format("{} untouched copies of base weights (original_module) are passed over",
                       copies_));
    }
  }

  // What belongs to another family is foreign.
  void check_family(AdapterKey& key) const {
    if (key.role != AdapterKey::Role::Family) return;
    const std::size_t nested = key.tensor.rfind(kNested);
    const std::string plain =
        nested == key.tensor.npos ? key.tensor : key.tensor.substr(nested + kNested.size());
    if (family().knows(plain)) return;
    key.role = AdapterKey::Role::Foreign;
    key.foreign =
        fmt::format("{} in an adapter of type {}", family_of_tensor(plain)->name, config_.name);
  }

  void place(const AdapterKey& key, std::size_t index) {
    switch (key.role) {
      case AdapterKey::Role::Family: {
        if (!key.module.empty()) modules_[key.module].known_as = key.known_as;
        NamedTensors& own = key.module.empty() ? opening_.shared : modules_[key.module].own;
        const auto [slot, added] = own.try_emplace(key.tensor, index);
        if (!added) refuse_twice(slot->second, index);
        return;
      }
      case AdapterKey::Role::Tensor: {
        Module& module = modules_[key.module];
        module.weight_below |= key.wrapped && key.parameter == "weight";
        const auto [slot, added] = module.replaced.try_emplace(key.parameter, index);
        // PEFT saves the biases of modules_to_save twice where it saves all biases.
        if (!added && !opening_.source->same_elements(slot->second, index)) {
          refuse_twice(slot->second, index);
        }
        return;
      }
      case AdapterKey::Role::Copy:
        ++copies_;
        return;
      case AdapterKey::Role::Training:
      case AdapterKey::Role::Foreign:
        return;
    }
  }

  void make_updates() {
    for (const auto& [name, module] : modules_) {
      for (const auto& [parameter, index] : module.replaced) {
        opening_.check_floating(index);
        Update update{UpdateKind::Replace, name, parameter, 1.0, 0, index, 0};
        update.saved_module = is_saved(name);
        update.below = module.weight_below && parameter == "weight" && !update.saved_module;
        opening_.updates.push_back(std::move(update));
      }
      if (module.own.empty()) continue;
      FamilyModule own(opening_, name, module.known_as, module.own);
      family().fold(own);
      own.check_all_used();
    }
    if (opening_.updates.empty()) opening_.refuse(ErrorCode::Corrupt, "changes nothing");
    const std::vector<std::string>& ranks = opening_.differing_ranks;
    if (ranks.empty()) return;
    warn(
        fmt::format("the rank of {} modules is not the one its configuration gives; the tensors' "
                    "own rank is used: {}",
                    ranks.size(), list_text(ranks)));
  }

  // PEFT compares the ends of names, dot or no dot.
  bool is_saved(std::string_view module) const {
    const std::vector<std::string>& saved = config_.modules_to_save;
    return std::any_of(saved.begin(), saved.end(),
                       [&](const std::string& name) { return module.ends_with(name); });
  }

  void add_warnings() {
    const auto& updates = opening_.updates;
    const auto any = [&](UpdateKind kind, std::string_view parameter) {
      return std::any_of(updates.begin(), updates.end(), [&](const Update& update) {
        return update.kind == kind && update.parameter == parameter;
      });
    };
    if (config_.bias != "none" && !any(UpdateKind::Replace, "bias")) {
      warn(
          fmt::format("its configuration says bias={}, but the trained biases are missing from "
                      "this adapter",
                      config_.bias));
    }
    if (config_.fields.is_set("lora_bias") && !any(UpdateKind::Add, "bias")) {
      warn("its configuration says lora_bias, but no such bias is in the file");
    }
    if (config_.fields.is_set("trainable_token_indices") && !any(UpdateKind::Generate, "weight")) {
      warn("its configuration names trainable tokens, but no rows of such are in the file");
    }
    for (const std::string& saved : config_.modules_to_save) {
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
    if (opening_.ranks) unused = opening_.ranks->unused();
    if (opening_.alphas) {
      for (std::string& key : opening_.alphas->unused()) unused.push_back(std::move(key));
    }
    if (!unused.empty()) {
      warn(fmt::format("keys of rank_pattern or alpha_pattern that decide for no module: {}",
                       list_text(unused)));
    }
  }

  std::unique_ptr<OpenAdapter> adapter_;
  AdapterConfig config_;
  OpeningAdapter opening_;
  std::map<std::string, Module> modules_;
  std::size_t copies_ = 0;
};

}  // namespace

std::vector<LayerRange> layer_replication(const Adapter& adapter) {
  if (const auto* const view = dynamic_cast<const AdapterView*>(&adapter)) {
    return layer_replication(view->inner());
  }
  const auto* const opened = dynamic_cast<const OpenAdapter*>(&adapter);
  return opened == nullptr ? std::vector<LayerRange>{} : opened->layer_replication();
}

std::unique_ptr<Adapter> open_adapter(Disk& disk, const std::string& path) {
  return Opener(path).open(disk);
}

}  // namespace thorns
