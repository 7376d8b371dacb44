// resolve: which tensor of a model each update of an adapter changes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "adapter/adapter.h"
#include "adapter/foreign.h"
#include "base/text.h"
#include "checkpoint/token_rows.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kMostCandidates = 3;
constexpr const char* kAttentionWeight = "in_proj_weight";  // of torch's MultiheadAttention
// What chooses Mixtral's experts, in transformers since 5.0 and in checkpoints.
constexpr std::string_view kRouter = ".mlp.gate";
constexpr std::string_view kStoredRouter = ".block_sparse_moe.gate";

// What saves, trainers and versions of transformers put before a module's name, or leave out.
constexpr std::array<std::string_view, 8> kPrefixes = {"model.",
                                                       "transformer.",
                                                       "backbone.",
                                                       "base_model.",
                                                       "text_model.",
                                                       "language_model.",
                                                       "model.language_model.",
                                                       "language_model.model."};

// Models whose blocks are made of Conv1D, stored (in, out), and the names of those layers.
constexpr std::array<std::string_view, 5> kConv1dModels = {
    "gpt2", "imagegpt", "decision_transformer", "ctrl", "openai-gpt"};
constexpr std::array<std::string_view, 4> kConv1dLayers = {"c_attn", "c_proj", "c_fc", "q_attn"};

struct Exchange {
  std::string_view from;  // at the front; empty: of every name
  std::string_view to;
};

// The modules of models that see, as transformers calls them since 4.52 and as checkpoints and
// older adapters do: the one in place of the other, in all parts of the model at once. What stands
// in the new place already is named first, so that it stays.
constexpr std::array<Exchange, 4> kToNewQwen = {{{"model.visual.", "model.visual."},
                                                 {"model.language_model.", "model.language_model."},
                                                 {"visual.", "model.visual."},
                                                 {"model.", "model.language_model."}}};
constexpr std::array<Exchange, 2> kToOldQwen = {
    {{"model.visual.", "visual."}, {"model.language_model.", "model."}}};
constexpr std::array<Exchange, 5> kToNewLlava = {
    {{"language_model.model.", "model.language_model."},
     {"language_model.lm_head", "lm_head"},
     {"vision_tower.", "model.vision_tower."},
     {"vision_model.", "model.vision_model."},
     {"multi_modal_projector.", "model.multi_modal_projector."}}};
constexpr std::array<Exchange, 5> kToOldLlava = {
    {{"model.language_model.", "language_model.model."},
     {"lm_head", "language_model.lm_head"},
     {"model.vision_tower.", "vision_tower."},
     {"model.vision_model.", "vision_model."},
     {"model.multi_modal_projector.", "multi_modal_projector."}}};

// GPT-NeoX's head, as transformers calls it since 5.0 and as checkpoints do.
constexpr std::array<Exchange, 1> kToNewNeox = {{{"embed_out", "lm_head"}}};
constexpr std::array<Exchange, 1> kToOldNeox = {{{"lm_head", "embed_out"}}};

// One way to turn the adapter's module names into the model's: of the exchanges the first whose
// `from` a name begins with.
struct Rewriting {
  std::vector<std::pair<std::string, std::string>> exchanges;

  Rewriting() = default;
  Rewriting(std::string from, std::string to) {
    exchanges.emplace_back(std::move(from), std::move(to));
  }
  explicit Rewriting(std::span<const Exchange> table) {
    for (const Exchange& exchange : table) exchanges.emplace_back(exchange.from, exchange.to);
  }

  bool is_identity() const { return exchanges.empty(); }
  std::string apply(const std::string& module) const {
    for (const auto& [from, to] : exchanges) {
      if (module.starts_with(from)) return to + module.substr(from.size());
    }
    return module;
  }
  std::string text() const {
    if (is_identity()) return "names as they are";
    std::vector<std::string> parts;
    for (const auto& [from, to] : exchanges) {
      if (from == to) continue;
      parts.push_back(from.empty() ? fmt::format("`{}` put before the names", to)
                      : to.empty()
                          ? fmt::format("`{}` taken from the names", from)
                          : fmt::format("`{}` in place of `{}` before the names", to, from));
    }
    return fmt::format("{}", fmt::join(parts, ", "));
  }
};

