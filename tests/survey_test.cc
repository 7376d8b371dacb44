// What check says of weights, against plain float64 arithmetic on whole tensors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "engine/engine.h"
#include "engine/solve.h"
#include "insight/findings.h"
#include "insight/placement.h"
#include "insight/subspaces.h"
#include "insight/weights.h"
#include "support/expect_error.h"
#include "support/memory_model.h"
#include "support/oracle.h"

namespace thorns {
namespace {

using namespace testing_support;

constexpr std::uint64_t kSurveyRows = 24;
constexpr std::uint64_t kSurveyColumns = 40;
const std::string kModule = "model.layers.0.mlp.up_proj";
const std::string kSurveyTensor = kModule + ".weight";

using Numbers = std::vector<double>;

double dot(const Numbers& a, const Numbers& b) { return reference::dot(a, b); }
class Family {
 public:
  Family() {
    const Numbers base = normal_values(kSurveyRows * kSurveyColumns, 1);
    put("Base", base);
    put("A", mixed(base, 0.4, 11));
    put("B", mixed(base, 0.6, 12));
    put("C", mixed(base, 0.8, 13));
    put("Twin", models["A"][0].values());
    put("Far", normal_values(kSurveyRows * kSurveyColumns, 99));
    loras["L"] = lora("L", kModule, kSurveyRows, kSurveyColumns, 4, 0.5, 100);
    loras["K"] = lora("K", kModule, kSurveyRows, kSurveyColumns, 3, 0.25, 200);
  }

  const Numbers values(const std::string& name) { return models.at(name)[0].values(); }
  Numbers delta(const std::string& name) {
    const auto& source = static_cast<const MemoryCheckpoint&>(loras.at(name)->source());
    const Update& update = loras.at(name)->updates()[0];
    Numbers product = reference::low_rank(source.data()[update.second].values(),
                                          source.data()[update.first].values(), kSurveyRows,
                                          update.rank, kSurveyColumns);
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
          adapter.name, from.updates(), static_cast<const MemoryCheckpoint&>(from.source()).data(),
          bases[adapter.name]));
    }
    PlanResult made = make_plan(std::move(recipe), std::move(leaves), std::move(adapters), {});
    if (!made.problems.empty()) throw made.problems.front();
    return std::move(made.plan);
  }

  Models models;
  Loras loras;
  std::map<std::string, std::string> bases;  // of the adapters, as their configurations name them

 private:
  static Numbers mixed(Numbers base, double apart, std::uint64_t seed) {
    const Numbers change = normal_values(base.size(), seed);
    for (std::size_t i = 0; i < base.size(); ++i) base[i] += apart * change[i];
    return base;
  }
  void put(const std::string& name, const Numbers& values) {
    models[name] = {tensor(kSurveyTensor, Dtype::F32, {kSurveyRows, kSurveyColumns}, values)};
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
  const Numbers delta = family.delta("L");
  const Numbers a = family.values("A");
  const Numbers b = family.values("B");
  EXPECT_NEAR(found.folds[0].strength, std::sqrt(dot(delta, delta) / dot(a, a)), 1e-6);
  Numbers apart = a;
  for (std::size_t i = 0; i < a.size(); ++i) apart[i] -= (a[i] + b[i]) / 2;
  EXPECT_NEAR(found.folds[0].overlap,
              dot(delta, apart) / std::sqrt(dot(delta, delta) * dot(apart, apart)), 1e-6);
  Numbers folded = a;
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
  const Numbers l = family.delta("L");
  const Numbers k = family.delta("K");
  Numbers sum = l;
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
    const Numbers base = family.values("Base");
    const Numbers change = normal_values(base.size(), seed);
    Numbers values = base;
    for (std::size_t i = 0; i < base.size(); ++i) values[i] += sign * change[i];
    family.models[name] = {
        tensor(kSurveyTensor, Dtype::F32, {kSurveyRows, kSurveyColumns}, values)};
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

// W times 1 + 1/10 of its column.
class Stretch final : public MapChange, public RowMap {
 public:
  static double factor(std::uint64_t element) {
    return 1 + static_cast<double>(element % kSurveyColumns) / 10;
  }
  bool fits(const BaseTensor&) const override { return true; }
  std::string expected() const override { return {}; }
  std::vector<std::size_t> tensors() const override { return {}; }
  std::uint64_t memory(const BaseTensor&) const override { return 0; }
  bool elementwise() const override { return true; }
  std::unique_ptr<RowMap> load(const TensorSource&, const BaseTensor&) const override {
    return std::make_unique<Stretch>();
  }
  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i] * factor(first + i);
  }
};

