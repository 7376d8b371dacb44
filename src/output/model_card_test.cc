#include "output/model_card.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <vector>

#include "output/card_license.h"
#include "output/card_template.h"
#include "output/card_warning.h"
#include "output/prompt_formats.h"
#include "output/provenance.h"
#include "support/expect_error.h"
#include "support/output_plan.h"
#include "support/temp_folder_out.h"

namespace thorns {
namespace {

YAML::Node front_matter(const std::string& card) {
  EXPECT_EQ(card.rfind("---\n", 0), 0U) << card;
  const std::size_t end = card.find("\n---\n", 3);
  EXPECT_NE(end, std::string::npos);
  return YAML::Load(card.substr(4, end - 3));
}

std::vector<std::string> strings(const YAML::Node& list) {
  return list ? list.as<std::vector<std::string>>() : std::vector<std::string>();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ModelCard, FrontMatter) {
  const test::OutFolder folder;
  Plan plan = test::small_plan(folder.path());
  plan.recipe.settings.license = "other: # \"no\"";
  const YAML::Node front = front_matter(model_card(real_disk(), plan, "Briar"));
  EXPECT_EQ(strings(front["base_model"]), std::vector<std::string>{"garden/Rose-7b"});
  EXPECT_EQ(front["base_model_relation"].Scalar(), "merge");
  EXPECT_EQ(front["library_name"].Scalar(), "transformers");
  EXPECT_EQ(strings(front["tags"]), (std::vector<std::string>{"merge", "thorns"}));
  EXPECT_EQ(front["license"].Scalar(), "other: # \"no\"");
}

TEST(ModelCard, FrontMatterNamesEachHubModelOnce) {
  Plan plan = test::small_plan("/models");
  plan.recipe.leaves[1].where = "garden/Rose-7b@v2";
  EXPECT_EQ(strings(front_matter(model_card(real_disk(), plan, "B"))["base_model"]).size(), 1U);
  plan.recipe.leaves[0].where = plan.recipe.leaves[1].where = "./local";
  EXPECT_FALSE(front_matter(model_card(real_disk(), plan, "B"))["base_model"]);
}

TEST(ModelCard, ShowsKeyLegendAndCredits) {
  const test::OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  const std::string card = model_card(real_disk(), plan, "Briar|*");
  EXPECT_TRUE(contains(card, "\n# Briar\\|\\*\n")) << card;
  EXPECT_TRUE(contains(card, "```\n{Rose[0.5*Dew] + Thorn X; t(attn)=[0.25, 0.75]}\n```\n"))
      << card;
  EXPECT_TRUE(contains(card, "- `{}` = SLERP Merge\n- `[]` = PEFT Merge\n")) << card;
  EXPECT_FALSE(contains(card, "Composite")) << card;
  EXPECT_TRUE(contains(card,
                       "| Rose | [garden/Rose-7b@main](https://huggingface.co/garden/Rose-7b) "
                       "| LlamaForCausalLM | not stated |"))
      << card;
  EXPECT_TRUE(contains(card, "| Thorn X | `thorn` |")) << card;
  EXPECT_TRUE(contains(card, "| Dew | `./adapters/dew` | LoRA | not stated |")) << card;
  EXPECT_TRUE(contains(card, "Of 4 tensors 1 were merged, 2 copied, 1 cast, 1 left out.")) << card;
  EXPECT_TRUE(contains(card, "this card states none")) << card;
  EXPECT_FALSE(contains(card, folder.path())) << card;
  EXPECT_EQ(card, model_card(real_disk(), plan, "Briar|*"));
}

TEST(ModelCard, PrefersTheRecipesName) {
  Plan plan = test::small_plan("/models");
  plan.recipe.settings.name = "13B-Thorns";
  EXPECT_TRUE(contains(model_card(real_disk(), plan, "out"), "\n# 13B-Thorns\n"));
}

TEST(ModelCard, ExplainsNamedParts) {
  Plan plan = test::small_plan("/models");
  plan.recipe.published = "(Wet{Thorn X})";
  plan.recipe.nodes[1].name = "Wet";
  const std::string card = model_card(real_disk(), plan, "out");
  EXPECT_TRUE(contains(card, "\nwhere\n\n- `Wet` = `Rose[0.5*Dew]`\n")) << card;
  EXPECT_TRUE(
      contains(card, "- `{}` = SLERP Merge\n- `[]` = PEFT Merge\n- `()` = Composite Model\n"))
      << card;
  EXPECT_TRUE(contains(card, "thorns merge '{Rose[0.5*Dew]+Thorn X;t(attn)=[0.25,0.75]}'")) << card;
}

TEST(ModelCard, HostileKeyStaysInItsBlock) {
  Plan plan = test::small_plan("/models");
  plan.recipe.published = "{\"```\n# gone\"+B}";
  const std::string card = model_card(real_disk(), plan, "out");
  EXPECT_TRUE(contains(card, "````\n{\"```\n# gone\"+B}\n````\n")) << card;
}

TEST(ModelCard, PromptFormats) {
  Plan plan = test::small_plan("/models");
  EXPECT_FALSE(contains(model_card(real_disk(), plan, "out"), "Prompt format"));
  for (const auto& [name, part] :
       std::vector<std::pair<std::string, std::string>>{{"alpaca", "\n\n### Instruction:\n"},
                                                        {"Alpaca", "\n\n### Response:\n"},
                                                        {"chatml", "<|im_start|>user\n"},
                                                        {"vicuna", "USER: "},
                                                        {"llama2", "<<SYS>>\n"}}) {
    plan.recipe.settings.prompt = name;
    const std::string card = model_card(real_disk(), plan, "out");
    EXPECT_TRUE(contains(card, "## Prompt format\n\n" + name + ", for example:\n\n```\n")) << card;
    EXPECT_TRUE(contains(card, part)) << card;
  }
  plan.recipe.settings.prompt = "Q: <text>";
  EXPECT_TRUE(
      contains(model_card(real_disk(), plan, "out"), "## Prompt format\n\n```\nQ: <text>\n```\n"));
  EXPECT_EQ(prompt_example("unheard of"), std::nullopt);
}

TEST(ModelCard, FromATemplateOfTheUser) {
  const test::OutFolder folder;
  Plan plan = test::small_plan(folder.path());
  plan.recipe.settings.prompt = "chatml";
  CardOptions options;
  options.text =
      "{{front_matter}}\n{{title}} by me, {{prompt_name}}\n{{#parts}}\nparts\n{{/parts}}\n"
      "{{#adapters}}\nwith{{#warning}} a warning{{/warning}} adapters\n{{/adapters}}\n{{key}}\n";
  const std::string card = model_card(real_disk(), plan, "Briar", options);
  EXPECT_EQ(front_matter(card)["base_model_relation"].Scalar(), "merge");
  EXPECT_TRUE(contains(card, "\nBriar by me, chatml\nwith adapters\n```\n{Rose")) << card;
  EXPECT_FALSE(contains(card, "parts")) << card;
}

TEST(ModelCard, TemplatesThatMakeNoSense) {
  const auto error = [](const std::string& text) {
    return error_of([&] { fill_template(text, "my card.md", {{"title", "T"}, {"empty", ""}}); });
  };
  struct Case {
    const char* text;
    const char* message;
    const char* hint;
    std::size_t line;
    std::size_t column;
  };
  for (const Case& one : {Case{"a\nb {{titel}}", "no field `titel`", "`title`?", 2, 3},
                          Case{"{{x}}", "no field `x`", "fields: empty, title", 1, 1},
                          Case{"\n\n{{title", "does not end", "{{/name}}", 3, 1},
                          Case{"{{#title}}\n", "section `title` does not end", "{{/title}}", 1, 1},
                          Case{"{{#title}}{{/empty}}", "ends no section", "`title` is open", 1, 11},
                          Case{"{{/title}}", "ends no section", "", 1, 1}}) {
    const auto found = error(one.text);
    expect_error(found, ErrorCode::BadRecipe, one.message, one.hint);
    const auto* place = std::get_if<FilePlace>(&found.where());
    ASSERT_NE(place, nullptr);
    EXPECT_EQ(place->path, "my card.md");
    EXPECT_EQ(place->line, one.line) << one.text;
    EXPECT_EQ(place->column, one.column) << one.text;
  }
  const CardFields fields = {{"a", "{{b}}"}, {"b", ""}};
  EXPECT_EQ(fill_template("x{{a}}y{{b}}", "", fields), "x{{b}}y");
  EXPECT_EQ(fill_template("{{#a}}\n1{{#b}}2{{/b}}3\n{{/a}}", "", fields), "13\n");
  EXPECT_EQ(fill_template("{{#b}}{{#a}}1{{/a}}{{/b}}2", "", fields), "2");
  EXPECT_EQ(fill_template("", "", fields), "");
}

TEST(ModelCard, ShowsFindingsWithoutPathsOfThisMachine) {
  const test::OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  EXPECT_FALSE(contains(model_card(real_disk(), plan, "out"), "thorns check"));
  CardOptions options;
  options.findings = {"one of `Rose`", "in " + folder.path() + "/rose"};
  const std::string card = model_card(real_disk(), plan, "out", options);
  EXPECT_TRUE(contains(card, "says of the recipe\n\n- one of")) << card;
  EXPECT_FALSE(contains(card, folder.path())) << card;
}

TEST(ModelCard, PassesOnTheWarningsOfItsParents) {
  const test::OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  EXPECT_FALSE(contains(model_card(real_disk(), plan, "out"), "## Warning"));
  test::spill(folder / "dew/README.md", "# Dew\nThis was not tested for Toxicity.\n");
  EXPECT_TRUE(
      contains(model_card(real_disk(), plan, "out"), "The model card of Dew warns of toxic"));
  test::spill(folder / "rose/README.md", "# Rose, Uncensored\n");
  EXPECT_TRUE(contains(model_card(real_disk(), plan, "out"), "cards of Rose, Dew warn of toxic"));
  for (const char* card : {"detoxic", "Intoxicating", "harm", ""}) EXPECT_FALSE(warns(card));
}

TEST(ModelCard, TheGuideShowsTheDefaultTemplate) {
  const std::string guide =
      read_text(real_disk(), THORNS_TEST_DATA "/../docs/model-card.md", 1 << 20);
  EXPECT_TRUE(contains(guide, "````\n" + default_card() + "````\n"));
  // Every field of the guide's table is one, and every other is an error.
  std::size_t fields = 0;
  const Plan plan = test::small_plan("/models");
  for (std::size_t at = guide.find("\n| `{{"); at != std::string::npos;
       at = guide.find("\n| `{{", at + 1)) {
    CardOptions options;
    options.text = guide.substr(at + 4, guide.find('`', at + 4) - at - 4);
    EXPECT_NO_THROW(model_card(real_disk(), plan, "out", options)) << options.text;
    ++fields;
  }
  EXPECT_EQ(fields, 17U);
}

TEST(ModelCard, ChatTemplatesOfKnownFormats) {
  for (const char* name : {"alpaca", "ChatML", "llama2", "llama3", "vicuna"}) {
    const auto text = chat_template(name);
    ASSERT_TRUE(text) << name;
    EXPECT_TRUE(contains(*text, "{% for message in ")) << *text;
    EXPECT_EQ(std::count(text->begin(), text->end(), '{'),
              std::count(text->begin(), text->end(), '}'));
  }
  EXPECT_EQ(chat_template("Q: <text>"), std::nullopt);
}

TEST(ModelCard, CommandToMakeItAgain) {
  Plan plan = test::small_plan("/models");
  EXPECT_EQ(remake_command(plan, "Briar Rose"),
            "thorns merge '{Rose[0.5*Dew] + Thorn X; t(attn)=[0.25, 0.75]}' \\\n"
            "  -m Rose=garden/Rose-7b@main \\\n"
            "  -m 'Thorn X=thorn' \\\n"
            "  -a Dew=./adapters/dew \\\n"
            "  -o 'Briar Rose'\n");
  plan.recipe.leaves[0].name = plan.recipe.leaves[0].where;  // stands for itself
  plan.recipe.settings.shard_size = 500'000'000;
  plan.recipe.settings.vocabulary = "strict";
  static_cast<test::FakeCheckpoint&>(*plan.leaves[0]).tokenizer_ = {"tokenizer.json"};
  plan.has_tokenizer = true;
  plan.tokenizer_leaf = 1;
  plan.recipe.settings.dtype = Dtype::BF16;
  EXPECT_EQ(remake_command(plan, "out"),
            "thorns merge '{Rose[0.5*Dew] + Thorn X; t(attn)=[0.25, 0.75]}' \\\n"
            "  -m 'Thorn X=thorn' \\\n"
            "  -a Dew=./adapters/dew \\\n"
            "  --dtype bfloat16 \\\n"
            "  --shard-size 500000000 \\\n"
            "  --vocabulary strict \\\n"
            "  --tokenizer 'Thorn X' \\\n"
            "  -o out\n");
}

TEST(ModelCard, LicenseWhereAllParentsAgree) {
  const test::OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  const std::string llama = "---\nlicense: llama2\ntags: [x]\n---\n# Rose\n";
  test::spill(folder / "rose/README.md", llama);
  test::spill(folder / "thorn/README.md", llama);
  EXPECT_EQ(read_licenses(real_disk(), plan).output, std::nullopt);  // the adapter says nothing
  test::spill(folder / "dew/README.md", llama);
  const std::string card = model_card(real_disk(), plan, "out");
  EXPECT_EQ(front_matter(card)["license"].Scalar(), "llama2");
  EXPECT_FALSE(contains(card, "this card states none"));
  EXPECT_TRUE(contains(card, "| LoRA | llama2 |"));
  test::spill(folder / "thorn/README.md", "---\nlicense: mit\n---\n");
  EXPECT_FALSE(front_matter(model_card(real_disk(), plan, "out"))["license"]);
}

TEST(CardLicense, ReadsFrontMatterLeniently) {
  const std::vector<std::pair<const char*, std::optional<License>>> cases = {
      {"---\nlicense: mit\n---\n", License{"mit", "", ""}},
      {"---\r\nlicense: mit\r\n---\r\n", License{"mit", "", ""}},
      {"---\nlicense: other\nlicense_name: rose\nlicense_link: LICENSE\n---\n",
       License{"other", "rose", "LICENSE"}},
      {"---\nlicense: other\n---\n", std::nullopt},
      {"---\nlicense: [mit, x]\n---\n", std::nullopt},
      {"---\nlicense: {\n---\n", std::nullopt},
      {"---\nlicense: mit\n", std::nullopt},
      {"# Rose\nlicense: mit\n", std::nullopt},
      {"---\n---\n", std::nullopt},
      {"---\n- a\n---\n", std::nullopt},
      {"---", std::nullopt},
      {"", std::nullopt},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(license_in_card(text), expected) << text;
  EXPECT_EQ(license_in_card("---\n" + std::string(100'000, '[') + "\n---\n"), std::nullopt);
  EXPECT_EQ(license_in_card("---\n" + std::string(60'000, '[') + "\n---\n"), std::nullopt);
}

TEST(Provenance, HubIds) {
  const auto id = [](const char* where) { return hub_id(where, "/cache/snapshots/1"); };
  EXPECT_EQ(id("NousResearch/Nous-Hermes-Llama2-13b"), "NousResearch/Nous-Hermes-Llama2-13b");
  EXPECT_EQ(id("a/b.c_d@refs/pr/1"), "a/b.c_d");
  for (const char* where : {"./a/b", "../a", "a", "/a/b", "a/b/c", "a/", "/b", "a /b", "a/b--c",
                            "a/..b", "~/b", "a/b.git", "-a/b", "a/b.", ""}) {
    EXPECT_EQ(id(where), std::nullopt) << where;
  }
  EXPECT_EQ(id((std::string(60, 'a') + "/" + std::string(60, 'b')).c_str()), std::nullopt);
  // Found as a folder of that name: no repository.
  EXPECT_EQ(hub_id("models/rose", "models/rose"), std::nullopt);
  EXPECT_EQ(hub_id("models/rose", "/data/models/rose"), std::nullopt);
}

TEST(Provenance, KeepsPathsOfThisMachineBack) {
  EXPECT_EQ(published_where("/home/me/models/rose/"), "rose");
  EXPECT_EQ(published_where("~/rose"), "rose");
  EXPECT_EQ(published_where("../rose"), "../rose");
  Plan plan = test::small_plan("/home/me");
  plan.recipe.leaves[0].path = "/home/me/thorn-2";
  plan.recipe.leaves[0].where = "garden/Thorn-2";
  const PathFilter filter(plan);
  EXPECT_EQ(filter("`/home/me/thorn/x` and /home/me/thorn-2, /home/me/thorn"),
            "`thorn/x` and garden/Thorn-2, thorn");
}

}  // namespace
}  // namespace thorns