// How checkpoints name the matrices of an expert; the first is that of Update::parts.
struct ExpertNaming {
  std::vector<std::pair<std::string_view, std::string_view>> exchanged;
};
const std::vector<ExpertNaming> kExpertNamings = {
    {},
    {{{".gate_proj.", ".w1."}, {".up_proj.", ".w3."}, {".down_proj.", ".w2."}}},
    {{{".mlp.experts.", ".block_sparse_moe.experts."},
      {".gate_proj.", ".w1."},
      {".up_proj.", ".w3."},
      {".down_proj.", ".w2."}}},
};

struct Attempt {
  Rewriting rewriting;
  std::vector<ResolvedUpdate> resolved;
  std::vector<std::string> missing;    // names as the adapter has them
  std::vector<std::string> misshapen;  // with both shapes
  std::string first;                   // name of the first that failed
  const Update* lost = nullptr;        // the first that found no tensor
  bool works() const { return missing.empty() && misshapen.empty(); }
  std::size_t failures() const { return missing.size() + misshapen.size(); }
};

std::string join_name(const std::string& module, const std::string& parameter) {
  return module.empty() ? parameter : module + "." + parameter;
}

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

class Resolver {
 public:
  Resolver(const Adapter& adapter, const FoldTarget& target) : adapter_(adapter), target_(target) {
    if (!target_.tied_head.empty() && find_stored(target_.tied_head) == nullptr)
      tied_embedding_ = find_embedding();
    if (writes_underscores()) index_underscored();
  }

  std::vector<ResolvedUpdate> run() const {
    Attempt nearest = attempt({});
    if (nearest.works()) return finish(std::move(nearest));
    const Update* const lost = nearest.lost;
    if (auto found = choose(known_prefixes(), nearest)) return finish(std::move(*found));
    if (auto found = choose(exchanged_prefixes(), nearest)) return finish(std::move(*found));
    if (auto found = choose(renamed_parts(), nearest)) return finish(std::move(*found));
    if (auto found = choose(other_prefixes(lost), nearest)) return finish(std::move(*found));
    refuse(nearest);
  }

 private:
  const TensorInfo* find_stored(std::string_view name) const {
    const auto at = std::lower_bound(
        target_.tensors.begin(), target_.tensors.end(), name,
        [](const TensorInfo& info, std::string_view sought) { return info.name < sought; });
    return at != target_.tensors.end() && at->name == name ? &*at : nullptr;
  }

  // ---- names with underscores for dots, which cannot be turned back without the model

  bool writes_underscores() const {
    return std::all_of(adapter_.updates().begin(), adapter_.updates().end(),
                       [](const Update& update) {
                         return update.module.find('.') == update.module.npos &&
                                update.module.find('_') != update.module.npos;
                       });
  }

  static std::string underscored(std::string name) {
    std::replace(name.begin(), name.end(), '.', '_');
    return name;
  }

  // A module's name as the adapter spells names.
  std::string spelled(std::string_view module) const {
    return underscored_.empty() ? std::string(module) : underscored(std::string(module));
  }

  void index_underscored() {
    std::set<std::string> doubtful;
    for (const TensorInfo& info : target_.tensors) {
      const std::string module =
          info.name.substr(0, std::min(info.name.rfind('.'), info.name.size()));
      const auto [at, added] = underscored_.try_emplace(underscored(module), module);
      if (!added && at->second != module) doubtful.insert(at->first);
    }
    for (const std::string& name : doubtful) underscored_.erase(name);
    const std::string_view tag = kohya_tag(adapter_.updates().front().module);
    const bool shared =
        std::all_of(adapter_.updates().begin(), adapter_.updates().end(),
                    [&](const Update& update) { return kohya_tag(update.module) == tag; });
    if (shared) tag_ = tag;
  }

  // The module's name without the tag of the model that all the adapter belongs to.
  std::string untagged(const Update& update) const { return update.module.substr(tag_.size()); }

  // The one embedding that a tied head shares; null where there is none or more than one. T5's
  // `shared` may have copies.
  const TensorInfo* find_embedding() const {
    const TensorInfo* found = nullptr;
    for (const TensorInfo& info : target_.tensors) {
      if (!is_embedding(info.name)) continue;
      if (ends_with_components(info.name, "shared.weight")) return &info;
      if (found != nullptr) return nullptr;
      found = &info;
    }
    return found;
  }

