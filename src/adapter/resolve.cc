// resolve: which tensor of a model each update of an adapter changes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <tuple>

#include "adapter/adapter.h"
#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kMostNamed = 12;  // names spelled out in a message
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kAttentionWeight = "in_proj_weight";  // of torch's MultiheadAttention

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

constexpr std::array<std::string_view, 3> kEmbeddings = {"embed_tokens.weight", "wte.weight",
                                                         "word_embeddings.weight"};

// What has a row for every token of the vocabulary, which an adapter may have changed.
constexpr std::array<std::string_view, 4> kTokenRows = {"embed_in.weight", "embed_out.weight",
                                                        "lm_head.bias", kHead};

// One way to turn the adapter's module names into the model's.
struct Rewriting {
  std::string remove;  // at the front, from names that begin with it
  std::string add;     // at the front

  bool is_identity() const { return remove.empty() && add.empty(); }
  std::string apply(const std::string& module) const {
    std::string_view rest = module;
    if (!remove.empty()) {
      if (!rest.starts_with(remove)) return module;
      rest.remove_prefix(remove.size());
    }
    return add + std::string(rest);
  }
  std::string text() const {
    if (is_identity()) return "names as they are";
    if (!remove.empty() && !add.empty())
      return fmt::format("`{}` in place of `{}` before the names", add, remove);
    return remove.empty() ? fmt::format("`{}` put before the names", add)
                          : fmt::format("`{}` taken from the names", remove);
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
  bool works() const { return missing.empty() && misshapen.empty(); }
  std::size_t failures() const { return missing.size() + misshapen.size(); }
};

std::string join_name(const std::string& module, const std::string& parameter) {
  return module.empty() ? parameter : module + "." + parameter;
}

// True where `name` is `ending` or ends with it behind a dot.
bool ends_with_components(std::string_view name, std::string_view ending) {
  return name.ends_with(ending) &&
         (name.size() == ending.size() || name[name.size() - ending.size() - 1] == '.');
}

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

class Resolver {
 public:
  Resolver(const Adapter& adapter, const FoldTarget& target) : adapter_(adapter), target_(target) {
    if (target_.tied_head && find_stored(kHead) == nullptr) tied_embedding_ = find_embedding();
  }