// Every row to the norm 1.
class UnitRows final : public NormChange {
 public:
  bool fits(const BaseTensor&) const override { return true; }
  std::string expected() const override { return {}; }
  std::vector<std::size_t> tensors() const override { return {}; }
  std::uint64_t memory(const BaseTensor&) const override { return 0; }
  bool by_column(const BaseTensor&) const override { return false; }
  std::vector<std::optional<double>> load(const TensorSource&, const BaseTensor&) const override {
    return std::vector<std::optional<double>>(kSurveyRows, 1.0);
  }
};

TEST(Survey, MapsAndNormalisationsAreFoldsLikeOthers) {
  Family family;
  const auto changing = [&](UpdateKind kind, std::shared_ptr<Change> change) {
    Update update = family.loras.at("L")->updates()[0];
    update.kind = kind;
    update.change = std::move(change);
    update.scale = 1;
    return std::make_unique<MemoryAdapter>("L", std::vector<Update>{update},
                                           std::vector<MemoryTensor>{});
  };
  const Numbers a = family.values("A");
  const Numbers b = family.values("B");
  const auto expect = [&](const Numbers& changed, const std::string& key, double weight) {
    Numbers delta = changed;
    for (std::size_t i = 0; i < a.size(); ++i) delta[i] = weight * (delta[i] - a[i]);
    const Surveyed found = survey_of(family.plan(key));
    ASSERT_EQ(found.folds.size(), 1U) << key;
    EXPECT_NEAR(found.folds[0].strength, std::sqrt(dot(delta, delta) / dot(a, a)), 1e-6) << key;
    Numbers apart = a;
    for (std::size_t i = 0; i < a.size(); ++i) apart[i] -= (a[i] + b[i]) / 2;
    EXPECT_NEAR(found.folds[0].overlap,
                dot(delta, apart) / std::sqrt(dot(delta, delta) * dot(apart, apart)), 1e-6)
        << key;
    EXPECT_NEAR(found.folds[0].reaches, 0.5 * weight, 1e-6) << key;
  };
  Numbers stretched = a;
  for (std::size_t i = 0; i < a.size(); ++i) stretched[i] *= Stretch::factor(i);
  family.loras["L"] = changing(UpdateKind::Map, std::make_shared<Stretch>());
  expect(stretched, "{A[L]+B;linear}", 1);
  expect(stretched, "{A[0.5*L]+B;linear}", 0.5);
  Numbers unit = a;
  for (std::uint64_t row = 0; row < kSurveyRows; ++row) {
    double square = 0;
    for (std::uint64_t i = 0; i < kSurveyColumns; ++i)
      square += std::pow(a[row * kSurveyColumns + i], 2);
    for (std::uint64_t i = 0; i < kSurveyColumns; ++i)
      unit[row * kSurveyColumns + i] /= std::sqrt(square);
  }
  family.loras["L"] = changing(UpdateKind::Normalise, std::make_shared<UnitRows>());
  expect(unit, "{A[L]+B;linear}", 1);
  expect(unit, "{A[0.5*L]+B;linear}", 0.5);
}