  // The tensor called `name`; for the head of a tied model, the embedding that gives it its shape.
  const TensorInfo* find(std::string_view name) const {
    if (const TensorInfo* stored = find_stored(name)) return stored;
    return name == target_.tied_head ? tied_embedding_ : nullptr;
  }

  // The tensor that `update` changes in `module`, and its name. Multi-head attention calls the
  // weight that it multiplies with in_proj_weight.
  const TensorInfo* find_parameter(const std::string& written, const Update& update,
                                   std::string& name) const {
    const auto dotted = underscored_.find(written);
    const std::string& module = dotted == underscored_.end() ? written : dotted->second;
    name = join_name(module, update.parameter);
    const TensorInfo* tensor = find(name);
    if (tensor == nullptr && module.ends_with(kRouter)) {
      const std::string layer = module.substr(0, module.size() - kRouter.size());
      name = join_name(layer + std::string(kStoredRouter), update.parameter);
      tensor = find(name);
    }
    if (const std::string shared = shared_embedding(module); tensor == nullptr && !shared.empty()) {
      name = join_name(shared, update.parameter);
      tensor = find(name);
    }
    if (tensor != nullptr || update.kind != UpdateKind::LowRank) return tensor;
    name = join_name(module, kAttentionWeight);
    return find(name);
  }

  Attempt attempt(const Rewriting& rewriting) const {
    Attempt attempt;
    attempt.rewriting = rewriting;
    for (const Update& update : adapter_.updates()) {
      const std::string plain = join_name(update.module, update.parameter);
      std::string name;
      const std::string module = untagged(update);
      const TensorInfo* tensor = find_parameter(rewriting.apply(module), update, name);
      // What needs no rewriting keeps its name: an lm_head stands outside the prefixed part.
      if (tensor == nullptr) tensor = find_parameter(module, update, name);
      if (tensor == nullptr && update.if_present) continue;
      if (tensor == nullptr && add_parts(update, rewriting, attempt)) continue;
      if (tensor == nullptr) {
        if (attempt.works()) attempt.first = plain;
        if (attempt.lost == nullptr) attempt.lost = &update;
        attempt.missing.push_back(plain);
        continue;
      }
      add(update, std::move(name), *tensor, attempt);
    }
    return attempt;
  }

  // The first update of a tensor that an adapter has resized is its replacement; the others are
  // made for that.
  void add(const Update& update, std::string name, TensorInfo tensor, Attempt& attempt) const {
    if (has_token_rows(name)) {
      const auto resized =
          std::find_if(attempt.resolved.begin(), attempt.resolved.end(), [&](const auto& other) {
            return other.update->kind == UpdateKind::Replace && other.tensor == name;
          });
      if (resized != attempt.resolved.end()) tensor.shape = resized->base.shape;
      if (update.kind == UpdateKind::Replace) {
        resize(tensor, adapter_.source().tensors()[update.first]);
      }
    }
    ResolvedUpdate resolved{&update, std::move(name), {tensor.shape, false}};
    resolved.base.dtype = tensor.nominal.value_or(tensor.dtype);
    const std::string wrong = judge(update, tensor, resolved.base.transposed);
    if (wrong.empty()) {
      attempt.resolved.push_back(std::move(resolved));
      return;
    }
    if (attempt.works()) attempt.first = resolved.tensor;
    attempt.misshapen.push_back(fmt::format("{} {}", resolved.tensor, wrong));
  }

  // Gives `tensor` the rows of `by`, where that is all in which they differ.
  static void resize(TensorInfo& tensor, const TensorInfo& by) {
    if (tensor.shape.empty() || by.elements == 0 || tensor.shape.size() != by.shape.size() ||
        !std::equal(tensor.shape.begin() + 1, tensor.shape.end(), by.shape.begin() + 1)) {
      return;
    }
    tensor.shape = by.shape;
  }

