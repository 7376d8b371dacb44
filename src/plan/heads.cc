#include "plan/heads.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "checkpoint/token_rows.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// Whether an adapter does the same to two tensors, by what it holds for them.
bool same_updates(const TensorSource& source, const FoldUpdates& updates, const std::string& one,
                  const std::string& other) {
  const auto [begin, end] = updates.equal_range(one);
  const auto [begin_other, end_other] = updates.equal_range(other);
  return std::equal(begin, end, begin_other, end_other, [&](const auto& a, const auto& b) {
    return same_update(source, *a.second.update, *b.second.update);
  });
}

}  // namespace

void settle_head(Workshop& workshop, std::size_t fold, const LeafView& view) {
  FoldUpdates& updates = workshop.folds[fold];
  const TensorSource& source = workshop.folded.at(fold)->source();
  const std::string head(view.head);
  if (updates.contains(head)) {
    if (same_updates(source, updates, head, *view.embedding)) {
      updates.erase(head);
    } else {
      workshop.parting.insert(fold);
    }
    return;
  }
  const auto [begin, end] = updates.equal_range(*view.embedding);
  const TensorInfo& embedding = view.tensor(*view.embedding);
  if (std::any_of(begin, end, [&](const auto& one) { return is_apart(one.second, embedding); })) {
    workshop.parting.insert(fold);
  }
}

void warn_of_shared(Plan& plan, const FoldNode& fold, const Adapter& adapter,
                    const std::vector<TensorInfo>& tensors) {
  std::set<std::string> modules;
  bool saved = false;
  for (const Update& update : adapter.updates()) {
    if (shared_embedding(update.module).empty()) continue;
    modules.insert(update.module);
    saved = saved || update.saved_module;
  }
  const auto has = [&](std::string_view part) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
      return tensor.name.find(part) != tensor.name.npos;
    });
  };
  if (modules.size() != 1 || !has("shared.weight") || has(".embed_tokens.weight") ||
      !has("encoder.") || !has("decoder.")) {
    return;
  }
  if (saved) {
    throw Error(ErrorCode::Unsupported,
                fmt::format("`{}` has an embedding for `{}` alone, and that of the model is one "
                            "tensor for encoder and decoder",
                            folded_name(plan.recipe, fold), *modules.begin()),
                FilePlace{adapter.path()},
                fmt::format("leave it out with --key-map, in a file with the line  {}: ~",
                            *modules.begin()));
  }
  plan.warnings.push_back(fmt::format(
      "what `{}` changes in `{}` is changed for encoder and decoder, whose embedding is "
      "one tensor",
      folded_name(plan.recipe, fold), *modules.begin()));
}

bool folds_into_head(const Workshop& workshop) {
  const std::string head(workshop.views->front().head);
  return !workshop.parting.empty() ||
         std::any_of(workshop.folds.begin(), workshop.folds.end(),
                     [&](const auto& fold) { return fold.second.contains(head); });
}

void warn_of_heads(Plan& plan, const std::vector<LeafView>& views) {
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (!plan.leaves[i]->ties_embeddings() || !views[i].has_head()) continue;
    plan.warnings.push_back(fmt::format(
        "`{}` says that its output head is its embedding, but stores another one; it is merged as "
        "a model with a head of its own",
        plan.recipe.leaves[i].name));
  }
}

void warn_of_untied(Plan& plan, const std::vector<LeafView>& views) {
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (!views[i].embedding || !views[i].has_head()) continue;
    plan.warnings.push_back(fmt::format(
        "the output head of `{}` is its embedding; in the output the two are separate tensors",
        plan.recipe.leaves[i].name));
  }
}

void keep_scale_of_head(Plan& plan, const std::vector<LeafView>& views,
                        std::vector<Error>& problems) {
  constexpr const char* kField = "scale_decoder_outputs";
  constexpr std::array<std::string_view, 4> kWithField = {"longt5", "pop2piano", "t5", "umt5"};
  constexpr std::array<std::string_view, 2> kWithout = {"switch_transformers", "udop"};
  const auto is_one_of = [type = plan.leaves[0]->model_type()](const auto& types) {
    return std::find(types.begin(), types.end(), type) != types.end();
  };
  if (!views[0].embedding || !views[0].has_head()) return;
  const std::string& name = plan.recipe.leaves[0].name;
  if (is_one_of(kWithout)) {
    problems.emplace_back(
        ErrorCode::Unsupported,
        fmt::format("the output head of `{}` would get numbers of its own, and a model of type {} "
                    "scales what its head is given only while that is its embedding",
                    name, plan.leaves[0]->model_type()),
        TensorPlace{std::string(views[0].head), std::nullopt, views[0].source->path()},
        fmt::format("fold what is meant for the head into both with --key-map, in a file with the "
                    "line  lm_head: {}",
                    views[0].embedding->substr(0, views[0].embedding->rfind('.'))));
  } else if (is_one_of(kWithField) && !plan.leaves[0]->config().contains(kField)) {
    plan.config[kField] = true;
    plan.warnings.push_back(fmt::format(
        "the output head of `{}` gets numbers of its own; its config.json says with {} that what "
        "the head is given is scaled even so, which transformers before 5 does not read",
        name, kField));
  }
}

}  // namespace thorns
