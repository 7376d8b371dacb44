// Models whose vocabularies differ: every rule, at every node, against a slow row-by-row
// evaluation.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "engine/engine.h"
#include "plan/memory.h"
#include "support/memory_model.h"
#include "support/oracle.h"

namespace thorns {
namespace {

using namespace testing_support;

constexpr std::uint64_t kWidth = 29;
const std::string kHeadName = "lm_head.weight";

using Row = std::vector<double>;
using RowList = std::vector<Row>;

// Heads with `rows` rows each; the common rows are apart by some 40 degrees.
Models heads(const std::map<std::string, std::uint64_t>& rows) {
  Models models;
  std::uint64_t seed = 1;
  for (const auto& [name, count] : rows) {
    const auto base = normal_values(count * kWidth, 1);
    const auto change = normal_values(count * kWidth, ++seed);
    std::vector<double> values(count * kWidth);
    for (std::size_t e = 0; e < values.size(); ++e) values[e] = base[e] + 0.7 * change[e];
    models[name] = {tensor(kHeadName, Dtype::F16, {count, kWidth}, values)};
  }
  return models;
}

class RowOracle {
 public:
  RowOracle(const Recipe& recipe, const Models& models, const Loras& loras, std::string rule)
      : recipe_(recipe), models_(models), loras_(loras), rule_(std::move(rule)) {}

  RowList head() const { return node(recipe_.root); }

 private:
  RowList node(std::size_t index) const {
    const auto& value = recipe_.nodes[index].node;
    if (const auto* leaf = std::get_if<LeafNode>(&value)) {
      RowList rows = leaf_rows(leaf->leaf);
      if (rule_ == "gradient") extend(rows);
      return rows;
    }
    if (const auto* fold = std::get_if<FoldNode>(&value)) {
      RowList rows = node(fold->model);
      const MemoryAdapter& adapter =
          *loras_.at(recipe_.adapters[fold->adapters.front().adapter].name);
      const Update& update = adapter.updates().front();
      const auto& source = static_cast<const MemoryCheckpoint&>(adapter.source());
      const std::vector<double> u = source.data()[update.second].values();
      const RowList delta = split(reference::low_rank(u, source.data()[update.first].values(),
                                                      u.size() / update.rank, update.rank, kWidth));
      for (std::size_t r = 0; r < delta.size(); ++r) {
        for (std::size_t c = 0; c < kWidth; ++c)
          rows[r][c] += fold->weight() * update.scale * delta[r][c];
      }
      return rows;
    }
    return blended(std::get<BlendNode>(value));
  }

  RowList leaf_rows(std::size_t leaf) const {
    return split(models_.at(recipe_.leaves[leaf].name).front().values());
  }

  // From the last row to that of the key's longest leaf, in equal steps.
  void extend(RowList& rows) const {
    RowList longest;
    for (std::size_t i = 0; i < recipe_.leaves.size(); ++i) {
      RowList other = leaf_rows(i);
      if (other.size() > longest.size()) longest = std::move(other);
    }
    const Row last = rows.back();
    const std::size_t missing = longest.size() - rows.size();
    for (std::size_t j = 1; j <= missing; ++j) {
      const double share = static_cast<double>(j) / static_cast<double>(missing + 1);
      Row& row = rows.emplace_back(kWidth);
      for (std::size_t c = 0; c < kWidth; ++c)
        row[c] = last[c] + share * (longest.back()[c] - last[c]);
    }
  }

  static RowList split(const std::vector<double>& values) {
    RowList rows;
    for (std::size_t e = 0; e < values.size(); e += kWidth)
      rows.emplace_back(values.begin() + static_cast<std::ptrdiff_t>(e),
                        values.begin() + static_cast<std::ptrdiff_t>(e + kWidth));
    return rows;
  }

  RowList blended(const BlendNode& blend) const {
    std::vector<RowList> models;
    for (const std::size_t model : blend.models) models.push_back(node(model));
    std::size_t least = models[0].size();
    std::size_t most = least;
    for (const RowList& rows : models) {
      least = std::min(least, rows.size());
      most = std::max(most, rows.size());
    }
    if (rule_ == "zero") {
      for (RowList& rows : models) rows.resize(most, Row(kWidth, 0.0));
      least = most;
    }
    std::vector<double> factors = blend.weights;
    if (blend.method->name() == "linear") {
      double sum = 0;
      for (const double weight : factors) sum += weight;
      for (double& factor : factors) factor /= sum;
    } else {
      factors = slerp(models[0], models[1], least, factors[1] / (factors[0] + factors[1]));
    }
    RowList result(rule_ == "truncate" ? least : most, Row(kWidth, 0.0));
    for (std::size_t r = 0; r < result.size(); ++r) {
      double sum = 0;
      for (std::size_t m = 0; m < models.size(); ++m)
        sum += r < models[m].size() ? blend.weights[m] : 0;
      for (std::size_t m = 0; m < models.size(); ++m) {
        if (r >= models[m].size()) continue;
        const double factor = r < least ? factors[m] : blend.weights[m] / sum;
        for (std::size_t c = 0; c < kWidth; ++c) result[r][c] += factor * models[m][r][c];
      }
    }
    return result;
  }