  // False where the model does not store the update's parts either.
  bool add_parts(const Update& update, const Rewriting& rewriting, Attempt& attempt) const {
    const auto naming = std::find_if(
        kExpertNamings.begin(), kExpertNamings.end(), [&](const ExpertNaming& candidate) {
          return !update.parts.empty() &&
                 find(part_name(update.parts.front(), rewriting, candidate)) != nullptr;
        });
    if (naming == kExpertNamings.end()) return false;
    for (const Update& part : update.parts) {
      std::string name = part_name(part, rewriting, *naming);
      if (const TensorInfo* tensor = find(name)) {
        add(part, std::move(name), *tensor, attempt);
        continue;
      }
      if (attempt.works()) attempt.first = name;
      attempt.missing.push_back(std::move(name));
    }
    return true;
  }

  static std::string part_name(const Update& part, const Rewriting& rewriting,
                               const ExpertNaming& naming) {
    std::string name = join_name(rewriting.apply(part.module), part.parameter);
    for (const auto& [from, to] : naming.exchanged) {
      const std::size_t at = name.rfind(from);
      if (at != name.npos) name.replace(at, from.size(), to);
    }
    return name;
  }

  // Empty if the update fits the tensor, else what is wrong.
  std::string judge(const Update& update, const TensorInfo& tensor, bool& transposed) const {
    if (!is_blendable(tensor.dtype)) return fmt::format("is of type {}", to_string(tensor.dtype));
    if (update.change != nullptr) return judge_change(update, tensor, transposed);
    const TensorInfo& first = adapter_.source().tensors()[update.first];
    if (update.kind != UpdateKind::LowRank) {
      if (tensor.shape == first.shape) return {};
      return fmt::format("is {}, the adapter's is {}", shape_text(tensor.shape),
                         shape_text(first.shape));
    }
    const TensorInfo& second = adapter_.source().tensors()[update.second];
    if (first.shape.size() > 2) return judge_convolution(first, second, tensor);
    const std::vector<std::uint64_t> linear = {second.shape[0], first.shape[1]};  // (out, in)
    const std::vector<std::uint64_t> conv1d = {first.shape[1], second.shape[0]};
    if (update.embedding) {
      transposed = true;
      if (tensor.shape == conv1d) return {};
      return fmt::format("is {}, the adapter's is {}", shape_text(tensor.shape),
                         shape_text(conv1d));
    }
    if (tensor.shape == linear && tensor.shape == conv1d) {
      transposed = is_conv1d(update);
      return {};
    }
    if (tensor.shape == linear) return {};
    if (tensor.shape == conv1d) {
      transposed = true;
      return {};
    }
    return fmt::format("is {}, the adapter's is {}", shape_text(tensor.shape), shape_text(linear));
  }

  std::string judge_change(const Update& update, const TensorInfo& tensor, bool& transposed) const {
    const bool straight = update.change->fits({tensor.shape, false});
    const bool turned = update.change->fits({tensor.shape, true});
    if (!straight && !turned) {
      return fmt::format("is {}, the adapter's is for {}", shape_text(tensor.shape),
                         update.change->expected());
    }
    transposed = turned;
    if (!straight || !turned) return {};
    switch (update.change->orientation(target_.model_type)) {
      case Orientation::AsLinear:
        transposed = is_conv1d(update);
        break;
      case Orientation::Straight:
        transposed = false;
        break;
      case Orientation::Transposed:
        break;
      case Orientation::Unknown:
        return fmt::format(
            "is {}, and nothing says which of its sides are the inputs: the model "
            "has no model_type",
            shape_text(tensor.shape));
    }
    return {};
  }

  // A is (rank, channels, kernel...), B is (out, rank, 1...): W is (out, channels, kernel...).
  static std::string judge_convolution(const TensorInfo& a, const TensorInfo& b,
                                       const TensorInfo& tensor) {
    std::vector<std::uint64_t> expected = a.shape;
    expected[0] = b.shape[0];
    if (tensor.shape == expected) return {};
    return fmt::format("is {}, the adapter's is {}", shape_text(tensor.shape),
                       shape_text(expected));
  }

