// What check says of weights, against plain float64 arithmetic on whole tensors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/engine.h"
#include "engine/solve.h"
#include "insight/findings.h"
#include "insight/weights.h"
#include "support/memory_model.h"
#include "support/oracle.h"

namespace thorns {
namespace {

using namespace testing_support;

constexpr std::uint64_t kRows = 24;
constexpr std::uint64_t kColumns = 40;
const std::string kModule = "model.layers.0.mlp.up_proj";
const std::string kTensor = kModule + ".weight";

using Values = std::vector<double>;

double dot(const Values& a, const Values& b) { return reference::dot(a, b); }
class Family {
 public:
  Family() {
    const Values base = normal_values(kRows * kColumns, 1);
    put("Base", base);
    put("A", mixed(base, 0.4, 11));
    put("B", mixed(base, 0.6, 12));
    put("C", mixed(base, 0.8, 13));
    put("Twin", models["A"][0].values());
    put("Far", normal_values(kRows * kColumns, 99));
    loras["L"] = lora("L", kModule, kRows, kColumns, 4, 0.5, 100);
    loras["K"] = lora("K", kModule, kRows, kColumns, 3, 0.25, 200);
  }

  const Values values(const std::string& name) { return models.at(name)[0].values(); }
  Values delta(const std::string& name) {
    const auto& source = static_cast<const MemoryCheckpoint&>(loras.at(name)->source());
    const Update& update = loras.at(name)->updates()[0];
    Values product =
        reference::low_rank(source.data()[update.second].values(),
                            source.data()[update.first].values(), kRows, update.rank, kColumns);
    for (double& value : product) value *= update.scale;
    return product;
  }

  Plan plan(const std::string& key) {
    const KeyBinder binder({"Base", "A", "B", "C", "Twin", "Far"}, {"L", "K"});
    Recipe recipe = binder.bind(key);
    std::vector<std::unique_ptr<Checkpoint>> leaves;
    for (const RecipeLeaf& leaf : recipe.leaves) {
      leaves.push_back(std::make_unique<MemoryCheckpoint>(leaf.name, models.at(leaf.name)));
    }
    std::vector<std::unique_ptr<Adapter>> adapters;
    for (const RecipeAdapter& adapter : recipe.adapters) {
      const MemoryAdapter& from = *loras.at(adapter.name);
      adapters.push_back(std::make_unique<MemoryAdapter>(
          adapter.name, from.updates(),
          static_cast<const MemoryCheckpoint&>(from.source()).data()));
    }
    PlanResult made = make_plan(std::move(recipe), std::move(leaves), std::move(adapters), {});
    if (!made.problems.empty()) throw made.problems.front();
    return std::move(made.plan);
  }

  Models models;
  Loras loras;

