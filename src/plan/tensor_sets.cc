#include "plan/tensor_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "method/method.h"

namespace thorns {
namespace {

constexpr std::size_t kMostTensorsNamed = 4;  // tensors spelled out in a line

// Modules that some models have inside their body and that the body works without. Outside of it
// every module is of this kind.
constexpr std::array<std::string_view, 12> kParts = {
    "vision_tower",  "vision_model", "visual",
    "mm_projector",  "embed_vision", "multi_modal_projector",
    "image_newline", "audio_tower",  "v_head",
    "score",         "pooler",       "mtp"};

// "model." of "model.embed_tokens.weight"; nullopt where there is no embedding.
std::optional<std::string> body_prefix(const LeafView& view) {
  const auto embedding = find_embedding(view);
  if (!embedding) return std::nullopt;
  const std::size_t end = embedding->rfind('.', embedding->rfind('.') - 1);
  return end == std::string::npos ? std::string() : embedding->substr(0, end + 1);
}

// The leaf whose spelling the output has.
std::size_t speller(const std::vector<LeafView>& views) {
  for (std::size_t i = 0; i < views.size(); ++i) {
    const auto prefix = body_prefix(views[i]);
    if (prefix && !prefix->empty()) return i;
  }
  return 0;
}

// What has to stand in front of a name in place of what stands there.
struct Respelling {
  std::string_view from;
  std::string_view to;
};

// "language_model.model." and "model." differ in "language_model.".
Respelling respelling(std::string_view from, std::string_view to) {
  while (!from.empty() && !to.empty()) {
    const auto last = [](std::string_view prefix) {
      return prefix.substr(prefix.rfind('.', prefix.size() - 2) + 1);  // npos + 1 is 0
    };
    if (last(from) != last(to)) break;
    const std::size_t length = last(from).size();
    from.remove_suffix(length);
    to.remove_suffix(length);
  }
  return {from, to};
}

void rename(LeafView& view, const LeafView& like, const Respelling& spelling) {
  const auto renamed = [&](const std::string& name) {
    const bool stays = like.by_name.contains(name) || !name.starts_with(spelling.from) ||
                       (spelling.from.empty() && is_output_head(name));
    if (stays) return name;
    return fmt::format("{}{}", spelling.to, name.substr(spelling.from.size()));
  };
  std::map<std::string, std::size_t> by_name;
  for (const auto& [name, index] : view.by_name) {
    if (!by_name.emplace(renamed(name), index).second) return;  // two would have one name
  }
  view.by_name = std::move(by_name);
  for (TensorInfo& tensor : view.tensors) tensor.name = renamed(tensor.name);
  std::sort(view.tensors.begin(), view.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  if (view.embedding) view.embedding = renamed(*view.embedding);
}

// ---------------------------------------------------------------- tensors of some leaves

// Whether the class of the first leaf's config.json may have a head for the next token.
bool may_have_head(const std::string& architecture) {
  if (architecture.find("For") == std::string::npos) return true;  // the body alone, or unknown
  return architecture.find("ForCausalLM") != std::string::npos ||
         architecture.find("ForConditionalGeneration") != std::string::npos;
}

// "attention_bias": true
template <class Field>
bool says_of_bias(const Field& field) {
  return field.value().is_boolean() && field.value().template get<bool>() &&
         field.key().find("bias") != std::string::npos;
}

bool is_zero(const TensorSource& source, std::size_t tensor) {
  const TensorInfo& info = source.tensors()[tensor];
  constexpr std::uint64_t kMostElements = 1 << 18;  // a bias is a short vector
  if (!is_blendable(info.dtype) || info.elements > kMostElements) return false;
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.bytes()));
  source.read(tensor, 0, bytes);
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

class Settler {
 public:
  Settler(const Recipe& recipe, std::vector<LeafView>& views, std::vector<Dropped>& dropped)
      : recipe_(recipe), views_(views), dropped_(dropped) {
    prefix_ = body_prefix(views[speller(views)]).value_or("");
    for (const LeafView& view : views) {
      for (const auto& [name, index] : view.by_name) set_.names.emplace(name, std::nullopt);
    }
  }