  // For a square weight, whose shape cannot tell: by the model, then by the adapter's word.
  bool is_conv1d(const Update& update) const {
    const std::size_t dot = update.module.rfind('.');
    const std::string_view module = update.module;
    const bool by_name =
        contains(kConv1dLayers, dot == module.npos ? module : module.substr(dot + 1));
    if (contains(kConv1dModels, target_.model_type)) return by_name;
    // PEFT resets the flag on Linear layers, which is what all other models are made of.
    return adapter_.fan_in_fan_out() && (target_.model_type.empty() || by_name);
  }

  // The one way among `candidates` that works; more with different results are refused. Keeps the
  // best failure in `nearest`.
  std::optional<Attempt> choose(const std::vector<Rewriting>& candidates, Attempt& nearest) const {
    std::vector<Attempt> working;
    for (const Rewriting& rewriting : candidates) {
      Attempt next = attempt(rewriting);
      if (!next.works()) {
        if (next.failures() < nearest.failures()) nearest = std::move(next);
        continue;
      }
      const bool known = std::any_of(working.begin(), working.end(),
                                     [&](const Attempt& other) { return same(other, next); });
      if (!known) working.push_back(std::move(next));
    }
    if (working.empty()) return std::nullopt;
    if (working.size() > 1) refuse_ambiguous(working);
    return std::move(working.front());
  }

  std::vector<Rewriting> known_prefixes() const {
    std::vector<Rewriting> all;
    for (const std::string_view prefix : kPrefixes) {
      all.push_back({spelled(prefix), {}});
      all.push_back({{}, spelled(prefix)});
    }
    return all;
  }

  // One prefix in place of another: `model.` of a text model for `model.language_model.`.
  std::vector<Rewriting> exchanged_prefixes() const {
    std::vector<Rewriting> all;
    for (const std::string_view remove : kPrefixes) {
      for (const std::string_view add : kPrefixes) {
        Rewriting rewriting{spelled(remove), spelled(add)};
        if (remove != add && reaches_all(rewriting)) all.push_back(std::move(rewriting));
      }
    }
    return all;
  }

  static std::vector<Rewriting> renamed_parts() {
    return {Rewriting(kToNewQwen),  Rewriting(kToOldQwen), Rewriting(kToNewLlava),
            Rewriting(kToOldLlava), Rewriting(kToNewNeox), Rewriting(kToOldNeox)};
  }

  // Any other prefix that brings `lost`, a module of the adapter, to one of the model: one that the
  // model puts before the name, or one that the name has and the model leaves out.
  std::vector<Rewriting> other_prefixes(const Update* lost) const {
    std::vector<Rewriting> all;
    if (lost == nullptr) return all;
    const char separator = underscored_.empty() ? '.' : '_';
    const std::string module = untagged(*lost);
    const std::string ending = separator + module;
    const std::string parameter = "." + lost->parameter;
    for (const TensorInfo& info : target_.tensors) {
      if (!info.name.ends_with(parameter)) continue;
      const std::string name = spelled(info.name.substr(0, info.name.size() - parameter.size()));
      if (!name.ends_with(ending)) continue;
      Rewriting rewriting{{}, name.substr(0, name.size() - module.size())};
      if (reaches_all(rewriting)) all.push_back(std::move(rewriting));
    }
    for (std::size_t at = module.find(separator); at != module.npos;
         at = module.find(separator, at + 1)) {
      Rewriting rewriting{module.substr(0, at + 1), {}};
      if (reaches_all(rewriting)) all.push_back(std::move(rewriting));
    }
    return all;
  }

  // A quick look before a whole attempt: does every update find some tensor?
  bool reaches_all(const Rewriting& rewriting) const {
    return std::all_of(adapter_.updates().begin(), adapter_.updates().end(),
                       [&](const Update& update) {
                         std::string name;
                         Attempt parts;
                         const std::string module = untagged(update);
                         return update.if_present ||
                                find_parameter(rewriting.apply(module), update, name) != nullptr ||
                                find_parameter(module, update, name) != nullptr ||
                                add_parts(update, rewriting, parts);
                       });
  }

  static bool same(const Attempt& a, const Attempt& b) {
    return std::equal(a.resolved.begin(), a.resolved.end(), b.resolved.begin(), b.resolved.end(),
                      [](const ResolvedUpdate& x, const ResolvedUpdate& y) {
                        return x.tensor == y.tensor && x.base.transposed == y.base.transposed;
                      });
  }

