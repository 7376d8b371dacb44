#include "cli/summary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "cli/columns.h"

namespace thorns::cli {
namespace {

const char* const kLogic = "({({NousHermes+Chronos}[Kimiko])+({Platypus+AiroborosM2.0}[Janine])}";
const std::string kKey = std::string(kLogic) + "{Holodeck[LIMA RP]})";

// What the published key gives with 13B models.
PlanReport published_plan() {
  PlanReport plan;
  plan.key = kKey;
  for (const char* name : {"NousHermes", "Chronos", "Platypus", "AiroborosM2.0", "Holodeck"}) {
    plan.leaves.push_back(
        {name, std::string("models/") + name, "LlamaForCausalLM", 403, 26'031'000'000, "F16"});
  }
  for (const char* name : {"Kimiko", "Janine", "LIMA RP"}) {
    plan.adapters.push_back({name, std::string("adapters/") + name, "LoRA", "", 280, 104'000'000});
  }
  plan.tensors = 363;
  plan.merged = 360;
  plan.copied = 3;
  for (int layer = 0; layer < 40; ++layer) {
    plan.dropped.push_back(
        {"model.layers." + std::to_string(layer) + ".self_attn.rotary_emb.inv_freq", "NousHermes",
         "recomputed when the model is loaded"});
  }
  plan.bytes_in = 130'467'000'000;
  plan.bytes_read = plan.bytes_in;
  plan.bytes_out = 26'031'000'000;
  plan.memory = 498'000'000;
  plan.memory_ceiling = 512'000'000;
  plan.least_memory = 121'000'000;
  plan.disk_needed = 26'033'000'000;
  plan.disk_free = 300'000'000'000;
  plan.seconds = 201;
  for (int i = 1; i <= 6; ++i) {
    plan.shards.push_back(
        {"model-0000" + std::to_string(i) + "-of-00006.safetensors", 60, 4'900'000'000});
  }
  return plan;
}

MergeSummary published_merge() {
  MergeSummary merge;
  merge.plan = published_plan();
  merge.output = "13B-Thorns";
  merge.merged = 360;
  merge.copied = 3;
  merge.dropped = 40;
  merge.bytes_read = merge.plan.bytes_read;
  merge.bytes_written = merge.plan.bytes_out;
  merge.peak_memory = 431'200'000;
  merge.seconds = 201.3;
  merge.elements = 13'015'864'320;
  merge.rounded = 12'900'000'000;
  const std::vector<std::string> keys = {"{NousHermes+Chronos}", "{Platypus+AiroborosM2.0}",
                                         std::string(kLogic).substr(1), kKey};
  for (const std::string& key : keys) {
    merge.nodes.push_back({key, "slerp", AngleExtreme{0.1, "model.layers.0.input_layernorm.weight"},
                           AngleExtreme{1.5, "model.layers.39.self_attn.q_proj.weight"}, 0});
  }
  merge.nodes[0].fell_back = 2;
  for (int layer = 0; layer < 8; ++layer) {
    FirstAngles first{"model.layers." + std::to_string(layer) + ".self_attn.q_proj.weight", {}};
    for (const std::string& key : keys) first.angles.emplace_back(key, 0.5);
    merge.first_angles.push_back(first);
  }
  return merge;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void expect_narrow(const std::string& text, std::size_t width) {
  for (const std::string& line : lines_of(text)) EXPECT_LE(display_width(line), width) << line;
}

void expect_all(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nin\n" << text;
  }
}

TEST(CliSummary, PlanOfThePublishedKeyIsOneScreen) {
  const std::string text = plan_text(published_plan(), 80, false);
  expect_narrow(text, 80);
  EXPECT_LE(lines_of(text).size(), 24U) << text;
  expect_all(text, {
                       "  AiroborosM2.0  26.0 GB  403 tensors  F16  models/AiroborosM2.0\n",
                       "  LIMA RP  104.0 MB  280 updates  LoRA  adapters/LIMA RP\n",
                       "tensors   363: 360 merged, 3 copied, 0 cast, 40 dropped\n",
                       "dropped   40: recomputed when the model is loaded (NousHermes:\n",
                       "read      130.5 GB\n",
                       "write     26.0 GB in 6 files\n",
                       "memory    498.0 MB of the 512.0 MB allowed; 121.0 MB is the least",
                       "disk      26.0 GB needed, 300.0 GB free\n",
                       "time      about 3 min 21 s\n",
                   });
  EXPECT_EQ(text.find("problem"), std::string::npos);
}

TEST(CliSummary, PlanShowsTheWholeKeyBrokenIntoLines) {
  const std::vector<std::string> lines = lines_of(plan_text(published_plan(), 80, false));
  EXPECT_EQ(lines.at(1).substr(2) + lines.at(2).substr(2), kKey);
}

TEST(CliSummary, PlanTellsSecondReadsWarningsAndProblems) {
  PlanReport plan = published_plan();
  plan.bytes_read += 1'000'000'000;
  plan.seconds.reset();
  for (int i = 0; i < 9; ++i) plan.warnings.push_back("warning number " + std::to_string(i));
  plan.problems.emplace_back(ErrorCode::Mismatch, "a");
  plan.problems.emplace_back(ErrorCode::Mismatch, "b");
  const std::string text = plan_text(plan, 80, false);
  expect_all(text, {"131.5 GB, of 130.5 GB of inputs", "time      not estimated",
                    "warning   warning number 4\n", "and 4 more; -v lists them all",
                    "2 problems; merge refuses this recipe"});
  EXPECT_EQ(text.find("warning number 5"), std::string::npos);
  const std::string whole = plan_text(plan, 80, true);
  expect_all(whole, {"warning number 8", "layers.39.self_attn.rotary_emb.inv_freq",
                     "model-00006-of-00006.safetensors"});
  EXPECT_EQ(whole.find("-v lists"), std::string::npos);
}

TEST(CliSummary, MergeOfThePublishedKeyIsOneScreen) {
  const std::string text = merge_text(published_merge(), 80, false);
  expect_narrow(text, 80);
  EXPECT_LE(lines_of(text).size(), 32U) << text;
  expect_all(
      text, {
                "   1 {NousHermes+Chronos}         5.73  model.layers.0.input_layernorm.weight\n",
                "                                 85.94  model.layers.39.self_attn.q_proj.weight\n",
                "     2 tensors blended linearly",
                "First angles                                    node 1  node 2  node 3  node 4\n",
                "  model.layers.0.self_attn.q_proj.weight         28.65   28.65   28.65   28.65\n",
                "tensors   360 merged, 3 copied, 0 cast, 40 dropped\n",
                "rounded   99.1 % of 13.0 billion elements, once; 0 clipped, 0 NaN or Inf\n",
                "read      130.5 GB, as planned\n",
                "written   26.0 GB, as planned\n",
                "memory    431.2 MB at the peak of 512.0 MB allowed\n",
                "time      3 min 21 s, 777.4 MB/s read and written\n",
                "folder    13B-Thorns\n",
                "next      transformers: AutoModelForCausalLM.from_pretrained(\"13B-Thorns\")\n",
            });
}

TEST(CliSummary, MergeTellsWhatDiffersFromThePlan) {
  MergeSummary merge = published_merge();
  merge.bytes_read -= 5'000'000;
  merge.bytes_written += 1'000;
  merge.nonfinite = 3;
  merge.clipped = 4;
  expect_all(merge_text(merge, 80, false),
             {"130.5 GB, 5.0 MB less than planned", "26.0 GB, 1.0 kB more than planned",
              "4 clipped, 3 NaN or Inf"});
}

TEST(CliSummary, MergeWithoutAnglesOrConfig) {
  MergeSummary merge = published_merge();
  for (NodeSummary& node : merge.nodes) node.smallest = node.largest = std::nullopt;
  merge.plan.leaves[0].architecture.clear();
  merge.elements = 0;
  merge.seconds = 0;
  merge.output = "a \"b\"";
  const std::string text = merge_text(merge, 80, false);
  EXPECT_EQ(text.find("angle"), std::string::npos);
  expect_all(text, {"rounded   no element\n", "time      0.0 s\n", "load_file(\"a \\\"b\\\"\""});
}

TEST(CliSummary, ManyNodesAreCutUnlessAskedFor) {
  MergeSummary merge = published_merge();
  for (int i = 0; i < 30; ++i) {
    NodeSummary node = merge.nodes[1];
    node.key = "{A+" + std::to_string(i) + "}";
    merge.nodes.push_back(node);
  }
  for (const std::size_t width : {60U, 80U, 200U}) {
    const std::string text = merge_text(merge, width, false);
    expect_all(text, {"and 28 more; -v lists them all"});
    if (width >= 80) expect_narrow(text, width);
    EXPECT_LE(lines_of(text).size(), 40U);
  }
  expect_all(merge_text(merge, 80, true), {"34 {A+29}"});
}

TEST(CliSummary, NamesFromStrangersStayOnTheirLine) {
  MergeSummary merge = published_merge();
  merge.nodes[0].smallest->tensor = "a\nb\x1b[2J";
  merge.plan.dropped[0].tensor = "c\r\nd";
  PlanReport plan = published_plan();
  plan.leaves[0].path = "e\nf\x1b";
  const std::string text = merge_text(merge, 80, true) + plan_text(plan, 80, true);
  expect_all(text, {"a?b?[2J", "c??d", "e?f?"});
}

TEST(CliSummary, KeyShowsTreeCanonicalNamesAndLegend) {
  const KeyReport report{"{A+B[L]}",
                         "slerp\n  A\n  B\n",
                         {"{} = SLERP Merge", "[] = PEFT Merge"},
                         {"A", "B"},
                         {"L"},
                         {},
                         {},
                         {}};
  EXPECT_EQ(key_text(report, 80),
            "slerp\n  A\n  B\n\ncanonical\n  {A+B[L]}\n\n"
            "models    A, B\nadapters  L\nlegend    {} = SLERP Merge\n"
            "          [] = PEFT Merge\n");
}

TEST(CliSummary, MethodsAreListedAndExplained) {
  const std::vector<MethodInfo> list = {
      {"linear", "weighted sum", "Wortsman et al. 2022", "1 or more", {}},
      {"slerp",
       "spherical interpolation",
       "Shoemake 1985",
       "2",
       {{"t", "number", "0.5", "0 to 1", "position between the two"},
        {"x", "number", "", "any number", "derived"}}}};
  expect_all(methods_text(list, {{"cat", "exact sum", "PEFT", "2 or more", {}}}, 80),
             {"linear  1 or more  weighted sum\n", "slerp   2          spherical", "NAME",
              "cat          exact sum\n"});
  EXPECT_EQ(method_text(list[1], false, 80),
            "slerp\n  spherical interpolation\n\nmodels    2\nsource    Shoemake 1985\n\n"
            "Parameters\n  t: number, 0 to 1, default 0.5\n      position between the two\n"
            "  x: number, any number\n      derived\n");
}

}  // namespace
}  // namespace thorns::cli