  TensorSet run(std::vector<std::string>& warnings, std::vector<Error>& problems) {
    for (auto at = set_.names.begin(); at != set_.names.end();) {
      const std::string name = at->first;
      const bool some = std::any_of(views_.begin(), views_.end(), [&](const LeafView& view) {
        return !view.by_name.contains(name);
      });
      at = !some || settle(name, at->second) ? std::next(at) : set_.names.erase(at);
    }
    for (std::size_t i = 0; i < views_.size(); ++i) {
      say(i, zero_[i], "that others have: a bias that is not there counts as zeros", warnings);
      say(i, apart_[i], "that others have, and no part in them: the others are merged alone",
          warnings);
      if (i > 0) refuse(i, problems);
    }
    set_config(warnings);
    return std::move(set_);
  }

 private:
  bool lacks(std::size_t view, const std::string& name) const {
    return !views_[view].by_name.contains(name);
  }

  // False where the output does without the tensor.
  bool settle(const std::string& name, std::optional<Absent>& absent) {
    if (const std::string reason = why_superfluous(name); !reason.empty()) {
      drop(name, reason);
      return false;
    }
    if (is_absent_bias(name)) {
      absent = Absent::Zero;
      note(name, zero_);
      return true;
    }
    const bool head = is_output_head(name);
    if (head && may_have_head(views_[0].source->architecture())) {
      absent = Absent::Apart;
      note(name, apart_);
      return true;
    }
    const auto part = head ? name : part_of(name);
    if (!part || !is_whole(*part)) {
      refused_.insert(name);
      return true;
    }
    if (!lacks(0, name)) {
      absent = Absent::Apart;
      note(name, apart_);
      return true;
    }
    drop(name, fmt::format("of a part that `{}`, the first model, does not have",
                           recipe_.leaves[0].name));
    return false;
  }

  // Why the output needs no tensor of this name, which not every leaf has; empty where it does.
  std::string why_superfluous(const std::string& name) {
    if (is_absent_bias(name)) {
      if (!is_claimed_bias(name) && are_zeros(name))
        return "a bias of zeros that others do without";
    } else if (may_be_tied(name)) {
      if (const auto twin = twin_of(name))
        return fmt::format("tied to `{}` and equal to it", *twin);
    }
    return {};
  }

  // Whether the first leaf has the bias and its config.json says so.
  bool is_claimed_bias(const std::string& name) const {
    const Json& config = views_[0].source->config();
    if (lacks(0, name) || !config.is_object()) return false;
    const auto fields = config.items();
    return std::any_of(fields.begin(), fields.end(),
                       [](const auto& field) { return says_of_bias(field); });
  }

  // Whether the first leaf's class computes with another tensor in this one's place.
  bool may_be_tied(const std::string& name) const {
    return views_[0].source->ties_embeddings() || name.ends_with("embed_tokens.weight");
  }

  bool are_zeros(const std::string& name) const {
    return std::all_of(views_.begin(), views_.end(), [&](const LeafView& view) {
      const auto at = view.by_name.find(name);
      return at == view.by_name.end() || is_zero(*view.source, at->second);
    });
  }

  // A tensor that every leaf has, equal to `name` in each that has both.
  std::optional<std::string> twin_of(const std::string& name) {
    constexpr std::size_t kMostCompared = 1000;  // pairs, in all: an incomplete model has many
    const LeafView& one = views_[holder(name)];
    const TensorInfo& like = one.tensor(name);
    for (const auto& shared : set_.names) {
      const std::string& other = shared.first;
      const bool fits = std::all_of(views_.begin(), views_.end(), [&](const LeafView& view) {
        return view.by_name.contains(other) && view.tensor(other).shape == like.shape;
      });
      if (!fits) continue;
      const bool equal = std::all_of(views_.begin(), views_.end(), [&](const LeafView& view) {
        const auto at = view.by_name.find(name);
        return at == view.by_name.end() ||
               (++compared_ <= kMostCompared &&
                same_bytes(*view.source, at->second, view.by_name.at(other)));
      });
      if (equal) return other;
    }
    return std::nullopt;
  }

  void note(const std::string& name, std::map<std::size_t, std::vector<std::string>>& to) {
    for (std::size_t i = 0; i < views_.size(); ++i) {
      if (lacks(i, name)) to[i].push_back(name);
    }
  }