  // By tensor, then by kind.
  std::vector<ResolvedUpdate> finish(Attempt attempt) const {
    const auto order = [](const ResolvedUpdate& resolved) {
      return std::tuple(std::string_view(resolved.tensor), resolved.update->kind);
    };
    std::vector<ResolvedUpdate>& all = attempt.resolved;
    std::sort(all.begin(), all.end(), [&](const ResolvedUpdate& a, const ResolvedUpdate& b) {
      return order(a) < order(b);
    });
    // An embedding that stands for several modules.
    const auto again =
        std::unique(all.begin(), all.end(), [&](const ResolvedUpdate& a, const ResolvedUpdate& b) {
          return order(a) == order(b) && is_embedding(a.tensor) &&
                 same_update(adapter_.source(), *a.update, *b.update);
        });
    all.erase(again, all.end());
    const auto twice = std::adjacent_find(
        all.begin(), all.end(),
        [&](const ResolvedUpdate& a, const ResolvedUpdate& b) { return order(a) == order(b); });
    if (twice != all.end()) {
      throw Error(ErrorCode::Mismatch,
                  fmt::format("two updates of the adapter `{}` would change the same tensor `{}`: "
                              "those of `{}` and `{}`",
                              adapter_.path(), twice->tensor, twice->update->module,
                              std::next(twice)->update->module),
                  TensorPlace{twice->tensor, std::nullopt, adapter_.path()},
                  shared_embedding(twice->update->module).empty()
                      ? ""
                      : fmt::format("the model has one embedding for both, which cannot hold both "
                                    "changes; leave one out with --key-map, in a file with a line "
                                    "such as  {}: ~",
                                    twice->update->module));
    }
    set_most(all);
    return std::move(all);
  }

  static void set_most(std::vector<ResolvedUpdate>& all) {
    std::uint64_t in = 0;
    std::uint64_t out = 0;
    for (const auto& [update, tensor, base] : all) {
      if (update->kind == UpdateKind::Replace || base.shape.size() < 2) continue;
      in = std::max(in, base.transposed ? base.rows() : base.columns());
      out = std::max(out, base.transposed ? base.columns() : base.rows());
    }
    for (ResolvedUpdate& resolved : all) {
      resolved.base.most_in = in;
      resolved.base.most_out = out;
    }
  }

  // What the adapter was made for, and which modules of the model may be meant.
  std::string hint(const Attempt& nearest) const {
    std::string text = adapter_.base_model().empty()
                           ? "is this the model that the adapter was trained on?"
                           : fmt::format("the adapter was trained on `{}`; is this that model?",
                                         adapter_.base_model());
    if (nearest.lost == nullptr) return text;
    const auto wrapped = std::find_if(
        target_.tensors.begin(), target_.tensors.end(),
        [](const TensorInfo& info) { return info.name.find(".base_layer.") != info.name.npos; });
    if (wrapped != target_.tensors.end()) {
      return fmt::format(
          "the model is a dump of one that PEFT has wrapped (`{}`); save it after "
          "unload() or merge_and_unload()",
          wrapped->name);
    }
    const std::set<std::string> parts = pipeline_parts();
    if (parts.size() > 1) {
      return fmt::format(
          "the adapter belongs to several models ({}); leave out those that are "
          "not this one with --key-map, in a file with lines such as  {}: ~",
          list_text({parts.begin(), parts.end()}), *parts.begin());
    }
    const std::vector<std::string> candidates = candidates_for(*nearest.lost);
    if (candidates.empty()) return text;
    return text + fmt::format(
                      " If it only names its modules in another way (`{}` may be {}), say "
                      "which are meant with --key-map",
                      nearest.lost->module, list_text(candidates, kMostCandidates));
  }

  // The models of a pipeline that the adapter's modules belong to: "lora_te_", "unet".
  std::set<std::string> pipeline_parts() const {
    std::set<std::string> parts;
    for (const Update& update : adapter_.updates()) {
      const std::string_view part = pipeline_part(update.module);
      if (!part.empty()) parts.emplace(part);
    }
    return parts;
  }

