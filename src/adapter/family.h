// What a family of adapters is (LoRA, LoHa, IA3, ...), and the catalogue of all of them. Private to
// this room.
//
// One file per family, which registers itself. To add one, write that file: say by which names the
// family's tensors are known, and turn those of one module into updates. What all families have in
// common is done before: prefixes and the adapter's own name are gone from the keys, saved modules
// and biases are replaced, tensors of another family refused. adalora.cc and ia3.cc are the
// shortest examples; change.h says what an update can be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/config_fields.h"
#include "adapter/patterns.h"
#include "thorns/error.h"

namespace thorns {

class FamilyModule;

constexpr std::uint64_t kDefaultRank = 8;  // of PEFT's configurations
constexpr double kDefaultAlpha = 8;

struct AdapterFamily {
  std::string type;       // peft_type, in capitals: "LOHA"
  std::string name;       // as people write it: "LoHa"
  std::string reference;  // paper, year
  std::string update;     // what becomes of a weight W (out x in), for the documentation
  std::string layers;     // the layers whose weights can be changed, likewise
  // Its tensors: what follows the module's name in a key, without `.weight` and the adapter's own
  // name: "hada_w1_a", "lora_B.bias".
  std::vector<std::string> tensors;
  // Tensors of another family that this one has, too: LoRA's factors in AdaLoRA.
  std::vector<std::string> borrowed = {};
  // Tensors that all modules share; they stand at the top of the file, without a module.
  std::vector<std::string> shared = {};
  // Adds the updates of one module by FamilyModule::add, or refuses it.
  void (*fold)(FamilyModule& module) = nullptr;
  // What the configuration can make of it, under a name of its own: rsLoRA, DoRA.
  struct Variant {
    std::string name;
    std::string reference;
    std::string update;
    bool (*is)(const ConfigFields& config) = nullptr;  // the first that says yes
  };
  std::vector<Variant> variants = {};

  bool knows(std::string_view tensor) const;                      // its own, borrowed or shared
  const std::string& name_for(const ConfigFields& config) const;  // that of the variant
};

// All families, by type. They live for the whole program.
const std::vector<AdapterFamily>& family_catalogue();
const AdapterFamily* find_family(std::string_view type);
// The family whose own or shared tensor this is; null where none has one of this name.
const AdapterFamily* family_of_tensor(std::string_view tensor);

// Registers a family at program start, at namespace scope: `const RegisterFamily
// registered({...});`
class RegisterFamily {
 public:
  explicit RegisterFamily(AdapterFamily family);
};

// Tensors by the names that AdapterFamily gives them, as indices in the adapter's source.
using NamedTensors = std::map<std::string, std::size_t, std::less<>>;

// An adapter that is being opened; modules add to it.
struct OpeningAdapter {
  std::string path;
  std::string weights_path;
  const ConfigFields* config = nullptr;
  std::unique_ptr<TensorSource> source;
  NamedTensors shared;
  std::vector<Update> updates;
  std::vector<std::string> warnings;
  // `rank_pattern` and `alpha_pattern`; made when the first module asks for them.
  std::optional<PatternMap<std::uint64_t>> ranks;
  std::optional<PatternMap<double>> alphas;
  std::vector<std::string> differing_ranks;

  // Throws: the adapter, what, and the tensor or (without one) the file as the place.
  [[noreturn]] void refuse(ErrorCode code, const std::string& what, const std::string& tensor = {},
                           const std::string& hint = {}) const;
  // Refuses a tensor whose type is no floating point.
  void check_floating(std::size_t tensor) const;
  [[noreturn]] void refuse_type(std::size_t tensor) const;
};

// What a family sees of one module of the model: its tensors, the configuration, and where its
// updates go. A tensor that is never asked for is an error after fold().
class FamilyModule {
 public:
  // `known_as`: to the configuration's patterns (keys.h).
  FamilyModule(OpeningAdapter& adapter, const std::string& name, const std::string& known_as,
               const NamedTensors& tensors)
      : adapter_(adapter), name_(name), known_as_(known_as), tensors_(tensors) {}

  const std::string& name() const { return name_; }  // "model.layers.0.self_attn.q_proj"
  const ConfigFields& config() const { return *adapter_.config; }

  bool has(std::string_view tensor) const { return tensors_.contains(tensor); }
  // The tensor of that name. Corrupt where there is none, Unsupported where it holds no floats.
  std::size_t need(std::string_view tensor);
  bool has_shared(std::string_view tensor) const {
    return adapter_.shared.contains(tensor) || has(tensor);
  }
  // The same for one that all modules share; a copy of it in the module stands in for it.
  // Unsupported where there is neither.
  std::size_t need_shared(std::string_view tensor);
  // The same as need() for indices (numbers.h), whatever type they are stored in.
  std::size_t need_indices(std::string_view tensor);
  const TensorInfo& info(std::size_t tensor) const { return adapter_.source->tensors()[tensor]; }
  const std::vector<std::uint64_t>& shape(std::size_t tensor) const { return info(tensor).shape; }
  // A matrix that is not empty, or Corrupt.
  void check_matrix(std::size_t tensor) const;
  // The tensors `mark`A (rank x in, or on a convolution rank x channels x kernel) and `mark`B (out
  // x rank), or Corrupt where they have no product. `matrices`: convolutions are refused.
  struct Factors {
    std::size_t a;
    std::size_t b;
  };
  Factors need_factors(const std::string& mark, bool matrices);

  // What the configuration says for this module: the first key of `rank_pattern` (`alpha_pattern`)
  // that matches, else `r` (`field`). The rank of the tensors goes before that of the
  // configuration; where they differ the adapter gets a warning.
  // `parameter`: of the module, where the patterns name that.
  std::uint64_t rank(std::optional<std::uint64_t> of_tensors = std::nullopt,
                     const std::string& parameter = {});
  double alpha(const char* field, const std::string& parameter = {});

  // `update` as it is, but for its module, which is this one, and the rank and alpha that were
  // asked for last, where it has none.
  void add(Update update);
  // A change of the weight.
  void add(UpdateKind kind, std::shared_ptr<const Change> change, double scale = 1.0);

  // Said once for the adapter, however many modules say it.
  void warn(const std::string& message);

  // Throws: "the adapter `path` ..."; the place is the tensor, or the module.
  [[noreturn]] void refuse(ErrorCode code, const std::string& what,
                           const std::string& hint = {}) const;
  [[noreturn]] void refuse(ErrorCode code, const std::string& what, std::size_t tensor,
                           const std::string& hint = {}) const;

  // Refuses what fold() left untouched.
  void check_all_used() const;

 private:
  std::size_t take(std::string_view tensor);
  std::string pattern_name(const std::string& parameter) const;

  OpeningAdapter& adapter_;
  const std::string& name_;
  const std::string& known_as_;
  const NamedTensors& tensors_;
  std::set<std::string, std::less<>> used_;
  std::uint64_t rank_ = 0;
  std::optional<double> alpha_;
};

}  // namespace thorns