// Spaces in the plane of two unit vectors each: equal in one direction, `angle` apart in the other.
TEST(Subspaces, PrincipalAnglesOfKnownSpaces) {
  const double angle = 0.3;
  const auto c = static_cast<float>(std::cos(angle));
  const auto s = static_cast<float>(std::sin(angle));
  // Bases that are neither orthogonal nor of one length; the last row adds nothing.
  const std::vector<float> a = {2, 0, 0, 0, 1, 3, 0, 0, 3, 3, 0, 0};
  const std::vector<float> b = {5, 0, 0, 0, -2, 7 * c, 7 * s, 0};
  const SharedSpace shared = shared_space(a, b, 4);
  EXPECT_NEAR(shared.share, (1 + std::cos(angle) * std::cos(angle)) / 2, 1e-6);
  EXPECT_NEAR(shared.chance, 0.5, 1e-12);
  EXPECT_NEAR(shared.smallest, 0, 1e-3);
  const SharedSpace apart = shared_space(std::vector<float>{0, 0, c, s}, a, 4);
  EXPECT_NEAR(apart.share, 0, 1e-12);
  EXPECT_NEAR(apart.smallest, std::numbers::pi / 2, 1e-6);
  EXPECT_EQ(shared_space(std::vector<float>(4), a, 4).share, 0);
}

TEST(Subspaces, FitIsTheShareOfTheModelToThatOfChance) {
  const std::vector<float> v = {0, 4, 0, 0};
  EXPECT_NEAR(*space_fit(std::vector<double>{1, 1, 1, 1, 1, -1, 1, 1}, v, 4), 1, 1e-12);
  EXPECT_NEAR(*space_fit(std::vector<double>{0, 2, 0, 0}, v, 4), 4, 1e-12);
  EXPECT_EQ(space_fit(std::vector<double>(4), v, 4), std::nullopt);
  EXPECT_EQ(space_fit(std::vector<double>(4, 1.0), std::vector<float>(4), 4), std::nullopt);
}

TEST(Subspaces, FindingsOfARecipe) {
  Family family;
  // A model whose rows lie in the input space of L.
  const Numbers delta = family.delta("L");
  Numbers near = family.values("B");
  for (std::size_t i = 0; i < near.size(); ++i) near[i] = 0.2 * near[i] + delta[i];
  family.models["B"] = {tensor(kSurveyTensor, Dtype::F32, {kSurveyRows, kSurveyColumns}, near)};
  const Plan plan = family.plan("{A[L+K]+B}");
  Observer silent;
  const SubspaceSurvey spaces(plan, 2, silent);
  Surveyed found = survey_of(plan);
  spaces.complete(found.findings);
  const Finding* stack = found.find("adapters-stacked");
  ASSERT_NE(stack, nullptr);
  const auto factor = [&](const std::string& name) {
    const auto& source = static_cast<const MemoryCheckpoint&>(family.loras.at(name)->source());
    const Numbers values = source.data()[family.loras.at(name)->updates()[0].first].values();
    return std::vector<float>(values.begin(), values.end());
  };
  const SharedSpace shared = shared_space(factor("L"), factor("K"), kSurveyColumns);
  ASSERT_EQ(stack->measured.size(), 7U);
  EXPECT_EQ(stack->measured[4].first, "shared_inputs");
  EXPECT_NEAR(stack->measured[4].second, shared.share, 1e-12);
  EXPECT_NEAR(stack->measured[5].second, 4.0 / kSurveyColumns, 1e-12);
  const Finding* fit = found.find("adapter-fits-another");
  ASSERT_NE(fit, nullptr);
  EXPECT_EQ(fit->adapter, "L");
  EXPECT_EQ(fit->leaf, "B");
}

Suggestion suggestion_of(const Plan& plan) {
  std::vector<std::size_t> same(plan.adapters.size());
  std::iota(same.begin(), same.end(), std::size_t{0});
  WeightSurvey weights(plan);
  PlacementSurvey places(plan, same);
  Observer silent;
  survey(plan, silent, {}, [&](std::size_t program, const CellGrams& grams) {
    weights.add(program, grams);
    places.add(program, grams);
  });
  return places.suggest(weights.base());
}

