#include "plan/match.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"

namespace thorns {
namespace {

bool ends_with(std::string_view name, std::string_view end) { return name.ends_with(end); }

// Embeddings that heads are tied to, by the spelling of the model families; and the heads.
constexpr std::array<std::string_view, 4> kEmbeddings = {
    "embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight"};
const std::array<std::string_view, 4> kHeads = {kOutputHead, "lm_head.bias", "embed_out.weight",
                                                "output.weight"};

// `end` is the name, or its last components.
bool ends_with_path(std::string_view name, std::string_view end) {
  return name == end || (name.size() > end.size() && ends_with(name, end) &&
                         name[name.size() - end.size() - 1] == '.');
}

std::optional<std::string> find_embedding(const TensorSource& source) {
  for (const std::string_view end : kEmbeddings) {
    for (const TensorInfo& tensor : source.tensors()) {
      if (ends_with_path(tensor.name, end)) return tensor.name;
    }
  }
  return std::nullopt;
}

bool same_but_for_rows(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
  return !a.empty() && a.size() == b.size() && std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

bool same_bytes(const TensorSource& source, std::size_t a, std::size_t b) {
  const TensorInfo& left = source.tensors()[a];
  const TensorInfo& right = source.tensors()[b];
  if (left.dtype != right.dtype || left.shape != right.shape) return false;
  constexpr std::uint64_t kRun = 1 << 20;
  const std::size_t width = size_of(left.dtype);
  std::vector<std::byte> x(kRun * width);
  std::vector<std::byte> y(kRun * width);
  for (std::uint64_t first = 0; first < left.elements; first += kRun) {
    const std::size_t bytes =
        static_cast<std::size_t>(std::min(kRun, left.elements - first)) * width;
    source.read(a, first, std::span(x).first(bytes));
    source.read(b, first, std::span(y).first(bytes));
    if (!std::equal(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(bytes), y.begin()))
      return false;
  }
  return true;
}

Where leaf_place(const RecipeLeaf& leaf) { return FilePlace{leaf.path}; }

// Names of `have` that `other` lacks.
std::vector<std::string> lacking(const LeafView& have, const LeafView& other) {
  std::vector<std::string> names;
  for (const auto& [name, index] : have.by_name) {
    if (!other.by_name.contains(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end(), natural_less);
  return names;
}

void compare_names(const RecipeLeaf& first, const LeafView& a, const RecipeLeaf& second,
                   const LeafView& b, std::vector<Error>& problems) {
  const auto missing = lacking(a, b);
  const auto extra = lacking(b, a);
  if (missing.empty() && extra.empty()) return;
  std::string message =
      fmt::format("`{}` and `{}` do not hold the same tensors", first.name, second.name);
  if (!missing.empty()) {
    message +=
        fmt::format("; only `{}` has {}: {}", first.name, missing.size(), list_text(missing, 4));
  }
  if (!extra.empty()) {
    message +=
        fmt::format("; only `{}` has {}: {}", second.name, extra.size(), list_text(extra, 4));
  }
  problems.emplace_back(ErrorCode::Mismatch, message, leaf_place(second),
                        "models of one merge must be fine-tunes of one base model");
}

void compare_shapes(const RecipeLeaf& first, const LeafView& a, const RecipeLeaf& second,
                    const LeafView& b, VocabularyRule rule, std::vector<Error>& problems) {
  std::vector<std::string> differing;
  std::string example;
  bool only_vocabulary = true;
  for (const auto& [name, index] : a.by_name) {
    const auto other = b.by_name.find(name);
    if (other == b.by_name.end()) continue;
    const auto& left = a.source->tensors()[index].shape;
    const auto& right = b.source->tensors()[other->second].shape;
    if (left == right) continue;
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
      only_vocabulary ? "the models have different vocabularies: --vocabulary union merges them"
                      : "models of one merge must have one architecture and size");
}

void compare_kinds(const RecipeLeaf& first, const LeafView& a, const RecipeLeaf& second,
                   const LeafView& b, std::vector<Error>& problems) {
  std::vector<std::string> differing;
  for (const auto& [name, index] : a.by_name) {
    const auto other = b.by_name.find(name);
    if (other == b.by_name.end()) continue;
    const Dtype left = a.source->tensors()[index].dtype;
    const Dtype right = b.source->tensors()[other->second].dtype;
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

}  // namespace

std::optional<std::string> recomputed_buffer(const TensorInfo& tensor) {
  const std::string_view name = tensor.name;
  for (const std::string_view end : {"rotary_emb.inv_freq", "rotary_emb.cos_cached",
                                     "rotary_emb.sin_cached", "rotary_pos_emb.inv_freq"}) {
    if (ends_with(name, end)) return "rotary table, computed anew on loading";
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

bool has_token_rows(std::string_view tensor) {
  const auto is = [&](std::string_view end) { return ends_with_path(tensor, end); };
  return std::any_of(kEmbeddings.begin(), kEmbeddings.end(), is) ||
         std::any_of(kHeads.begin(), kHeads.end(), is);
}

LeafView view_leaf(const Checkpoint& leaf, const std::string& name, std::vector<Dropped>& dropped) {
  LeafView view;
  view.source = &leaf;
  for (std::size_t i = 0; i < leaf.tensors().size(); ++i) {
    const TensorInfo& tensor = leaf.tensors()[i];
    if (const auto reason = recomputed_buffer(tensor)) {
      dropped.push_back({tensor.name, name, *reason});
      continue;
    }
    view.tensors.push_back(tensor);
    view.by_name.emplace(tensor.name, i);
  }
  if (!leaf.config().is_null() && leaf.ties_embeddings()) {
    const auto embedding = find_embedding(leaf);
    const auto head = leaf.find(kOutputHead);
    if (embedding && head && same_bytes(leaf, *leaf.find(*embedding), *head)) {
      dropped.push_back({kOutputHead, name, "tied to the embedding and equal to it"});
      view.by_name.erase(kOutputHead);
      std::erase_if(view.tensors,
                    [](const TensorInfo& tensor) { return tensor.name == kOutputHead; });
    }
    if (embedding && !view.by_name.contains(kOutputHead)) view.embedding = embedding;
  }
  return view;
}

void match_views(const Recipe& recipe, std::vector<LeafView>& views, bool head_needed,
                 VocabularyRule rule, std::vector<Error>& problems) {
  for (const LeafView& view : views)
    head_needed = head_needed || view.by_name.contains(kOutputHead);
  if (head_needed) {
    for (LeafView& view : views) {
      if (view.embedding && !view.by_name.contains(kOutputHead)) {
        view.by_name.emplace(kOutputHead, view.by_name.at(*view.embedding));
      }
    }
  }
  for (std::size_t i = 1; i < views.size(); ++i) {
    const RecipeLeaf& first = recipe.leaves[0];
    const RecipeLeaf& leaf = recipe.leaves[i];
    const std::string type = views[0].source->model_type();
    const std::string other = views[i].source->model_type();
    if (!type.empty() && !other.empty() && type != other) {
      problems.emplace_back(
          ErrorCode::Mismatch,
          fmt::format("`{}` is a {} model, `{}` is a {} model", first.name, type, leaf.name, other),
          leaf_place(leaf), "models of one merge must have one architecture");
      continue;
    }
    compare_names(first, views[0], leaf, views[i], problems);
    compare_shapes(first, views[0], leaf, views[i], rule, problems);
    compare_kinds(first, views[0], leaf, views[i], problems);
  }
}

}  // namespace thorns