  static double dot(const RowList& a, const RowList& b, std::size_t rows) {
    double sum = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < kWidth; ++c) sum += a[r][c] * b[r][c];
    }
    return sum;
  }
  static std::vector<double> slerp(const RowList& a, const RowList& b, std::size_t rows, double t) {
    const double cosine = dot(a, b, rows) / std::sqrt(dot(a, a, rows) * dot(b, b, rows));
    if (std::abs(cosine) > 0.9995) return {1 - t, t};
    const double angle = std::acos(cosine);
    return {std::sin((1 - t) * angle) / std::sin(angle), std::sin(t * angle) / std::sin(angle)};
  }

  const Recipe& recipe_;
  const Models& models_;
  const Loras& loras_;
  std::string rule_;
};

struct MergedRows {
  Plan plan;
  std::vector<std::byte> bytes;
  TensorFacts facts;
};

PlanResult planned(const Recipe& recipe, const Models& models, const Loras& loras,
                   const PlanOptions& options) {
  std::vector<std::unique_ptr<Checkpoint>> leaves;
  for (const RecipeLeaf& leaf : recipe.leaves)
    leaves.push_back(std::make_unique<MemoryCheckpoint>(leaf.name, models.at(leaf.name)));
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (const RecipeAdapter& adapter : recipe.adapters) {
    const MemoryAdapter& from = *loras.at(adapter.name);
    adapters.push_back(std::make_unique<MemoryAdapter>(
        adapter.name, from.updates(), static_cast<const MemoryCheckpoint&>(from.source()).data()));
  }
  return make_plan(recipe, std::move(leaves), std::move(adapters), options);
}

MergedRows merged(const Recipe& recipe, const Models& models, const Loras& loras,
                  const PlanOptions& options) {
  PlanResult made = planned(recipe, models, loras, options);
  if (!made.problems.empty()) throw made.problems.front();
  MergedRows result;
  result.plan = std::move(made.plan);
  MemorySink sink(result.plan);
  Observer silent;
  run(result.plan, sink, silent, {});
  result.bytes = std::move(sink.bytes.at(0));
  result.facts = std::move(sink.facts.at(0));
  return result;
}

const std::vector<std::string> kRules = {"union", "gradient", "zero", "truncate"};

TEST(Vocabulary, EveryRuleAtEveryNode) {
  const KeyBinder binder({"A", "B", "C"}, {"L", "M"});
  const Models models = heads({{"A", 40}, {"B", 41}, {"C", 45}});
  for (const std::string& rule : kRules) {
    Exactness exactness;
    for (const char* key :
         {"{A+B}", "{B+A}", "{{A+B}+C}", "{C+{A+B}}", "{A+{B+C}}", "{{A+C}+{B+C}}", "{A+3*C}",
          "{A+B+C; linear}", "{2*A+B+3*C; linear}", "{{A+B+C; linear}+{B+A}}", "{A[L]+C}",
          "{{A+B}[M]+C}", "{{A+C}[0.5*M]+{A[L]+B}}"}) {
      SCOPED_TRACE(rule + " " + key);
      const Recipe recipe = binder.bind(key);
      // L fits A; M fits what the rule makes of the node it is folded into.
      const bool of_ab = std::string(key) == "{{A+B}[M]+C}";
      Loras loras;
      loras["L"] = lora("L", "lm_head", 40, kWidth, 4, 0.5, 100);
      loras["M"] = lora("M", "lm_head",
                        rule == "truncate" ? 40
                        : of_ab            ? 41
                                           : 45,
                        kWidth, 3, 2.0, 200);
      PlanOptions options;
      options.vocabulary = rule;
      const MergedRows got = merged(recipe, models, loras, options);
      const RowList exact = RowOracle(recipe, models, loras, rule).head();
      ASSERT_EQ(got.plan.programs[0].shape, (std::vector<std::uint64_t>{exact.size(), kWidth}));
      std::vector<double> values;
      for (const Row& row : exact) values.insert(values.end(), row.begin(), row.end());
      exactness.check(Dtype::F16, got.bytes, values, rule + " " + key);
      if (HasFatalFailure()) return;
    }
    EXPECT_GE(exactness.share(), 0.999) << rule;
  }
}

