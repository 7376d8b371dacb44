#include "output/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/text.h"
#include "output/card_license.h"
#include "output/card_template.h"
#include "output/card_warning.h"
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

std::string parts_text(const Recipe& recipe) {
  std::string text;
  for (const RecipeNode* part : named_parts(recipe)) {
    text += fmt::format("- {} = {}\n", markdown_code(part->name), markdown_code(part->key));
  }
  return text;
}

std::string legend_text(const Recipe& recipe) {
  std::vector<std::string> keys = {recipe.published};
  for (const RecipeNode* part : named_parts(recipe)) keys.push_back(part->key);
  std::string text;
  for (const LegendLine& line : key_legend(keys)) {
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

std::string models_table(const Plan& plan, const Licenses& licenses) {
  std::string text = "| Model | From | Architecture | License |\n|---|---|---|---|\n";
  for (std::size_t i = 0; i < plan.leaves.size() && i < plan.recipe.leaves.size(); ++i) {
    const RecipeLeaf& leaf = plan.recipe.leaves[i];
    text += fmt::format(
        "| {} | {} | {} | {} |\n", markdown_text(leaf.name), origin(leaf.where, leaf.path),
        markdown_text(architecture_of(plan.leaves[i]->config())), stated(licenses.leaves[i]));
  }
  return text;
}

std::string adapters_table(const Plan& plan, const Licenses& licenses) {
  if (plan.adapters.empty()) return {};
  std::string text = "| Adapter | From | Type | License |\n|---|---|---|---|\n";
  for (std::size_t i = 0; i < plan.adapters.size() && i < plan.recipe.adapters.size(); ++i) {
    const RecipeAdapter& adapter = plan.recipe.adapters[i];
    text += fmt::format("| {} | {} | {} | {} |\n", markdown_text(adapter.name),
                        origin(adapter.where, adapter.path),
                        markdown_text(plan.adapters[i]->family()), stated(licenses.adapters[i]));
  }
  return text;
}

std::string warning_text(Disk& disk, const Plan& plan) {
  const std::vector<std::string> names = parents_that_warn(disk, plan);
  if (names.empty()) return {};
  std::vector<std::string> shown;
  for (const std::string& name : names) shown.push_back(markdown_text(name));
  return fmt::format(
      "The model card{} of {} warn{} of toxic, uncensored or offensive output. What {} trained on "
      "is "
      "in this model, too, and it has not been tested for toxicity: try it before others use it.\n",
      names.size() == 1 ? "" : "s", list_text(shown, shown.size()), names.size() == 1 ? "s" : "",
      names.size() == 1 ? "it was" : "they were");
}

// The name of a format that is known, and how a prompt looks.
std::pair<std::string, std::string> prompt_of(const std::string& prompt) {
  if (prompt.empty()) return {};
  const auto example = prompt_example(prompt);
  if (!example) return {"", markdown_block(prompt, "")};
  return {markdown_text(prompt), markdown_block(*example, "")};
}

std::string findings_text(const Plan& plan, const std::vector<std::string>& findings) {
  const PathFilter public_text(plan);
  std::string text;
  for (const std::string& finding : findings) {
    text += "- " + markdown_text(public_text(finding)) + "\n";
  }
  return text;
}

std::string counted(std::size_t count, const char* what) {
  return count == 0 ? std::string() : fmt::format(", {} {}", count, what);
}

std::string making_text(const Plan& plan) {
  std::array<std::size_t, 4> kinds{};
  for (const Program& program : plan.programs) ++kinds.at(static_cast<std::size_t>(program.kind));
  const std::size_t copied = kinds.at(static_cast<std::size_t>(ProgramKind::Copy)) +
                             kinds.at(static_cast<std::size_t>(ProgramKind::Same));
  return fmt::format(
      "thorns {} read every input once and wrote every tensor once, with no model in between on "
      "disk and one rounding, to {}. Of {} tensors {} were merged{}{}{}. `{}` holds the "
      "coefficients, norms and angles of every tensor and the SHA-256 of every file.\n",
      THORNS_VERSION, markdown_text(plan.base_dtype), plan.programs.size(),
      kinds.at(static_cast<std::size_t>(ProgramKind::Blend)), counted(copied, "copied"),
      counted(kinds.at(static_cast<std::size_t>(ProgramKind::Cast)), "cast"),
      counted(plan.dropped.size(), "left out"), kManifestFile);
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

// Without the newlines at its end: the template has its own.
std::string trimmed(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text;
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
  for (const RecipeAdapter& adapter : recipe.adapters) {
    if (adapter.key_map.empty()) continue;
    option("--key-map",
           adapter.name + "=" + published_where(adapter.key_map_where, adapter.key_map_path));
  }
  const auto& dtype = recipe.settings.dtype;
  option("--dtype", dtype ? torch_name(*dtype) : "");
  const auto& shard_size = recipe.settings.shard_size;
  option("--shard-size", shard_size ? fmt::format("{}", *shard_size) : "");
  option("--vocabulary", recipe.settings.vocabulary);
  option("--tokenizer", tokenizer_option(plan));
  option("-o", name);
  return fmt::format("{}\n", fmt::join(parts, " \\\n  "));
}

const std::string& default_card() {
  static const std::string text = R"({{front_matter}}

# {{title}}

{{key}}
{{#parts}}

where

{{parts}}
{{/parts}}
{{#legend}}

{{legend}}
{{/legend}}

## What it is made of

{{models}}
{{#adapters}}

{{adapters}}
{{/adapters}}
{{#license_note}}

{{license_note}}
{{/license_note}}
{{#warning}}

## Warning

{{warning}}
{{/warning}}
{{#prompt}}

## Prompt format

{{#prompt_name}}
{{prompt_name}}, for example:

{{/prompt_name}}
{{prompt}}
{{/prompt}}
{{#findings}}

## What thorns check says of the recipe

{{findings}}
{{/findings}}

## How it was made

{{making}}

## Verify it

`thorns verify` reads every file again and holds it against `thorns.json`:

{{verify}}

## Make it again

{{command}}
)";
  return text;
}

std::string model_card(Disk& disk, const Plan& plan, const std::string& name,
                       const CardOptions& options) {
  const Licenses licenses = read_licenses(disk, plan);
  const RecipeSettings& settings = plan.recipe.settings;
  const auto [prompt_name, prompt] = prompt_of(settings.prompt);
  CardFields fields = {
      {"front_matter", front_matter(plan, licenses.output)},
      {"title", markdown_text(settings.name.empty() ? name : settings.name)},
      {"key", markdown_block(plan.recipe.published, "")},
      {"parts", parts_text(plan.recipe)},
      {"legend", legend_text(plan.recipe)},
      {"models", models_table(plan, licenses)},
      {"adapters", adapters_table(plan, licenses)},
      {"license", licenses.output ? stated(licenses.output) : ""},
      {"license_note", licenses.output ? ""
                                       : "These do not all state one license, so this card states "
                                         "none: the terms of each of them apply."},
      {"warning", warning_text(disk, plan)},
      {"prompt_name", prompt_name},
      {"prompt", prompt},
      {"findings", findings_text(plan, options.findings)},
      {"making", making_text(plan)},
      {"verify", markdown_block("thorns verify " + shell_word(name) + "\n", "sh")},
      {"command", markdown_block(remake_command(plan, name), "sh")},
      {"version", THORNS_VERSION},
  };
  for (auto& [field, text] : fields) text = trimmed(std::move(text));
  return fill_template(options.text.empty() ? default_card() : options.text, options.path, fields);
}

}  // namespace thorns