  void drop(const std::string& name, const std::string& reason) {
    for (std::size_t i = 0; i < views_.size(); ++i) {
      if (lacks(i, name)) continue;
      const std::string& stored = views_[i].source->tensors()[views_[i].by_name.at(name)].name;
      dropped_.push_back({stored, recipe_.leaves[i].name, reason});
      views_[i].by_name.erase(name);
      std::erase_if(views_[i].tensors, [&](const TensorInfo& t) { return t.name == name; });
    }
  }

  // A bias next to a weight that every leaf has.
  bool is_absent_bias(const std::string& name) const {
    constexpr std::string_view kBias = ".bias";
    if (!name.ends_with(kBias)) return false;
    const std::string weight = name.substr(0, name.size() - kBias.size()) + ".weight";
    return std::all_of(views_.begin(), views_.end(),
                       [&](const LeafView& view) { return view.by_name.contains(weight); });
  }

  // The beginning that all names of a part share, where the body works without it.
  std::optional<std::string> part_of(const std::string& name) const {
    const bool inside = name.starts_with(prefix_);
    const std::size_t begin = inside ? prefix_.size() : 0;
    const std::size_t end = std::min(name.find('.', begin), name.size() - 1);
    const std::string part = name.substr(0, end + 1);
    if (!inside) return part;
    std::string_view module = std::string_view(part).substr(begin);
    if (module.ends_with('.')) module.remove_suffix(1);
    if (std::find(kParts.begin(), kParts.end(), module) != kParts.end()) return part;
    return module == "layers" ? layer_behind(name, part) : std::nullopt;
  }

  // "model.layers.61." where the models that have it count 61 layers: it predicts tokens further
  // ahead.
  std::optional<std::string> layer_behind(const std::string& name, const std::string& stack) const {
    std::uint64_t layer = 0;
    const char* const end = name.data() + name.size();
    const auto read = std::from_chars(name.data() + stack.size(), end, layer);
    if (read.ec != std::errc() || read.ptr == end || *read.ptr != '.') return std::nullopt;
    for (const LeafView& view : views_) {
      if (!view.by_name.contains(name)) continue;
      const Json& config = view.source->config();
      if (!config.is_object()) return std::nullopt;
      const auto layers = config.find("num_hidden_layers");
      const bool behind = layers != config.end() && layers->is_number_unsigned() &&
                          layer >= layers->get<std::uint64_t>();
      if (!behind) return std::nullopt;
    }
    return fmt::format("{}{}.", stack, layer);
  }

  // Every leaf that lacks a tensor of the part lacks all of it.
  bool is_whole(const std::string& part) const {
    std::optional<std::size_t> size;
    for (const LeafView& view : views_) {
      std::size_t count = 0;
      for (auto at = view.by_name.lower_bound(part);
           at != view.by_name.end() && at->first.starts_with(part); ++at) {
        ++count;
      }
      if (count == 0) continue;
      if (size && size != count) return false;
      size = count;
    }
    return true;
  }

  void say(std::size_t leaf, const std::vector<std::string>& names, std::string_view what,
           std::vector<std::string>& warnings) const {
    if (names.empty()) return;
    warnings.push_back(fmt::format("`{}` lacks {} tensor{} {} ({})", recipe_.leaves[leaf].name,
                                   names.size(), names.size() == 1 ? "" : "s", what,
                                   list_text(names, kMostTensorsNamed)));
  }

  // Those of the refused tensors that `one` has and `other` lacks.
  std::vector<std::string> refused(std::size_t one, std::size_t other) const {
    std::vector<std::string> names;
    for (const std::string& name : refused_) {
      if (!lacks(one, name) && lacks(other, name)) names.push_back(name);
    }
    std::sort(names.begin(), names.end(), natural_less);
    return names;
  }

  std::size_t layers_of(std::size_t view) const {
    std::vector<std::string> names;
    for (const auto& [name, index] : views_[view].by_name) names.push_back(name);
    return LayerStack(names).layers();
  }