  std::vector<ResolvedUpdate> run() const {
    Attempt nearest = attempt({});
    if (nearest.works()) return finish(std::move(nearest));
    const std::string lost = nearest.missing.empty() ? std::string() : nearest.missing.front();
    if (auto found = choose(known_prefixes(), nearest)) return finish(std::move(*found));
    if (auto found = choose(exchanged_prefixes(), nearest)) return finish(std::move(*found));
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

  // The one embedding that a tied head shares; null where there is none or more than one.
  const TensorInfo* find_embedding() const {
    const TensorInfo* found = nullptr;
    for (const TensorInfo& info : target_.tensors) {
      const bool fits = std::any_of(
          kEmbeddings.begin(), kEmbeddings.end(),
          [&](std::string_view ending) { return ends_with_components(info.name, ending); });
      if (!fits) continue;
      if (found != nullptr) return nullptr;
      found = &info;
    }
    return found;
  }

  // The tensor called `name`; for the head of a tied model, the embedding that gives it its shape.
  const TensorInfo* find(std::string_view name) const {
    if (const TensorInfo* stored = find_stored(name)) return stored;
    return name == kHead ? tied_embedding_ : nullptr;
  }

  // The tensor that `update` changes in `module`, and its name. Multi-head attention calls the
  // weight that it multiplies with in_proj_weight.
  const TensorInfo* find_parameter(const std::string& module, const Update& update,
                                   std::string& name) const {
    name = join_name(module, update.parameter);
    const TensorInfo* tensor = find(name);
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
      const TensorInfo* tensor = find_parameter(rewriting.apply(update.module), update, name);
      // What needs no rewriting keeps its name: an lm_head stands outside the prefixed part.
      if (tensor == nullptr) tensor = find_parameter(update.module, update, name);
      if (tensor == nullptr && update.if_present) continue;
      if (tensor == nullptr && add_parts(update, rewriting, attempt)) continue;
      if (tensor == nullptr) {
        if (attempt.works()) attempt.first = plain;
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
    const std::string wrong = judge(update, tensor, resolved.base.transposed);
    if (wrong.empty()) {
      attempt.resolved.push_back(std::move(resolved));
      return;
    }
    if (attempt.works()) attempt.first = resolved.tensor;
    attempt.misshapen.push_back(fmt::format("{} {}", resolved.tensor, wrong));
  }

  static bool has_token_rows(std::string_view name) {
    const auto is = [&](std::string_view ending) { return ends_with_components(name, ending); };
    return std::any_of(kEmbeddings.begin(), kEmbeddings.end(), is) ||
           std::any_of(kTokenRows.begin(), kTokenRows.end(), is);
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

  static std::vector<Rewriting> known_prefixes() {
    std::vector<Rewriting> all;
    for (const std::string_view prefix : kPrefixes) {
      all.push_back({std::string(prefix), {}});
      all.push_back({{}, std::string(prefix)});
    }
    return all;
  }

  // One prefix in place of another: `model.` of a text model for `model.language_model.`.
  std::vector<Rewriting> exchanged_prefixes() const {
    std::vector<Rewriting> all;
    for (const std::string_view remove : kPrefixes) {
      for (const std::string_view add : kPrefixes) {
        Rewriting rewriting{std::string(remove), std::string(add)};
        if (remove != add && reaches_all(rewriting)) all.push_back(std::move(rewriting));
      }
    }
    return all;
  }

  // Any other prefix that brings `lost`, a name of the adapter, to a tensor: one that the model
  // puts before the name, or one that the name has and the model leaves out.
  std::vector<Rewriting> other_prefixes(const std::string& lost) const {
    std::vector<Rewriting> all;
    if (lost.empty()) return all;
    for (const TensorInfo& info : target_.tensors) {
      if (info.name.size() == lost.size() || !ends_with_components(info.name, lost)) continue;
      Rewriting rewriting{{}, info.name.substr(0, info.name.size() - lost.size())};
      if (reaches_all(rewriting)) all.push_back(std::move(rewriting));
    }
    for (std::size_t dot = lost.find('.'); dot != lost.npos; dot = lost.find('.', dot + 1)) {
      Rewriting rewriting{lost.substr(0, dot + 1), {}};
      if (reaches_all(rewriting)) all.push_back(std::move(rewriting));
    }
    return all;
  }

  // A quick look before a whole attempt: does every update find some tensor?
  bool reaches_all(const Rewriting& rewriting) const {
    return std::all_of(
        adapter_.updates().begin(), adapter_.updates().end(), [&](const Update& update) {
          std::string name;
          Attempt parts;
          return update.if_present ||
                 find_parameter(rewriting.apply(update.module), update, name) != nullptr ||
                 find_parameter(update.module, update, name) != nullptr ||
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
    const auto twice = std::adjacent_find(
        all.begin(), all.end(),
        [&](const ResolvedUpdate& a, const ResolvedUpdate& b) { return order(a) == order(b); });
    if (twice != all.end()) {
      throw Error(ErrorCode::Mismatch,
                  fmt::format("two updates of the adapter `{}` would change the same tensor `{}`: "
                              "those of `{}` and `{}`",
                              adapter_.path(), twice->tensor, twice->update->module,
                              std::next(twice)->update->module),
                  TensorPlace{twice->tensor, std::nullopt, adapter_.path()});
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

  std::string base_hint() const {
    if (adapter_.base_model().empty()) return "is this the model that the adapter was trained on?";
    return fmt::format("the adapter was trained on `{}`; is this that model?",
                       adapter_.base_model());
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
                TensorPlace{nearest.first, std::nullopt, adapter_.path()}, base_hint());
  }

  [[noreturn]] void refuse_ambiguous(const std::vector<Attempt>& working) const {
    std::vector<std::string> ways;
    for (const Attempt& attempt : working) {
      ways.push_back(
          fmt::format("{} (as in {})", attempt.rewriting.text(), attempt.resolved.front().tensor));
    }
    throw Error(ErrorCode::Mismatch,
                fmt::format("the adapter `{}` fits the model in {} ways: {}", adapter_.path(),
                            working.size(), list_text(ways, kMostNamed)),
                TensorPlace{working.front().resolved.front().tensor, std::nullopt, adapter_.path()},
                "rename the adapter's tensors so that they name the model's modules in full");
  }

  const Adapter& adapter_;
  const FoldTarget& target_;
  const TensorInfo* tied_embedding_ = nullptr;
};

}  // namespace

std::vector<ResolvedUpdate> resolve(const Adapter& adapter, const FoldTarget& target) {
  return Resolver(adapter, target).run();
}

}  // namespace thorns
