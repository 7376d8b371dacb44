#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "thorns/thorns.h"

namespace thorns {
namespace {

Json read(const std::string& document) { return parse_json(document, "document"); }

TEST(ApiJson, ErrorTellsEachKindOfPlace) {
  struct Case {
    Where where;
    const char* expected;
  };
  const std::vector<Case> cases = {
      {{}, "null"},
      {KeySpan{"{A+B", 1, 2}, R"({"key_span":{"text":"{A+B","begin":1,"end":2}})"},
      {FilePlace{"a.json"}, R"({"file":"a.json"})"},
      {FilePlace{"a.json", 17}, R"({"file":"a.json","offset":17})"},
      {FilePlace{"r.yaml", std::nullopt, 3, 4}, R"({"file":"r.yaml","line":3,"column":4})"},
      {TensorPlace{"x.weight"}, R"({"tensor":"x.weight"})"},
      {TensorPlace{"x.weight", 0, "A"}, R"({"tensor":"x.weight","element":0,"source":"A"})"},
  };
  for (const Case& test : cases) {
    const Json json = read(to_json(Error(ErrorCode::BadRecipe, "no", test.where, "try")));
    EXPECT_EQ(json["schema"], "thorns/error/1");
    EXPECT_EQ(json["code"], "bad_recipe");
    EXPECT_EQ(json["message"], "no");
    EXPECT_EQ(json["hint"], "try");
    EXPECT_EQ(json["where"], Json::parse(test.expected)) << test.expected;
  }
}

TEST(ApiJson, TextThatIsNotUtf8IsReplaced) {
  const Json json = read(to_json(Error(ErrorCode::Io, "name \xFF\x1B[2J")));
  EXPECT_EQ(json["message"], "name \xEF\xBF\xBD\x1B[2J");
}

TEST(ApiJson, KeyAndMethodsKeepTheirOrder) {
  const Json key = read(to_json(
      KeyReport{"{A+B}", "slerp\n  A\n  B\n", {"`{}` = SLERP Merge"}, {"B", "A"}, {}, {}, {}, {}}));
  EXPECT_EQ(key["schema"], "thorns/key/1");
  EXPECT_EQ(key["models"], Json({"B", "A"}));
  EXPECT_TRUE(key["adapters"].is_array());
  EXPECT_EQ(key["tree"], "slerp\n  A\n  B\n");

  const std::vector<MethodInfo> list = {
      {"slerp", "s", "r", "2", {{"t", "number", "0.5", "0 to 1", "h"}}}};
  const Json methods = read(to_json(list, {}));
  EXPECT_EQ(methods["schema"], "thorns/methods/1");
  EXPECT_EQ(methods["methods"][0]["parameters"][0]["default_value"], "0.5");
  EXPECT_TRUE(read(to_json(std::vector<MethodInfo>{}, list))["methods"].empty());
}

TEST(ApiJson, PlanHoldsEveryField) {
  PlanReport report;
  report.key = "{A+B}";
  report.leaves.push_back({"A", "/a", "Llama", 3, 4, "BF16"});
  report.adapters.push_back({"L", "/l", "LoRA", "base", 5, 6});
  report.tensors = 7;
  report.bytes_in = std::numeric_limits<std::uint64_t>::max();
  report.dropped.push_back({"t", "A", "recomputed"});
  report.shards.push_back({"model.safetensors", 1, 2});
  report.warnings = {"w"};
  report.problems.emplace_back(ErrorCode::Mismatch, "m", TensorPlace{"t"}, "h");
  Json json = read(to_json(report));
  EXPECT_EQ(json["schema"], "thorns/plan/1");
  EXPECT_EQ(json.begin().key(), "schema");
  EXPECT_EQ(json["leaves"][0]["architecture"], "Llama");
  EXPECT_EQ(json["adapters"][0]["base_model"], "base");
  EXPECT_EQ(json["tensors"], 7);
  EXPECT_EQ(json["bytes_in"], std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(json["dropped"][0]["reason"], "recomputed");
  EXPECT_EQ(json["shards"][0]["bytes"], 2);
  EXPECT_TRUE(json["seconds"].is_null());
  EXPECT_EQ(json["problems"][0]["code"], "mismatch");
  EXPECT_FALSE(json["problems"][0].contains("schema"));
  for (const char* name : {"key", "merged", "copied", "cast", "bytes_read", "bytes_out", "memory",
                           "memory_ceiling", "least_memory", "disk_needed", "disk_free"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  report.seconds = 1.5;
  EXPECT_EQ(read(to_json(report))["seconds"], 1.5);
}

TEST(ApiJson, MergeHoldsItsPlanAndAngles) {
  MergeSummary summary;
  summary.plan.key = "{A+B}";
  summary.output = "out";
  summary.elements = 10;
  summary.rounded = 9;
  summary.seconds = 0.25;
  summary.nodes.push_back({"{A+B}", "slerp", AngleExtreme{0.5, "x"}, std::nullopt, 2});
  summary.first_angles.push_back({"x", {{"{A+B}", 0.5}, {"{A+B}", std::nan("")}}});
  const Json json = read(to_json(summary));
  EXPECT_EQ(json["schema"], "thorns/merge/1");
  EXPECT_EQ(json["plan"]["key"], "{A+B}");
  EXPECT_FALSE(json["plan"].contains("schema"));
  EXPECT_EQ(json["nodes"][0]["smallest"]["radians"], 0.5);
  EXPECT_TRUE(json["nodes"][0]["largest"].is_null());
  EXPECT_EQ(json["nodes"][0]["fell_back"], 2);
  EXPECT_EQ(json["first_angles"][0]["angles"][0]["key"], "{A+B}");
  EXPECT_TRUE(json["first_angles"][0]["angles"][1]["radians"].is_null());
  EXPECT_EQ(json["seconds"], 0.25);
  for (const char* name : {"merged", "copied", "cast", "dropped", "bytes_read", "bytes_written",
                           "peak_memory", "rounded", "clipped", "nonfinite", "warnings"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
}

}  // namespace
}  // namespace thorns
