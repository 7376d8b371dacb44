#include "plan/match.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "checkpoint/self_described.h"

namespace thorns {
namespace {

bool ends_with(std::string_view name, std::string_view end) { return name.ends_with(end); }

bool same_but_for_rows(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
  return !a.empty() && a.size() == b.size() && std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

Where leaf_place(const RecipeLeaf& leaf) { return FilePlace{leaf.path}; }

void compare_shapes(const RecipeLeaf& first, const LeafView& a, const RecipeLeaf& second,
                    const LeafView& b, const std::vector<std::string>& names, VocabularyRule rule,
                    std::vector<Error>& problems) {
  std::vector<std::string> differing;
  std::string example;
  bool only_vocabulary = true;
  bool emptied = false;
  for (const std::string& name : names) {
    const auto& left = a.tensor(name).shape;
    const auto& right = b.tensor(name).shape;
    if (left == right) continue;
    emptied = emptied || a.tensor(name).elements == 0 || b.tensor(name).elements == 0;
    const bool vocabulary = has_token_rows(name) && same_but_for_rows(left, right);
    if (vocabulary && rule != VocabularyRule::Strict) continue;
    if (differing.empty()) {
      example = fmt::format("`{}` is {} in `{}` and {} in `{}`", name, shape_text(left), first.name,
                            shape_text(right), second.name);
    }
    only_vocabulary = only_vocabulary && vocabulary;
    differing.push_back(name);
  }
  if (differing.empty()) return;
  if (differing.size() > 1)
    example += fmt::format(", and {} more differ in shape", differing.size() - 1);
  problems.emplace_back(
      ErrorCode::Mismatch, example, leaf_place(second),
      emptied ? "tensors without elements stand for parts that DeepSpeed keeps elsewhere: "
                "zero_to_fp32.py makes a whole checkpoint of them"
      : only_vocabulary ? "the models have different vocabularies: --vocabulary union merges them"
                        : "models of one merge must have one architecture and size");
}

void compare_kinds(const RecipeLeaf& first, const LeafView& a, const RecipeLeaf& second,
                   const LeafView& b, const std::vector<std::string>& names,
                   std::vector<Error>& problems) {
  std::vector<std::string> differing;
  for (const std::string& name : names) {
    const Dtype left = a.tensor(name).dtype;
    const Dtype right = b.tensor(name).dtype;
    const bool same_kind = is_blendable(left) ? is_blendable(right) : left == right;
    if (!same_kind) {
      differing.push_back(fmt::format("{} ({} and {})", name, to_string(left), to_string(right)));
    }
  }
  if (differing.empty()) return;
  problems.emplace_back(
      ErrorCode::Mismatch,
      fmt::format("tensors of `{}` and `{}` have types that cannot be blended: {}", first.name,
                  second.name, list_text(differing, 4)),
      leaf_place(second));
}

// GGUF keeps both under one name.
bool may_be_mistral(const Checkpoint& leaf, const std::string& other) {
  const SelfDescribed* const itself = self_described(leaf);
  return itself != nullptr && itself->makes_config() && leaf.model_type() == "llama" &&
         other == "mistral";
}

// What training tools put between the components of a name.
constexpr std::array<std::string_view, 3> kWrappers = {"_orig_mod", "_fsdp_wrapped_module",
                                                       "_checkpoint_wrapped_module"};

std::string unwrapped(std::string name) {
  for (const std::string_view wrapper : kWrappers) {
    const std::string component = fmt::format("{}.", wrapper);
    for (std::size_t at = 0; (at = name.find(component, at)) != std::string::npos;) {
      if (at == 0 || name[at - 1] == '.') {
        name.erase(at, component.size());
      } else {
        at += component.size();
      }
    }
  }
  return name;
}

// What PEFT keeps a model under, where all names begin so; else empty.
std::string common_wrapper(const Checkpoint& leaf) {
  constexpr std::string_view kPeft = "base_model.model.";
  const bool all =
      std::all_of(leaf.tensors().begin(), leaf.tensors().end(), [&](const TensorInfo& tensor) {
        return tensor.name.starts_with(kPeft) && tensor.name.size() > kPeft.size();
      });
  return all && !leaf.tensors().empty() ? std::string(kPeft) : std::string();
}

void refuse_adapters_within(const Checkpoint& leaf, const std::string& name) {
  for (std::size_t i = 0; i < leaf.tensors().size(); ++i) {
    const std::string& tensor = leaf.tensors()[i].name;
    if (tensor.find(".lora_A.") == std::string::npos &&
        tensor.find(".base_layer.") == std::string::npos) {
      continue;
    }
    throw Error(
        ErrorCode::Unsupported,
        fmt::format("`{}` was saved by PEFT with adapters that are not merged into it", name),
        TensorPlace{tensor, std::nullopt, leaf.file_of(i)},
        "save it after merge_and_unload(), or name model and adapter: Model[Adapter]");
  }
}

}  // namespace

bool same_bytes(const TensorSource& source, std::size_t a, std::size_t b) {
  const TensorInfo& left = source.tensors()[a];
  const TensorInfo& right = source.tensors()[b];
  if (left.dtype != right.dtype || left.shape != right.shape) return false;
  constexpr std::uint64_t kLongestRun = 1 << 16;
  const std::size_t width = size_of(left.dtype);
  std::vector<std::byte> x;
  std::vector<std::byte> y;
  std::uint64_t run = 1 << 10;  // most tensors differ at once
  for (std::uint64_t first = 0; first < left.elements; first += run) {
    if (first != 0) run = kLongestRun;
    x.resize(static_cast<std::size_t>(std::min(run, left.elements - first)) * width);
    y.resize(x.size());
    source.read(a, first, x);
    source.read(b, first, y);
    if (x != y) return false;
  }
  return true;
}

std::optional<std::string> recomputed_buffer(const TensorInfo& tensor) {
  const std::string_view name = tensor.name;
  // Under `rotary_emb`, `rotary_pos_emb`, `maybe_rotary`, `rotary`.
  for (const std::string_view end : {".inv_freq", ".cos_cached", ".sin_cached"}) {
    if (ends_with(name, end) && name.find("rotary") != name.npos)
      return "rotary table, computed anew on loading";
  }
  if (ends_with(name, ".masked_bias")) return "mask constant, computed anew on loading";
  if (ends_with(name, "embeddings.position_ids"))
    return "position numbers, computed anew on loading";
  // GPT-2 and GPT-NeoX store their causal mask as `attn.bias`: [1, 1, n, n] of ones and zeros.
  if ((ends_with(name, "attn.bias") || ends_with(name, "attention.bias")) &&
      tensor.shape.size() == 4 && tensor.shape[0] == 1 && tensor.shape[1] == 1) {
    return "causal mask, computed anew on loading";
  }
  return std::nullopt;
}

std::optional<std::string> find_embedding(const LeafView& view) {
  std::optional<std::string> found;
  for (const auto& [name, index] : view.by_name) {
    if (!is_embedding(name)) continue;
    if (ends_with(name, "shared.weight")) return name;  // T5's, of which the others are copies
    if (!found) found = name;
  }
  return found;
}

LeafView view_leaf(const Checkpoint& leaf, const std::string& name, std::vector<Dropped>& dropped) {
  refuse_adapters_within(leaf, name);
  LeafView view;
  view.source = &leaf;
  view.head = output_head_of(leaf.model_type());
  const std::string wrapper = common_wrapper(leaf);
  for (std::size_t i = 0; i < leaf.tensors().size(); ++i) {
    TensorInfo tensor = leaf.tensors()[i];
    if (const auto reason = recomputed_buffer(tensor)) {
      dropped.push_back({tensor.name, name, *reason});
      continue;
    }
    std::string bare = unwrapped(tensor.name.substr(wrapper.size()));
    if (!view.by_name.contains(bare)) tensor.name = std::move(bare);
    view.by_name.emplace(tensor.name, i);
    view.tensors.push_back(std::move(tensor));
  }
  std::sort(view.tensors.begin(), view.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  if (!leaf.config().is_null() && leaf.ties_embeddings()) {
    const auto embedding = find_embedding(view);
    const auto head = view.by_name.find(std::string(view.head));
    if (embedding && head != view.by_name.end() &&
        leaf.same_elements(view.by_name.at(*embedding), head->second)) {
      dropped.push_back({head->first, name, "tied to the embedding and equal to it"});
      view.by_name.erase(head);
      std::erase_if(view.tensors,
                    [&](const TensorInfo& tensor) { return tensor.name == view.head; });
    }
    if (embedding && !view.has_head()) view.embedding = embedding;
  }
  return view;
}

void lend_heads(std::vector<LeafView>& views, bool head_needed) {
  for (const LeafView& view : views) head_needed = head_needed || view.has_head();
  if (!head_needed) return;
  for (LeafView& view : views) {
    if (!view.embedding || view.has_head()) continue;
    view.by_name.emplace(view.head, view.by_name.at(*view.embedding));
  }
}

bool same_architecture(const Recipe& recipe, const std::vector<LeafView>& views,
                       std::vector<Error>& problems) {
  bool same = true;
  for (std::size_t i = 1; i < views.size(); ++i) {
    const RecipeLeaf& first = recipe.leaves[0];
    const RecipeLeaf& leaf = recipe.leaves[i];
    const std::string type = views[0].source->model_type();
    const std::string other = views[i].source->model_type();
    if (type.empty() || other.empty() || type == other) continue;
    if (may_be_mistral(*views[0].source, other) || may_be_mistral(*views[i].source, type)) continue;
    same = false;
    problems.emplace_back(
        ErrorCode::Mismatch,
        fmt::format("`{}` is a {} model, `{}` is a {} model", first.name, type, leaf.name, other),
        leaf_place(leaf), "models of one merge must have one architecture");
  }
  return same;
}

void compare_tensors(const Recipe& recipe, const std::vector<LeafView>& views, VocabularyRule rule,
                     std::vector<Error>& problems) {
  for (std::size_t i = 1; i < views.size(); ++i) {
    // Each tensor is compared with that of the first leaf that has it.
    std::vector<std::vector<std::string>> names(i);
    for (const auto& [name, index] : views[i].by_name) {
      const auto before =
          std::find_if(views.begin(), views.begin() + static_cast<std::ptrdiff_t>(i),
                       [&, &name = name](const LeafView& v) { return v.by_name.contains(name); });
      const auto j = static_cast<std::size_t>(before - views.begin());
      if (j < i) names[j].push_back(name);
    }
    for (std::size_t j = 0; j < i; ++j) {
      compare_shapes(recipe.leaves[j], views[j], recipe.leaves[i], views[i], names[j], rule,
                     problems);
      compare_kinds(recipe.leaves[j], views[j], recipe.leaves[i], views[i], names[j], problems);
    }
  }
}

}  // namespace thorns