TEST(Placement, TheTableAgainstPlainArithmetic) {
  Family family;
  const Suggestion found = suggestion_of(family.plan("{3*A[0.5*L]+B;linear}[K]"));
  const Numbers a = family.values("A");
  const Numbers b = family.values("B");
  Numbers l = family.delta("L");
  for (double& value : l) value *= 0.5;
  ASSERT_EQ(found.table.size(), 6U);
  EXPECT_EQ(found.seen_from, "");
  const std::vector<std::string> models = {"A", "B", "{3*A+B;linear}"};
  const std::vector<double> reaches = {0.75, 0.25, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    Numbers model = a;
    for (std::size_t e = 0; e < a.size(); ++e) {
      model[e] = i == 0 ? a[e] : i == 1 ? b[e] : 0.75 * a[e] + 0.25 * b[e];
    }
    const PlacementMeasure& one = found.table[i];
    EXPECT_EQ(one.adapter, "L");
    EXPECT_NEAR(one.strength, std::sqrt(dot(l, l) / dot(model, model)), 1e-6);
    EXPECT_NEAR(one.reaches, 0.5 * reaches[i], 1e-6);
    for (std::size_t e = 0; e < a.size(); ++e) model[e] -= (a[e] + b[e]) / 2;
    EXPECT_NEAR(one.held, dot(l, model) / dot(l, l), 1e-6);
  }
}

TEST(Placement, AdaptersGoToPartsOfTheirOwn) {
  Family family;
  EXPECT_EQ(suggestion_of(family.plan("{A+B}[L]")).key, "{A+B}[L]");
  EXPECT_EQ(suggestion_of(family.plan("{A[L]+{B+C}}")).key, "A{B+C}[L]");
  const std::string both = suggestion_of(family.plan("({A[L+K]+B})")).key;
  EXPECT_TRUE(both == "({A[L]+B[K]})" || both == "({A[K]+B[L]})") << both;
  const Suggestion uneven = suggestion_of(family.plan("{{A+B}+C}[L+K]"));
  EXPECT_EQ(uneven.chosen.size(), 2U);
  EXPECT_EQ(uneven.chosen[0].model, "{A+B}");
  EXPECT_EQ(uneven.chosen[1].model, "C");
  EXPECT_EQ(suggestion_of(family.plan("A[K][0.5*L]")).key, "A[K+0.5*L]");
}

TEST(Placement, AModelThatHasItAlreadyIsLeftAlone) {
  Family family;
  Numbers with_l = family.values("A");
  const Numbers delta = family.delta("L");
  for (std::size_t i = 0; i < delta.size(); ++i) with_l[i] += delta[i];
  family.models["B"] = {tensor(kSurveyTensor, Dtype::F32, {kSurveyRows, kSurveyColumns}, with_l)};
  const Suggestion found = suggestion_of(family.plan("{A[K]+B[L]}"));
  EXPECT_EQ(found.key, "{A[L]+B[K]}");
  const auto row = std::find_if(found.table.begin(), found.table.end(), [](const auto& one) {
    return one.adapter == "L" && one.model == "B";
  });
  EXPECT_NEAR(row->held, 0.5, 1e-5);  // seen from the mean, which has half of it
}

TEST(Placement, AnAdapterStaysWithTheModelItWasTrainedOn) {
  Family family;
  family.bases = {{"L", "somebody/B"}, {"K", "A"}};
  EXPECT_EQ(suggestion_of(family.plan("{A+B}[L+K]")).key, "{A[K]+B[L]}");
  family.bases = {{"L", "A"}, {"K", "somebody/b"}};
  EXPECT_EQ(suggestion_of(family.plan("{A+B}[L+K]")).key, "{A[L]+B[K]}");
  family.bases = {{"L", "A"}, {"K", "Elsewhere"}};
  EXPECT_EQ(suggestion_of(family.plan("{A+B}[L+K]")).key, "{A[L]+B[K]}");
}

TEST(Placement, NothingToPlaceIsAnError) {
  Family family;
  expect_error(error_of([&] { suggestion_of(family.plan("{A+B}")); }), ErrorCode::BadUsage,
               "folds no adapter", "{A+B}[L+K]");
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
