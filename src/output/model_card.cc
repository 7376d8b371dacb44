#include "output/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "output/card_license.h"
#include "output/key_legend.h"
#include "output/manifest.h"
#include "output/markdown.h"
#include "output/prompt_formats.h"
#include "output/provenance.h"

namespace thorns {
namespace {

std::string front_matter(const Plan& plan, const std::optional<License>& license) {
  std::vector<std::string> parents;
  for (const RecipeLeaf& leaf : plan.recipe.leaves) {
    const auto id = hub_id(leaf.where, leaf.path);
    if (id && std::find(parents.begin(), parents.end(), *id) == parents.end()) {
      parents.push_back(*id);
    }
  }
  std::string text = "---\n";
  if (!parents.empty()) text += "base_model:\n";
  for (const std::string& id : parents) text += fmt::format("- {}\n", yaml_string(id));
  text += "base_model_relation: merge\nlibrary_name: transformers\n";
  if (license) {
    text += fmt::format("license: {}\n", yaml_string(license->id));
    if (!license->name.empty())
      text += fmt::format("license_name: {}\n", yaml_string(license->name));
    if (!license->link.empty())
      text += fmt::format("license_link: {}\n", yaml_string(license->link));
  }
  return text + "tags:\n- merge\n- thorns\n---\n";
}

// Parts of the recipe that its author gave a name.
std::vector<const RecipeNode*> named_parts(const Recipe& recipe) {
  std::vector<const RecipeNode*> parts;
  for (const RecipeNode& node : recipe.nodes) {
    if (!node.name.empty()) parts.push_back(&node);
  }
  return parts;
}

std::string key_section(const Recipe& recipe) {
  std::string text = '\n' + markdown_block(recipe.published, "");
  std::vector<std::string> keys = {recipe.published};
  const auto parts = named_parts(recipe);
  if (!parts.empty()) text += "\nwhere\n\n";
  for (const RecipeNode* part : parts) {
    text += fmt::format("- {} = {}\n", markdown_code(part->name), markdown_code(part->key));
    keys.push_back(part->key);
  }
  const std::vector<LegendLine> legend = key_legend(keys);
  if (!legend.empty()) text += '\n';
  for (const LegendLine& line : legend) {
    text += fmt::format("- {} = {}\n", markdown_code(line.bracket), markdown_text(line.meaning));
  }
  return text;
}

std::string origin(const std::string& where, const std::string& path) {
  const auto id = hub_id(where, path);
  if (!id) return markdown_code(published_where(where, path), true);
  return fmt::format("[{}](https://huggingface.co/{})", markdown_text(where), *id);
}

std::string stated(const std::optional<License>& license) {
  if (!license) return "not stated";
  return markdown_text(license->name.empty() ? license->id : license->name);
}

std::string parents_section(const Plan& plan, const Licenses& licenses) {
  std::string text =
      "\n## What it is made of\n\n| Model | From | Architecture | License |\n"
      "|---|---|---|---|\n";
  for (std::size_t i = 0; i < plan.leaves.size() && i < plan.recipe.leaves.size(); ++i) {
    const RecipeLeaf& leaf = plan.recipe.leaves[i];
    text += fmt::format(
        "| {} | {} | {} | {} |\n", markdown_text(leaf.name), origin(leaf.where, leaf.path),
        markdown_text(architecture_of(plan.leaves[i]->config())), stated(licenses.leaves[i]));
  }
  if (!plan.adapters.empty()) text += "\n| Adapter | From | Type | License |\n|---|---|---|---|\n";
  for (std::size_t i = 0; i < plan.adapters.size() && i < plan.recipe.adapters.size(); ++i) {
    const RecipeAdapter& adapter = plan.recipe.adapters[i];
    text += fmt::format("| {} | {} | {} | {} |\n", markdown_text(adapter.name),
                        origin(adapter.where, adapter.path),
                        markdown_text(plan.adapters[i]->family()), stated(licenses.adapters[i]));
  }
  if (!licenses.output) {
    text +=
        "\nThese do not all state one license, so this card states none: the terms of each of "
        "them apply.\n";
  }
  return text;
}

std::string prompt_section(const std::string& prompt) {
  if (prompt.empty()) return {};
  const auto example = prompt_example(prompt);
  if (!example) return "\n## Prompt format\n\n" + markdown_block(prompt, "");
  return fmt::format("\n## Prompt format\n\n{}, for example:\n\n{}", markdown_text(prompt),
                     markdown_block(*example, ""));
}

std::string counted(std::size_t count, const char* what) {
  return count == 0 ? std::string() : fmt::format(", {} {}", count, what);
}

std::string making_section(const Plan& plan) {
  std::array<std::size_t, 4> kinds{};
  for (const Program& program : plan.programs) ++kinds.at(static_cast<std::size_t>(program.kind));
  const std::size_t copied = kinds.at(static_cast<std::size_t>(ProgramKind::Copy)) +
                             kinds.at(static_cast<std::size_t>(ProgramKind::Same));
  return fmt::format(
      "\n## How it was made\n\nthorns {} read every input once and wrote every tensor once, with "
      "no "
      "model in between on disk and one rounding, to {}. Of {} tensors {} were merged{}{}{}. "
      "`{}` holds the coefficients, norms and angles of every tensor and the SHA-256 of every "
      "file.\n",
      THORNS_VERSION, markdown_text(plan.base_dtype), plan.programs.size(),
      kinds.at(static_cast<std::size_t>(ProgramKind::Blend)), counted(copied, "copied"),
      counted(kinds.at(static_cast<std::size_t>(ProgramKind::Cast)), "cast"),
      counted(plan.dropped.size(), "left out"), kManifestFile);
}

// The --dtype that the command needs: the recipe's, or one that shows in the output because a
// tensor has another type than in the first leaf.
std::string dtype_option(const Plan& plan) {
  if (plan.recipe.settings.dtype) return torch_name(*plan.recipe.settings.dtype);
  if (plan.leaves.empty()) return {};
  const Checkpoint& first = *plan.leaves.front();
  for (const Program& program : plan.programs) {
    const auto at = first.find(program.tensor);
    if (at && is_blendable(program.dtype) && first.tensors()[*at].dtype != program.dtype) {
      return plan.base_dtype;
    }
  }
  return {};
}

// The --tokenizer that the command needs: none where it is the first that has one.
std::string tokenizer_option(const Plan& plan) {
  if (!plan.has_tokenizer || plan.tokenizer_leaf >= plan.recipe.leaves.size()) return {};
  for (std::size_t i = 0; i < plan.tokenizer_leaf && i < plan.leaves.size(); ++i) {
    if (!plan.leaves[i]->tokenizer_files().empty()) {
      return plan.recipe.leaves[plan.tokenizer_leaf].name;
    }
  }
  return {};
}

std::string remake_section(const Plan& plan, const std::string& name) {
  return "\n## Make it again\n\n" + markdown_block(remake_command(plan, name), "sh");
}

}  // namespace

std::string remake_command(const Plan& plan, const std::string& name) {
  const Recipe& recipe = plan.recipe;
  // A key that uses names of its recipe file stands only with the names spelled out.
  const bool self_contained = named_parts(recipe).empty();
  std::vector<std::string> parts = {"thorns merge " +
                                    shell_word(self_contained ? recipe.published : recipe.key)};
  const auto option = [&](const char* flag, const std::string& value) {
    if (!value.empty()) parts.push_back(fmt::format("{} {}", flag, shell_word(value)));
  };
  const auto bind = [&](const char* flag, const auto& input) {
    const std::string where = published_where(input.where, input.path);
    if (input.name != where) option(flag, input.name + "=" + where);
  };
  for (const RecipeLeaf& leaf : recipe.leaves) bind("-m", leaf);
  for (const RecipeAdapter& adapter : recipe.adapters) bind("-a", adapter);
  option("--dtype", dtype_option(plan));
  const auto& shard_size = recipe.settings.shard_size;
  option("--shard-size", shard_size ? fmt::format("{}", *shard_size) : "");
  option("--vocabulary", recipe.settings.vocabulary);
  option("--tokenizer", tokenizer_option(plan));
  option("-o", name);
  return fmt::format("{}\n", fmt::join(parts, " \\\n  "));
}

std::string model_card(Disk& disk, const Plan& plan, const std::string& name) {
  const Licenses licenses = read_licenses(disk, plan);
  const std::string& title = plan.recipe.settings.name.empty() ? name : plan.recipe.settings.name;
  return front_matter(plan, licenses.output) + "\n# " + markdown_text(title) + '\n' +
         key_section(plan.recipe) + parents_section(plan, licenses) +
         prompt_section(plan.recipe.settings.prompt) + making_section(plan) +
         remake_section(plan, name);
}

}  // namespace thorns