TEST(Vocabulary, UnionTakesTheOnlyRowsAsTheyAre) {
  const KeyBinder binder({"A", "C"}, {});
  const Models models = heads({{"A", 40}, {"C", 45}});
  const MergedRows got = merged(binder.bind("{A+C; t=0.1}"), models, {}, {});
  const auto& stored = models.at("C").front().bytes;
  const auto own = static_cast<std::ptrdiff_t>(40 * kWidth * 2);
  EXPECT_TRUE(std::equal(stored.begin() + own, stored.end(), got.bytes.begin() + own));
  ASSERT_EQ(got.facts.blocks.size(), 2U);
  EXPECT_EQ(got.facts.blocks[1], (std::vector<double>{0.0, 1.0}));
  ASSERT_EQ(got.plan.warnings.size(), 1U);
  EXPECT_NE(got.plan.warnings[0].find("40 in A; 45 in C"), std::string::npos)
      << got.plan.warnings[0];
}

// A model that is folded into by an adapter with other rows has no last row to start from.
TEST(Vocabulary, GradientExtendsModelsAlone) {
  const KeyBinder binder({"A", "C"}, {"L"});
  const Models models = heads({{"A", 40}, {"C", 45}});
  PlanOptions options;
  options.vocabulary = "gradient";
  for (const std::uint64_t rows : {44U, 45U, 46U}) {
    Update update;
    update.kind = UpdateKind::Replace;
    update.module = "lm_head";
    update.parameter = "weight";
    Loras loras;
    loras["L"] = std::make_unique<MemoryAdapter>(
        "L", std::vector<Update>{update},
        std::vector<MemoryTensor>{
            tensor("lm_head.weight", Dtype::F16, {rows, kWidth}, normal_values(rows * kWidth, 7))});
    const PlanResult plan = planned(binder.bind("{A[L]+C}"), models, loras, options);
    EXPECT_EQ(plan.problems.size(), rows == 45 ? 0U : 1U);
    EXPECT_TRUE(planned(binder.bind("A[L]"), models, loras, options).problems.empty());
  }
}

TEST(Vocabulary, IntegersOfOtherLengthAreRefused) {
  const KeyBinder binder({"A", "C"}, {});
  Models models;
  for (const std::uint64_t rows : {3U, 4U}) {
    MemoryTensor head{kHeadName, Dtype::I32, {rows, 2}, std::vector<std::byte>(rows * 8)};
    models[rows == 3 ? "A" : "C"] = {head};
  }
  const PlanResult plan = planned(binder.bind("{A+C}"), models, {}, {});
  ASSERT_EQ(plan.problems.size(), 1U);
  EXPECT_NE(plan.problems[0].message().find("integer tensor"), std::string::npos);
}

TEST(Vocabulary, BytesDoNotDependOnMemoryOrThreads) {
  const KeyBinder binder({"A", "B", "C"}, {"L"});
  const Models models = heads({{"A", 5000}, {"B", 5001}, {"C", 7400}});
  Loras loras;
  loras["L"] = lora("L", "lm_head", 5000, kWidth, 4, 0.5, 100);
  const Recipe recipe = binder.bind("{{A[L]+C}+{B+C}}");
  for (const std::string& rule : kRules) {
    if (rule != "union") loras["L"] = lora("L", "lm_head", 5000, kWidth, 4, 0.5, 100);
    PlanOptions options;
    options.vocabulary = rule;
    const MergedRows first = merged(recipe, models, loras, options);
    for (const std::size_t threads : {1, 3}) {
      options.threads = threads;
      const std::uint64_t least = least_memory(first.plan, threads);
      for (const std::uint64_t memory : {least, least + 1'500'000}) {
        options.memory = memory;
        const MergedRows again = merged(recipe, models, loras, options);
        EXPECT_EQ(again.bytes, first.bytes) << rule << " " << threads << " " << memory;
        EXPECT_LE(again.plan.memory.total(), memory);
      }
    }
  }
}

TEST(Vocabulary, StrictAndOtherTensorsAreRefused) {
  const KeyBinder binder({"A", "C"}, {});
  const Recipe recipe = binder.bind("{A+C}");
  PlanOptions options;
  options.vocabulary = "strict";
  const PlanResult strict = planned(recipe, heads({{"A", 40}, {"C", 45}}), {}, options);
  ASSERT_EQ(strict.problems.size(), 1U);
  EXPECT_NE(strict.problems[0].hint().find("--vocabulary union"), std::string::npos);

  Models other = heads({{"A", 40}, {"C", 45}});
  for (auto& [name, tensors] : other) tensors.front().name = "model.layers.0.mlp.up_proj.weight";
  EXPECT_EQ(planned(recipe, other, {}, {}).problems.size(), 1U);

  options.vocabulary = "unoin";
  EXPECT_EQ(planned(recipe, heads({{"A", 40}, {"C", 45}}), {}, options).problems.front().code(),
            ErrorCode::BadRecipe);
}

}  // namespace
}  // namespace thorns
