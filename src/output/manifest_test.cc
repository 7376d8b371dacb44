#include "output/manifest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <regex>
#include <set>
#include <string>

#include "support/output_plan.h"
#include "support/temp_folder_out.h"

namespace thorns {
namespace {

const std::string kHash(64, 'a');

std::string manifest_text(const Plan& plan, const std::vector<TensorFacts>& facts) {
  std::string text;
  ManifestWriter writer(plan, [&](std::string_view piece) { text += piece; });
  writer.begin();
  for (std::size_t i = 0; i < facts.size(); ++i) writer.tensor(i, facts[i]);
  writer.end(std::vector<WrittenFile>{{"config.json", 12, kHash}, {"odd\"name", 0, kHash}});
  return text;
}

std::string manifest_text(const Plan& plan) {
  std::vector<TensorFacts> facts;
  for (const Program& program : plan.programs) facts.push_back(test::fake_facts(program));
  return manifest_text(plan, facts);
}

// The part of JSON Schema that docs/manifest.schema.json uses. Anything else in it is a failure.
class SchemaChecker {
 public:
  explicit SchemaChecker(const Json& root) : root_(root) {}

  // The first thing in `value` that breaks `schema`, with its place; empty if it is valid.
  std::string complaint(const Json& value, const Json& schema, const std::string& place) const {
    for (const auto& [keyword, rule] : schema.items()) {
      const std::string wrong = complaint_of(keyword, rule, value, schema, place);
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

 private:
  std::string complaint_of(const std::string& keyword, const Json& rule, const Json& value,
                           const Json& schema, const std::string& place) const {
    const auto fail = [&] { return place + ": " + keyword + " " + rule.dump(); };
    if (keyword == "$ref") {
      const std::string name = rule.get<std::string>();
      return complaint(value, root_.at(Json::json_pointer(name.substr(1))), place);
    }
    if (keyword == "type") {
      if (!rule.is_array()) return is_type(value, rule) ? "" : fail();
      for (const Json& type : rule) {
        if (is_type(value, type)) return {};
      }
      return fail();
    }
    if (keyword == "const") return value == rule ? "" : fail();
    if (keyword == "enum") {
      return std::find(rule.begin(), rule.end(), value) != rule.end() ? "" : fail();
    }
    if (keyword == "minimum") return !value.is_number() || value >= rule ? "" : fail();
    if (keyword == "pattern") {
      return std::regex_search(value.get<std::string>(), std::regex(rule.get<std::string>()))
                 ? ""
                 : fail();
    }
    if (keyword == "required") {
      for (const Json& name : rule) {
        if (!value.contains(name.get<std::string>())) return fail();
      }
      return {};
    }
    if (keyword == "additionalProperties") {
      for (const auto& [name, member] : value.items()) {
        if (!schema.at("properties").contains(name)) return place + "." + name + ": unknown";
      }
      return {};
    }
    if (keyword == "properties") return of_members(value, rule, place);
    if (keyword == "items") return of_items(value, rule, place);
    if (keyword == "oneOf") {
      std::size_t valid = 0;
      for (const Json& choice : rule) valid += complaint(value, choice, place).empty() ? 1U : 0U;
      return valid == 1 ? "" : fail();
    }
    const bool remark = keyword == "$schema" || keyword == "title" || keyword == "description" ||
                        keyword == "$defs";
    return remark ? "" : "the test does not know the keyword " + keyword;
  }

  std::string of_members(const Json& value, const Json& properties,
                         const std::string& place) const {
    if (!value.is_object()) return {};
    for (const auto& [name, member] : value.items()) {
      if (!properties.contains(name)) continue;
      const std::string wrong = complaint(member, properties.at(name), place + "." + name);
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

  std::string of_items(const Json& value, const Json& schema, const std::string& place) const {
    for (std::size_t i = 0; value.is_array() && i < value.size(); ++i) {
      const std::string at = place + "[" + std::to_string(i) + "]";
      const std::string wrong = complaint(value[i], schema, at);
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

  static bool is_type(const Json& value, const Json& type) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "boolean") return value.is_boolean();
    return type == "null" && value.is_null();
  }

  const Json& root_;
};

std::string schema_complaint(const Json& manifest) {
  const Json schema =
      Json::parse(test::slurp(std::string(THORNS_TEST_DATA) + "/../docs/manifest.schema.json"));
  return SchemaChecker(schema).complaint(manifest, schema, "manifest");
}

TEST(Manifest, FitsItsSchema) {
  for (const std::size_t shards : {1U, 2U}) {
    const Plan plan = test::small_plan("/home/me", shards);
    EXPECT_EQ(schema_complaint(Json::parse(manifest_text(plan))), "");
  }
  EXPECT_EQ(schema_complaint(Json::parse(manifest_text(Plan()))), "");
}

void add_properties(const Json& schema, std::set<std::string>& names) {
  if (!schema.is_structured()) return;
  if (schema.is_object() && schema.contains("properties")) {
    for (const auto& [name, rule] : schema["properties"].items()) names.insert(name);
  }
  for (const Json& part : schema) add_properties(part, names);
}

TEST(Manifest, EveryFieldOfItsSchemaIsExplained) {
  const std::string docs = std::string(THORNS_TEST_DATA) + "/../docs/";
  const std::string text = test::slurp(docs + "manifest.md");
  std::set<std::string> names;
  add_properties(Json::parse(test::slurp(docs + "manifest.schema.json")), names);
  EXPECT_GT(names.size(), 50U);
  for (const std::string& name : names) {
    const bool found = text.find("`" + name + "`") != std::string::npos ||
                       text.find("." + name + "`") != std::string::npos ||
                       text.find("`" + name + ".") != std::string::npos;
    EXPECT_TRUE(found) << name;
  }
}

TEST(Manifest, TheSchemaRefusesWhatItShould) {
  const Json good = Json::parse(manifest_text(test::small_plan("/home/me")));
  const std::vector<std::pair<const char*, Json>> edits = {
      {"/schema", "thorns/manifest/2"},   {"/recipe/nodes/0/kind", "bush"},
      {"/tensors/0/rounded", -1},         {"/tensors/0/dtype", "F17"},
      {"/files/0/sha256", "abc"},         {"/output/tied", "no"},
      {"/tensors/3/nodes/0/angle", "pi"}, {"/leaves/0/path", "/home/me"},
  };
  for (const auto& [place, value] : edits) {
    Json bad = good;
    bad[Json::json_pointer(place)] = value;
    EXPECT_NE(schema_complaint(bad), "") << place;
  }
}

TEST(Manifest, Fields) {
  Plan plan = test::small_plan("/home/me", 2);
  plan.has_tokenizer = true;
  plan.tokenizer_leaf = 1;
  plan.recipe.settings.dtype = Dtype::BF16;
  plan.recipe.settings.prompt = "alpaca";
  const std::string text = manifest_text(plan);
  const Json manifest = Json::parse(text);
  EXPECT_EQ(manifest["schema"], "thorns/manifest/1");
  EXPECT_EQ(manifest["recipe"]["published"], plan.recipe.published);
  EXPECT_EQ(manifest["recipe"]["key"], plan.recipe.key);
  EXPECT_EQ(manifest["recipe"]["root"], 3);
  EXPECT_EQ(manifest["recipe"]["settings"]["dtype"], "bfloat16");
  EXPECT_EQ(manifest["recipe"]["settings"]["prompt"], "alpaca");
  EXPECT_EQ(manifest["recipe"]["settings"]["license"], nullptr);
  EXPECT_EQ(manifest["recipe"]["nodes"][1],
            Json::parse(R"({"key":"Rose[0.5*Dew]","name":null,"kind":"fold","model":0,"adapter":0,
                            "weight":0.5})"));
  EXPECT_EQ(manifest["recipe"]["nodes"][3]["settings"],
            Json::parse(R"([{"parameter":"t","filter":"attn","values":[0.25,0.75]}])"));
  EXPECT_EQ(manifest["leaves"][0], Json::parse(R"({"name":"Rose","where":"garden/Rose-7b@main",
                            "architecture":"LlamaForCausalLM",
                            "files":[{"name":"model.safetensors","size":1234}]})"));
  EXPECT_EQ(manifest["leaves"][1]["where"], "thorn");
  EXPECT_EQ(manifest["adapters"][0]["family"], "LoRA");
  EXPECT_EQ(manifest["adapters"][0]["base_model"], "rose");
  EXPECT_EQ(manifest["output"],
            Json::parse(R"({"dtype":"bfloat16","tied":false,"tokenizer":"Thorn X","bytes":40})"));
  EXPECT_EQ(manifest["dropped"][0]["tensor"], "model.rotary_emb.inv_freq");
  EXPECT_EQ(manifest["warnings"][0], "`thorn` says nothing of its tokenizer");
  EXPECT_EQ(manifest["files"][1]["name"], "odd\"name");
  EXPECT_EQ(manifest["files"][1]["sha256"], kHash);
  EXPECT_EQ(text.find("/home/me"), std::string::npos) << text;
  EXPECT_EQ(text, manifest_text(plan));
}

TEST(Manifest, Tensors) {
  const Plan plan = test::small_plan("/home/me", 2);
  const Json tensors = Json::parse(manifest_text(plan))["tensors"];
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_EQ(tensors[1]["kind"], "cast");
  EXPECT_EQ(tensors[1]["norm"], nullptr);
  EXPECT_EQ(tensors[0], Json::parse(R"({"name":"ids","kind":"same","dtype":"I64","shape":[1],
      "file":"model-00001-of-00002.safetensors","norm":null,"rounded":0,"clipped":0,"nonfinite":0,
      "sources":[{"label":"Rose","dtype":"I64","coefficient":0.1,"norm":null,"distance":null},
                 {"label":"Thorn X","dtype":"I64","coefficient":0.1,"norm":null,"distance":null}],"nodes":[]})"));
  EXPECT_EQ(tensors[3],
            Json::parse(R"({"name":"model.embed_tokens.weight","kind":"blend","dtype":"BF16",
      "shape":[3,2],"file":"model-00002-of-00002.safetensors","norm":0.30000000000000004,
      "rounded":2,"clipped":0,"nonfinite":0,
      "sources":[{"label":"Rose","dtype":"BF16","coefficient":0.1,"norm":1.5,"distance":0.25},
                 {"label":"Thorn X","dtype":"BF16","coefficient":0.1,"norm":1.5,"distance":0.5},
                 {"label":"Dew: lora_B * lora_A","dtype":"BF16","coefficient":0.1,"norm":1.5,
                  "distance":null}],
      "nodes":[{"node":"{Rose[0.5*Dew]+Thorn X;t(attn)=[0.25,0.75]}",
                "coefficients":[0.7071067811865476,0.7071067811865476],
                "angle":1.5707963267948966,"fell_back":false}],
      "extra_step":{"sampled":6,"changed":1}})"));
}

TEST(Manifest, NumbersThatJsonLacksAreNull) {
  Plan plan = test::small_plan("/home/me");
  std::vector<TensorFacts> facts;
  for (const Program& program : plan.programs) facts.push_back(test::fake_facts(program));
  facts[3].norm = std::numeric_limits<double>::quiet_NaN();
  facts[3].norms[0] = std::numeric_limits<double>::infinity();
  facts[3].nodes[0].coefficients[0] = -std::numeric_limits<double>::infinity();
  facts[3].nodes[0].angle = std::nullopt;
  const Json manifest = Json::parse(manifest_text(plan, facts));
  EXPECT_EQ(schema_complaint(manifest), "");
  EXPECT_TRUE(manifest["tensors"][3]["norm"].is_null());
  EXPECT_TRUE(manifest["tensors"][3]["sources"][0]["norm"].is_null());
  EXPECT_TRUE(manifest["tensors"][3]["nodes"][0]["coefficients"][0].is_null());
  EXPECT_TRUE(manifest["tensors"][3]["nodes"][0]["angle"].is_null());
}

TEST(Manifest, MendsNamesThatAreNotUtf8) {
  Plan plan = test::small_plan("/home/me");
  plan.recipe.leaves[0].name = "R\xff";
  EXPECT_EQ(Json::parse(manifest_text(plan))["leaves"][0]["name"], "R\xef\xbf\xbd");
}

TEST(Manifest, BoundHolds) {
  for (const std::size_t shards : {1U, 2U}) {
    const Plan plan = test::small_plan("/home/me", shards);
    std::vector<TensorFacts> facts;
    for (const Program& program : plan.programs) {
      facts.push_back(test::fake_facts(program));
      for (double& norm : facts.back().norms) norm = -1.7976931348623157e+308;
      facts.back().distances = facts.back().norms;
      for (double& value : facts.back().coefficients) value = -2.2250738585072014e-308;
    }
    const std::vector<WrittenFile> files = {{"config.json", 12, kHash}, {"odd\"name", 0, kHash}};
    const std::string text = manifest_text(plan, facts);
    EXPECT_GE(manifest_bound(plan, files), text.size());
    EXPECT_LE(manifest_bound(plan, files), text.size() + 1000);
  }
}

TEST(JsonNumber, ShortestThatReadsBack) {
  for (const auto& [value, text] :
       std::vector<std::pair<double, const char*>>{{0.1, "0.1"},
                                                   {1.0 / 3, "0.3333333333333333"},
                                                   {1, "1"},
                                                   {1e300, "1e+300"},
                                                   {-2.5e-9, "-2.5e-09"},
                                                   {0, "0"}}) {
    EXPECT_EQ(json_number(value), text);
    EXPECT_EQ(Json::parse(json_number(value)).get<double>(), value);
  }
}

}  // namespace
}  // namespace thorns