  void refuse(std::size_t leaf, std::vector<Error>& problems) const {
    const auto missing = refused(0, leaf);
    const auto extra = refused(leaf, 0);
    if (missing.empty() && extra.empty()) return;
    const std::string& first = recipe_.leaves[0].name;
    const std::string& second = recipe_.leaves[leaf].name;
    std::string message = fmt::format("`{}` and `{}` do not hold the same tensors", first, second);
    const auto only = [&](const std::string& name, const std::vector<std::string>& tensors) {
      if (tensors.empty()) return;
      message += fmt::format("; only `{}` has {}: {}", name, tensors.size(),
                             list_text(tensors, kMostTensorsNamed));
    };
    only(first, missing);
    only(second, extra);
    std::string hint = "models of one merge must be fine-tunes of one base model";
    if (const std::size_t a = layers_of(0), b = layers_of(leaf); a != b) {
      hint = fmt::format("`{}` has {} layers and `{}` {}; models of one merge must have the same",
                         first, a, second, b);
    } else if (extra.empty()) {
      hint =
          fmt::format("if `{}` is a fine-tune of the same base model, it is not complete", second);
    } else if (missing.empty()) {
      hint =
          fmt::format("if `{}` is a fine-tune of the same base model, it is not complete", first);
    }
    problems.emplace_back(ErrorCode::Mismatch, message, FilePlace{recipe_.leaves[leaf].path}, hint);
  }

  // What the first leaf's config.json says of tensors that it lacks is not true of the output.
  void set_config(std::vector<std::string>& warnings) {
    if (!views_[0].source->config().is_object()) return;
    std::size_t model_class = speller(views_);
    bool biases = false;
    for (const auto& [name, absent] : set_.names) {
      if (!absent || !lacks(0, name)) continue;
      biases = biases || *absent == Absent::Zero;
      if (*absent == Absent::Apart) model_class = holder(name);
    }
    const Json& of_class = views_[model_class].source->config();
    if (model_class != 0 && of_class.is_object() && of_class.contains("architectures")) {
      set_.config["architectures"] = of_class["architectures"];
    }
    if (!biases) return;
    for (const LeafView& view : views_) {
      if (!view.source->config().is_object()) continue;
      for (const auto& field : view.source->config().items()) {
        if (says_of_bias(field)) set_.config[field.key()] = true;
      }
    }
    if (set_.config.is_object() && has_bias_field()) return;
    warnings.emplace_back(
        "no config.json says that the model has these biases; its code may not load them");
  }

  bool has_bias_field() const {
    const auto fields = set_.config.items();
    return std::any_of(fields.begin(), fields.end(), [](const auto& field) {
      return field.key().find("bias") != std::string::npos;
    });
  }

  std::size_t holder(const std::string& name) const {
    std::size_t i = 0;
    while (lacks(i, name)) ++i;
    return i;
  }

  const Recipe& recipe_;
  std::vector<LeafView>& views_;
  std::vector<Dropped>& dropped_;
  std::string prefix_;
  TensorSet set_;
  std::map<std::size_t, std::vector<std::string>> zero_;   // by view
  std::map<std::size_t, std::vector<std::string>> apart_;  // by view
  std::set<std::string> refused_;
  std::size_t compared_ = 0;  // pairs of tensors
};

}  // namespace

std::vector<std::string> align_names(const Recipe& recipe, std::vector<LeafView>& views) {
  std::vector<std::string> done;
  const std::size_t like = speller(views);
  const auto wanted = body_prefix(views[like]);
  for (std::size_t i = 0; i < views.size(); ++i) {
    const auto prefix = body_prefix(views[i]);
    if (prefix && wanted && prefix != wanted) {
      rename(views[i], views[like], respelling(*prefix, *wanted));
    }
    std::size_t count = 0;
    std::string example;
    for (const auto& [name, index] : views[i].by_name) {
      const std::string& stored = views[i].source->tensors()[index].name;
      if (stored == name) continue;
      if (++count == 1) example = fmt::format("`{}` as `{}`", stored, name);
    }
    if (count == 0) continue;
    done.push_back(fmt::format("{} tensor{} of `{}` {} taken under another name: {}", count,
                               count == 1 ? "" : "s", recipe.leaves[i].name,
                               count == 1 ? "is" : "are", example));
  }
  return done;
}

TensorSet settle_tensors(const Recipe& recipe, std::vector<LeafView>& views,
                         std::vector<Dropped>& dropped, std::vector<std::string>& warnings,
                         std::vector<Error>& problems) {
  return Settler(recipe, views, dropped).run(warnings, problems);
}

}  // namespace thorns