  // The modules of the model whose names end like this one's, those that agree most.
  std::vector<std::string> candidates_for(const Update& lost) const {
    std::vector<std::string> nearest;
    std::size_t most = 1;
    for (const TensorInfo& info : target_.tensors) {
      const std::string parameter = "." + lost.parameter;
      if (!info.name.ends_with(parameter)) continue;
      const std::string module = info.name.substr(0, info.name.size() - parameter.size());
      const std::size_t equal = equal_components(spelled(module), lost.module);
      if (equal < most) continue;
      if (equal > most) nearest.clear();
      most = equal;
      nearest.push_back(fmt::format("`{}`", module));
    }
    return nearest;
  }

  // How many components, counted from the end, two names share.
  std::size_t equal_components(std::string_view a, std::string_view b) const {
    const char separator = underscored_.empty() ? '.' : '_';
    std::size_t count = 0;
    for (;;) {
      const std::size_t at_a = a.rfind(separator);
      const std::size_t at_b = b.rfind(separator);
      const auto last = [](std::string_view text, std::size_t at) {
        return at == text.npos ? text : text.substr(at + 1);
      };
      if (last(a, at_a) != last(b, at_b)) return count;
      ++count;
      if (at_a == a.npos || at_b == b.npos) return count;
      a = a.substr(0, at_a);
      b = b.substr(0, at_b);
    }
  }

  [[noreturn]] void refuse(const Attempt& nearest) const {
    const std::size_t all = adapter_.updates().size();
    std::vector<std::string> parts;
    if (!nearest.missing.empty()) {
      parts.push_back(fmt::format("{} of its {} updates find no tensor ({})",
                                  nearest.missing.size(), all,
                                  list_text(nearest.missing, nearest.missing.size())));
    }
    if (!nearest.misshapen.empty()) {
      parts.push_back(fmt::format("{} of its {} updates find one that does not fit ({})",
                                  nearest.misshapen.size(), all,
                                  list_text(nearest.misshapen, nearest.misshapen.size())));
    }
    std::string how;
    if (!nearest.rewriting.is_identity()) {
      how = fmt::format(" (nearest with {})", nearest.rewriting.text());
    }
    throw Error(ErrorCode::Mismatch,
                fmt::format("the adapter `{}` does not fit the model{}: {}", adapter_.path(), how,
                            fmt::format("{}", fmt::join(parts, "; "))),
                TensorPlace{nearest.first, std::nullopt, adapter_.path()}, hint(nearest));
  }

  [[noreturn]] void refuse_ambiguous(const std::vector<Attempt>& working) const {
    std::vector<std::string> ways;
    for (const Attempt& attempt : working) {
      ways.push_back(
          fmt::format("{} (as in {})", attempt.rewriting.text(), attempt.resolved.front().tensor));
    }
    throw Error(ErrorCode::Mismatch,
                fmt::format("the adapter `{}` fits the model in {} ways: {}", adapter_.path(),
                            working.size(), list_text(ways)),
                TensorPlace{working.front().resolved.front().tensor, std::nullopt, adapter_.path()},
                "say which is meant with --key-map, in a file with a line such as  " +
                    map_line(working.front().resolved.front()));
  }

  // `layers: model.layers`, without what the names of the two modules have in common behind that.
  static std::string map_line(const ResolvedUpdate& resolved) {
    const std::string& from = resolved.update->module;
    const std::string to = resolved.tensor.substr(0, resolved.tensor.rfind('.'));
    std::size_t common = 0;
    while (common < std::min(from.size(), to.size()) &&
           from[from.size() - 1 - common] == to[to.size() - 1 - common]) {
      ++common;
    }
    const std::size_t dot = from.find('.', from.size() - common);
    const std::size_t kept = dot == from.npos ? 0 : from.size() - dot;
    return fmt::format("{}: {}", from.substr(0, from.size() - kept),
                       to.substr(0, to.size() - kept));
  }

  const Adapter& adapter_;
  const FoldTarget& target_;
  const TensorInfo* tied_embedding_ = nullptr;
  std::string_view tag_;  // that all modules have, of a file by Kohya's trainer
  std::map<std::string, std::string> underscored_;  // where the adapter writes so: -> the module
};

}  // namespace

std::vector<ResolvedUpdate> resolve(const Adapter& adapter, const FoldTarget& target) {
  return Resolver(adapter, target).run();
}

}  // namespace thorns