 private:
  static Values mixed(Values base, double apart, std::uint64_t seed) {
    const Values change = normal_values(base.size(), seed);
    for (std::size_t i = 0; i < base.size(); ++i) base[i] += apart * change[i];
    return base;
  }
  void put(const std::string& name, const Values& values) {
    models[name] = {tensor(kTensor, Dtype::F32, {kRows, kColumns}, values)};
  }
};

struct Surveyed {
  std::vector<FoldMeasure> folds;
  std::vector<NodeMeasure> nodes;
  std::vector<Finding> findings;
  const Finding* find(const std::string& code) const {
    const auto at = std::find_if(findings.begin(), findings.end(),
                                 [&](const Finding& finding) { return finding.code == code; });
    return at == findings.end() ? nullptr : &*at;
  }
};

Surveyed survey_of(const Plan& plan) {
  WeightSurvey weights(plan);
  Observer silent;
  survey(plan, silent, {},
         [&](std::size_t program, const CellGrams& grams) { weights.add(program, grams); });
  return {weights.folds(), weights.nodes(), weights.findings()};
}

TEST(Survey, MeasuresWhatAMergeMeasures) {
  Family family;
  const Plan plan = family.plan("{{A+B}[L]+C[K]}");
  std::vector<std::vector<double>> coefficients;
  Observer silent;
  const std::uint64_t bytes = survey(plan, silent, {}, [&](std::size_t p, const CellGrams& grams) {
    coefficients.push_back(solve(plan.programs[p], grams).coefficients);
  });
  MemorySink sink(plan);
  run(plan, sink, silent, {});
  ASSERT_EQ(coefficients.size(), 1U);
  EXPECT_EQ(coefficients[0], sink.facts[0].coefficients);
  EXPECT_EQ(bytes, plan.bytes_read);
}

TEST(Survey, FoldsAgainstPlainArithmetic) {
  Family family;
  const Surveyed found = survey_of(family.plan("{A[L]+B}"));
  ASSERT_EQ(found.folds.size(), 1U);
  const Values delta = family.delta("L");
  const Values a = family.values("A");
  const Values b = family.values("B");
  EXPECT_NEAR(found.folds[0].strength, std::sqrt(dot(delta, delta) / dot(a, a)), 1e-6);
  Values apart = a;
  for (std::size_t i = 0; i < a.size(); ++i) apart[i] -= (a[i] + b[i]) / 2;
  EXPECT_NEAR(found.folds[0].overlap,
              dot(delta, apart) / std::sqrt(dot(delta, delta) * dot(apart, apart)), 1e-6);
  Values folded = a;
  for (std::size_t i = 0; i < a.size(); ++i) folded[i] += delta[i];
  const double angle =
      std::acos(dot(folded, b) / std::sqrt(dot(folded, folded)) / std::sqrt(dot(b, b)));
  EXPECT_NEAR(found.folds[0].reaches, std::sin(angle / 2) / std::sin(angle), 1e-6);
  ASSERT_EQ(found.nodes.size(), 1U);
  EXPECT_NEAR(found.nodes[0].median, angle, 1e-6);
}

TEST(Survey, WeightsOfFoldsCount) {
  Family family;
  const Surveyed whole = survey_of(family.plan("A[L]"));
  const Surveyed half = survey_of(family.plan("A[0.5*L]"));
  EXPECT_NEAR(half.folds[0].strength, whole.folds[0].strength / 2, 1e-9);
  EXPECT_NEAR(whole.folds[0].reaches, 1.0, 1e-12);
  EXPECT_NEAR(half.folds[0].reaches, 0.5, 1e-12);
}

TEST(Survey, StackedAdapters) {
  Family family;
  const Surveyed found = survey_of(family.plan("{A[L+K]+B}"));
  const Finding* stack = found.find("adapters-stacked");
  ASSERT_NE(stack, nullptr);
  EXPECT_EQ(stack->severity, Severity::Warning);
  const Values l = family.delta("L");
  const Values k = family.delta("K");
  Values sum = l;
  for (std::size_t i = 0; i < l.size(); ++i) sum[i] += k[i];
  const double squares = dot(l, l) + dot(k, k);
  EXPECT_EQ(stack->measured[1].first, "of_independent");
  EXPECT_NEAR(stack->measured[1].second, std::sqrt(dot(sum, sum) / squares), 1e-6);
  EXPECT_NEAR(stack->measured[2].second, dot(l, k) / std::sqrt(dot(l, l) * dot(k, k)), 1e-6);
  EXPECT_EQ(survey_of(family.plan("{A[L]+B[K]}")).find("adapters-stacked"), nullptr);
}

TEST(Survey, TheSameAdapterTwiceAmplifies) {
  Family family;
  const Finding* stack = nullptr;
  const Surveyed found = survey_of(family.plan("A[L][L]"));
  stack = found.find("adapters-stacked");
  ASSERT_NE(stack, nullptr);
  EXPECT_NE(stack->message.find("amplify"), std::string::npos) << stack->message;
  EXPECT_NEAR(stack->measured[1].second, std::sqrt(2.0), 1e-9);
  const Surveyed cancelled = survey_of(family.plan("A[L+-0.5*L]"));
  stack = cancelled.find("adapters-stacked");
  ASSERT_NE(stack, nullptr);
  EXPECT_NE(stack->message.find("cancel"), std::string::npos) << stack->message;
}

TEST(Survey, NodesThatAverageAndStrangers) {
  Family family;
  EXPECT_NE(survey_of(family.plan("{A+Twin}")).find("slerp-averages"), nullptr);
  EXPECT_NE(survey_of(family.plan("{A+Twin}")).find("leaves-equal"), nullptr);
  EXPECT_EQ(survey_of(family.plan("{A+B}")).find("slerp-averages"), nullptr);
  EXPECT_EQ(survey_of(family.plan("{A+B}")).find("leaves-equal"), nullptr);
  const Surveyed far = survey_of(family.plan("{A+Far}"));
  ASSERT_NE(far.find("not-one-family"), nullptr);
  EXPECT_GT(far.nodes[0].median, std::numbers::pi / 3);
  EXPECT_EQ(survey_of(family.plan("{A+C}")).find("not-one-family"), nullptr);
}

TEST(Survey, ADilutedAdapter) {
  Family family;
  const Surveyed found = survey_of(family.plan("{{{A[L]+B}+C}+Base}"));
  const Finding* diluted = found.find("adapter-diluted");
  ASSERT_NE(diluted, nullptr);
  EXPECT_EQ(diluted->severity, Severity::Warning);
  EXPECT_NEAR(diluted->measured[0].second, found.folds[0].reaches, 1e-12);
  EXPECT_EQ(survey_of(family.plan("{A+B}[L]")).find("adapter-diluted"), nullptr);
}

// In the plane of two leaves that both differ from Base independently.
TEST(Survey, ALeafThatIsTheBase) {
  Family family;
  const auto with_change = [&](const std::string& name, double sign, std::uint64_t seed) {
    const Values base = family.values("Base");
    const Values change = normal_values(base.size(), seed);
    Values values = base;
    for (std::size_t i = 0; i < base.size(); ++i) values[i] += sign * change[i];
    family.models[name] = {tensor(kTensor, Dtype::F32, {kRows, kColumns}, values)};
  };
  with_change("A", 0.5, 40);
  with_change("B", -0.5, 40);  // the opposite of what A learned
  const Surveyed found = survey_of(family.plan("{{A+B}+Base}"));
  ASSERT_NE(found.find("leaf-is-base"), nullptr);
  EXPECT_EQ(found.find("leaf-is-base")->leaf, "Base");
  ASSERT_NE(found.find("task-vectors-cancel"), nullptr);
  EXPECT_NEAR(found.find("task-vectors-cancel")->measured[0].second, -1.0, 1e-5);
  EXPECT_EQ(survey_of(Family().plan("{{A+B}+C}")).find("leaf-is-base"), nullptr);
}

TEST(RecipeFindings, AdaptersThatComeTwice) {
  const KeyBinder binder({"A", "B", "C"}, {"L", "K"});
  struct Case {
    const char* key;
    double ways;  // 0: no finding
    double weight;
  };
  for (const Case& one : std::vector<Case>{{"{A[L]+B[K]}", 0, 0},
                                           {"{A[L]+B[L]}", 2, 1},
                                           {"A[L][L]", 2, 2},
                                           {"{{A[L]+B}[L]+C}", 2, 0.75},
                                           {"{{A[L]+B}+{A[L]+C}}", 2, 0.5},
                                           {"{A[L]+3*B[0.5*L]}", 2, 0.625},
                                           {"{A[L]+B[L]; t=0.25}", 2, 1},
                                           {"{A+B}[L+K]", 0, 0}}) {
    const auto findings = recipe_findings(binder.bind(one.key), {0, 1});
    if (one.ways == 0) {
      EXPECT_TRUE(findings.empty()) << one.key;
      continue;
    }
    ASSERT_EQ(findings.size(), 1U) << one.key;
    EXPECT_EQ(findings[0].code, "adapter-repeated");
    EXPECT_EQ(findings[0].measured[0].second, one.ways) << one.key;
    EXPECT_NEAR(findings[0].measured[1].second, one.weight, 1e-12) << one.key;
  }
}

TEST(RecipeFindings, TheCaretStandsUnderTheSecondMention) {
  const KeyBinder binder({"A", "B"}, {"L"});
  const auto findings = recipe_findings(binder.bind("{A[L]+B[L]}"), {0});
  const auto& span = std::get<KeySpan>(findings.at(0).place);
  EXPECT_EQ(span.text, "{A[L]+B[L]}");
  EXPECT_EQ(span.begin, 8U);
}

TEST(RecipeFindings, OneContentUnderTwoNames) {
  const KeyBinder binder({"A", "B"}, {"L", "K"});
  const auto findings = recipe_findings(binder.bind("{A[L]+B[K]}"), {0, 0});
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[0].code, "adapter-same-content");
  EXPECT_EQ(findings[0].adapter, "K");
  EXPECT_EQ(findings[1].code, "adapter-repeated");
}

}  // namespace
}  // namespace thorns
