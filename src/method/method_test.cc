#include "method/method.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>

namespace thorns {
namespace {

using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Blended {
  Vector vector;
  Coefficients how;
};

// What the engine does: measure, solve, blend.
Blended blend(const char* method, const std::vector<Vector>& models, Vector weights = {},
              std::vector<std::optional<double>> parameters = {}) {
  const SpanMethod* found = find_method(method);
  EXPECT_NE(found, nullptr);
  Vector products;
  for (const Vector& a : models) {
    for (const Vector& b : models) products.push_back(dot(a, b));
  }
  weights.resize(models.size(), 1.0);
  if (parameters.empty()) {
    for (const Parameter& parameter : found->parameters()) {
      parameters.push_back(parameter.default_value);
    }
  }
  Blended result;
  result.how = found->coefficients(Gram(products, models.size()), weights, parameters);
  result.vector.assign(models[0].size(), 0.0);
  for (std::size_t m = 0; m < models.size(); ++m) {
    for (std::size_t i = 0; i < result.vector.size(); ++i) {
      result.vector[i] += result.how.values[m] * models[m][i];
    }
  }
  return result;
}

Blended slerp(const Vector& a, const Vector& b, std::optional<double> t = {}) {
  return blend("slerp", {a, b}, {}, {t});
}

void expect_near(const Vector& a, const Vector& b, double tolerance = 1e-12) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance) << "at " << i;
}

Vector random_vector(std::mt19937_64& random, std::size_t size, double scale = 1) {
  std::normal_distribution<double> normal;
  Vector result(size);
  for (double& x : result) x = scale * normal(random);
  return result;
}

// The textbook, in long double, without Gram matrix: norms, dot product, angle, sines.
Vector slow_slerp(const Vector& a, const Vector& b, long double t) {
  long double aa = 0;
  long double bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    aa += static_cast<long double>(a[i]) * a[i];
    bb += static_cast<long double>(b[i]) * b[i];
  }
  long double cosine = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    cosine += (a[i] / std::sqrt(aa)) * (b[i] / std::sqrt(bb));
  }
  const long double angle = std::acos(cosine);
  Vector result(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    result[i] = static_cast<double>(std::sin((1 - t) * angle) / std::sin(angle) * a[i] +
                                    std::sin(t * angle) / std::sin(angle) * b[i]);
  }
  return result;
}

TEST(Catalogue, HoldsEveryMethodOnceByName) {
  const auto& all = method_catalogue();
  ASSERT_GE(all.size(), 2U);
  for (std::size_t i = 0; i + 1 < all.size(); ++i) EXPECT_LT(all[i]->name(), all[i + 1]->name());
  for (const SpanMethod* method : all) {
    SCOPED_TRACE(method->name());
    EXPECT_EQ(find_method(method->name()), method);
    EXPECT_FALSE(method->summary().empty());
    EXPECT_FALSE(method->reference().empty());
    EXPECT_LE(method->least_models(), method->most_models());
    for (const Parameter& parameter : method->parameters()) {
      EXPECT_FALSE(parameter.help.empty());
      EXPECT_EQ(parameter.help.find('\n'), std::string::npos);
      EXPECT_LE(parameter.least, parameter.most);
      if (parameter.default_value) {
        EXPECT_GE(*parameter.default_value, parameter.least);
        EXPECT_LE(*parameter.default_value, parameter.most);
      }
    }
  }
  EXPECT_EQ(find_method("Slerp"), nullptr);
  EXPECT_EQ(find_method(""), nullptr);
}

// Laws that any method with equal weights holds.
TEST(Catalogue, MergingAModelWithItselfChangesNothing) {
  std::mt19937_64 random(3);
  const Vector a = random_vector(random, 50);
  for (const SpanMethod* method : method_catalogue()) {
    SCOPED_TRACE(method->name());
    expect_near(blend(method->name().c_str(), {a, a}).vector, a);
  }
}

TEST(Slerp, AgreesWithTheTextbook) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    const Vector a = random_vector(random, 64, std::exp2(round % 9));
    const Vector b = random_vector(random, 64, std::exp2(-(round % 7)));
    const double t = static_cast<double>(round % 21) / 20;
    const Blended result = slerp(a, b, t);
    EXPECT_FALSE(result.how.fell_back);
    expect_near(result.vector, slow_slerp(a, b, t), 1e-11);
    ASSERT_TRUE(result.how.angle);
    EXPECT_NEAR(*result.how.angle, std::acos(dot(a, b) / std::sqrt(dot(a, a) * dot(b, b))), 1e-12);
  }
}

TEST(Slerp, EndsAreTheModelsExactly) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 50; ++round) {
    const Vector a = random_vector(random, 16);
    const Vector b = random_vector(random, 16);
    EXPECT_EQ(slerp(a, b, 0).how.values, (Vector{1, 0}));
    EXPECT_EQ(slerp(a, b, 1).how.values, (Vector{0, 1}));
    EXPECT_EQ(slerp(a, a, 0).how.values, (Vector{1, 0}));
  }
}

TEST(Slerp, IsSymmetricAndKeepsTheNorm) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 50; ++round) {
    const Vector a = random_vector(random, 32);
    Vector b = random_vector(random, 32);
    const double scale = std::sqrt(dot(a, a) / dot(b, b));
    for (double& x : b) x *= scale;
    for (const double t : {0.1, 0.25, 0.5, 0.9}) {
      const Blended ab = slerp(a, b, t);
      expect_near(ab.vector, slerp(b, a, 1 - t).vector, 1e-13);
      EXPECT_NEAR(dot(ab.vector, ab.vector), dot(a, a), 1e-11);
      // The part of the angle that has been gone is t.
      const double gone = std::acos(dot(ab.vector, a) / dot(a, a));
      EXPECT_NEAR(gone, t * *ab.how.angle, 1e-10);
    }
  }
}

TEST(Slerp, WeightsAreThePlaceOnTheArc) {
  const Vector a = {1, 0};
  const Vector b = {0, 2};
  const auto by_weights = [&](Vector weights) {
    return blend("slerp", {a, b}, std::move(weights), {std::nullopt}).how.values;
  };
  EXPECT_EQ(by_weights({1, 3}), slerp(a, b, 0.75).how.values);
  EXPECT_EQ(by_weights({3, 1}), slerp(a, b, 0.25).how.values);
  expect_near(by_weights({0.1, 0.3}), by_weights({0.25, 0.75}), 1e-15);
  EXPECT_EQ(slerp(a, b).how.values, slerp(a, b, 0.5).how.values);
  EXPECT_NEAR(slerp(a, b).how.values[0], std::numbers::sqrt2 / 2, 1e-15);
  EXPECT_NEAR(*slerp(a, b).how.angle, std::numbers::pi / 2, 1e-15);
}

TEST(Slerp, FallsBackWhereTheArcIsUndefined) {
  const Vector a = {3, 4};
  const auto expect_linear = [](const Blended& result, double t) {
    EXPECT_TRUE(result.how.fell_back);
    EXPECT_EQ(result.how.values, (Vector{1 - t, t}));
  };
  // Parallel, opposite.
  expect_linear(slerp(a, {6, 8}, 0.3), 0.3);
  EXPECT_EQ(*slerp(a, {6, 8}, 0.3).how.angle, 0.0);
  expect_linear(slerp(a, {-3, -4}, 0.3), 0.3);
  EXPECT_EQ(*slerp(a, {-3, -4}, 0.3).how.angle, std::numbers::pi);
  // Zero vectors have no angle.
  for (const auto& [x, y] : {std::pair<Vector, Vector>{{0, 0}, a}, {a, {0, 0}}, {{0, 0}, {0, 0}}}) {
    expect_linear(slerp(x, y, 0.25), 0.25);
    EXPECT_FALSE(slerp(x, y, 0.25).how.angle);
  }
  // On both sides of the limit.
  for (const double sign : {1.0, -1.0}) {
    const double limit = std::acos(0.9995);
    const auto at = [&](double angle) {
      return slerp({1, 0}, {sign * std::cos(angle), std::sin(angle)}, 0.5);
    };
    EXPECT_TRUE(at(limit * 0.999).how.fell_back);
    EXPECT_FALSE(at(limit * 1.001).how.fell_back);
    EXPECT_TRUE(at(limit * 0.999).how.angle);
  }
}

TEST(Slerp, ACosineAboveOneIsClamped) {
  // Rounding of the dot products can put the cosine outside [-1, 1].
  const Vector products = {1, 1.0000000001, 1.0000000001, 1};
  const Vector weights = {1, 1};
  const std::vector<std::optional<double>> t = {0.5};
  const auto result = find_method("slerp")->coefficients(Gram(products, 2), weights, t);
  EXPECT_EQ(result.angle, 0.0);
  EXPECT_TRUE(result.fell_back);
}

TEST(Slerp, SurvivesNormsOfAnySize) {
  const std::vector<std::optional<double>> t = {0.5};
  const Vector weights = {1, 1};
  for (const double norm : {1e-150, 1e150, 1e154}) {
    const Vector products = {norm * norm, 0, 0, norm * norm};
    const auto result = find_method("slerp")->coefficients(Gram(products, 2), weights, t);
    EXPECT_FALSE(result.fell_back) << norm;
    EXPECT_NEAR(result.values[0], std::numbers::sqrt2 / 2, 1e-15);
  }
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    const Vector products = {bad, bad, bad, bad};
    const auto result = find_method("slerp")->coefficients(Gram(products, 2), weights, t);
    EXPECT_TRUE(result.fell_back);
    EXPECT_EQ(result.values, (Vector{0.5, 0.5}));
    EXPECT_FALSE(result.angle);
  }
}

std::optional<SpanMethod::Complaint> complaint(const char* method, std::size_t models,
                                               const Vector& weights = {},
                                               const std::vector<Setting>& settings = {}) {
  return find_method(method)->check({models, weights, settings});
}

TEST(Slerp, ComplainsOfUsesWithoutMeaning) {
  EXPECT_FALSE(complaint("slerp", 2));
  EXPECT_FALSE(complaint("slerp", 2, {1, 3}));
  EXPECT_FALSE(complaint("slerp", 2, {0, 3}));
  EXPECT_FALSE(complaint("slerp", 2, {-1, -3}));  // relative: t = 0.75
  EXPECT_FALSE(complaint("slerp", 2, {}, {{0, "", {0.5}}}));
  for (const std::size_t models : {1U, 3U, 20U}) {
    const auto found = complaint("slerp", models);
    ASSERT_TRUE(found);
    EXPECT_NE(found->message.find("SLERP merges exactly two models"), std::string::npos);
    for (const char* part : {"`{{A+B}+C}`", "karcher", "multislerp", "`{A+B+C; linear}`"}) {
      EXPECT_NE(found->hint.find(part), std::string::npos) << found->hint;
    }
    // What the catalogue lacks is not offered as a spelling.
    for (const char* name : {"karcher", "multislerp"}) {
      const bool offered = found->hint.find("; " + std::string(name) + "}") != std::string::npos;
      EXPECT_EQ(offered, find_method(name) != nullptr);
    }
  }
  const auto both = complaint("slerp", 2, {0.3, 1}, {{0, "q", {0.5}}});
  ASSERT_TRUE(both);
  EXPECT_NE(both->message.find("both weights and `t`"), std::string::npos);
  EXPECT_EQ(both->setting, 0U);
  for (const Vector& weights : {Vector{-1, 3}, Vector{1, -3}, Vector{0, 0}, Vector{1, -1}}) {
    const auto outside = complaint("slerp", 2, weights);
    ASSERT_TRUE(outside);
    EXPECT_NE(outside->message.find("outside the arc"), std::string::npos);
  }
}

TEST(Linear, IsTheWeightedSum) {
  const Vector a = {1, 2};
  const Vector b = {10, 20};
  const Vector c = {100, 200};
  expect_near(blend("linear", {a, b, c}).vector, {37, 74});
  expect_near(blend("linear", {a, b}, {1, 3}).vector, {7.75, 15.5});
  expect_near(blend("linear", {a, b}, {1, 3}, {0.0}).vector, {31, 62});
  expect_near(blend("linear", {a, b}, {1, -1}, {0.0}).vector, {-9, -18});
  expect_near(blend("linear", {a, b}, {3, -1}).vector, {-3.5, -7});
  expect_near(blend("linear", {a}, {5}).vector, a);
  const auto how = blend("linear", {a, b}).how;
  EXPECT_FALSE(how.angle);
  EXPECT_FALSE(how.fell_back);
}

TEST(Linear, ComplainsOfWeightsThatCannotBeNormalised) {
  const auto expect_complaint = [](const Vector& weights, const std::vector<Setting>& settings) {
    const auto found = complaint("linear", weights.size(), weights, settings);
    ASSERT_TRUE(found);
    EXPECT_NE(found->message.find("normalised"), std::string::npos);
    EXPECT_NE(found->hint.find("normalize=false"), std::string::npos);
  };
  expect_complaint({1, -1}, {});
  expect_complaint({0, 0, 0}, {{0, "", {1}}});
  expect_complaint({1, -1}, {{0, "mlp", {0}}});
  expect_complaint({1, -1}, {{0, "mlp", {1}}, {0, "", {0}}});
  expect_complaint({1e308, 1e308}, {});
  expect_complaint({1e308, 1e-320, -1e308}, {});
  EXPECT_FALSE(complaint("linear", 2, {1, -1}, {{0, "", {0}}}));
  EXPECT_FALSE(complaint("linear", 2, {1, -1}, {{0, "", {0}}, {0, "mlp", {1}}}));
  EXPECT_FALSE(complaint("linear", 2, {1, -1}, {{0, "mlp", {0}}, {0, "", {0}}}));
  EXPECT_FALSE(complaint("linear", 2, {2, -1}));
  EXPECT_FALSE(complaint("linear", 9));
  EXPECT_TRUE(complaint("linear", 0));
}

struct PositionCase {
  const char* tensor;
  LayerPosition::Part part;
  std::size_t layer;
  std::size_t layers;
};

TEST(Layers, PositionsFollowTheNames) {
  const std::vector<std::string> names = {"model.layers.0.self_attn.q_proj.weight",
                                          "model.layers.31.mlp.experts.63.w1.weight",
                                          "transformer.h.11.attn.c_attn.weight",
                                          "decoder.block.5.layer.2.DenseReluDense.wi.weight",
                                          "vision.resblocks.23.attn.weight",
                                          "h.3.ln_1.bias",
                                          "layers",
                                          "layers.x.0.weight",
                                          "model.layers.99999999999999999999.w",
                                          "",
                                          "."};
  const LayerStack stack(names);
  EXPECT_EQ(stack.layers(), 32U);
  using P = LayerPosition;
  const PositionCase cases[] = {
      {"model.layers.0.self_attn.q_proj.weight", P::Inside, 0, 32},
      {"model.layers.7.mlp.experts.5.w1.weight", P::Inside, 7, 32},
      {"transformer.h.11.attn.c_attn.weight", P::Inside, 11, 12},
      {"decoder.block.5.layer.2.DenseReluDense.wi.weight", P::Inside, 5, 6},
      {"vision.resblocks.10.attn.weight", P::Inside, 10, 24},
      {"h.3.ln_1.bias", P::Inside, 3, 4},
      {"model.layers.40.w", P::Inside, 40, 41},  // not among the names
      {"model.layers.2.embed.weight", P::Inside, 2, 32},
      {"model.embed_tokens.weight", P::Before, 0, 32},
      {"transformer.wte.weight", P::Before, 0, 32},
      {"transformer.wpe.weight", P::Before, 0, 32},
      {"bert.embeddings.word_embeddings.weight", P::Before, 0, 32},
      {"lm_head.weight", P::After, 0, 32},
      {"embed_out.weight", P::After, 0, 32},
      {"output_embeddings.weight", P::After, 0, 32},
      {"model.norm.weight", P::After, 0, 32},
      {"layers.x.0.weight", P::After, 0, 32},
      {"model.layers.99999999999999999999.w", P::After, 0, 32},
      {"score.0.weight", P::After, 0, 32},
      {"", P::After, 0, 32},
  };
  for (const PositionCase& c : cases) {
    SCOPED_TRACE(c.tensor);
    const LayerPosition position = stack.position(c.tensor);
    EXPECT_EQ(position.part, c.part);
    EXPECT_EQ(position.layer, c.layer);
    EXPECT_EQ(position.layers, c.layers);
  }
  EXPECT_EQ(LayerStack({}).layers(), 0U);
  EXPECT_EQ(LayerStack({}).position("lm_head.weight").layers, 1U);
}

TEST(Layers, GradientsRunOverTheStack) {
  const Vector three = {0, 0.5, 1};
  const auto inside = [](std::size_t layer, std::size_t layers) {
    return LayerPosition{LayerPosition::Inside, layer, layers};
  };
  EXPECT_EQ(gradient_at(three, inside(0, 32)), 0.0);
  EXPECT_EQ(gradient_at(three, inside(31, 32)), 1.0);
  EXPECT_NEAR(gradient_at(three, inside(10, 32)), 10.0 / 31, 1e-15);
  EXPECT_EQ(gradient_at(three, inside(2, 5)), 0.5);
  EXPECT_EQ(gradient_at(three, inside(1, 5)), 0.25);
  EXPECT_EQ(gradient_at(three, inside(0, 1)), 0.0);
  EXPECT_EQ(gradient_at(three, {LayerPosition::Before, 0, 32}), 0.0);
  EXPECT_EQ(gradient_at(three, {LayerPosition::After, 0, 32}), 1.0);
  EXPECT_EQ(gradient_at(Vector{0.3}, inside(5, 9)), 0.3);
  EXPECT_EQ(gradient_at(Vector{1, 0}, inside(3, 4)), 0.0);
  for (std::size_t layers = 2; layers < 70; ++layers) {
    double last = -1;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const double now = gradient_at(three, inside(layer, layers));
      EXPECT_GT(now, last);
      last = now;
    }
    EXPECT_EQ(last, 1.0);
  }
}

TEST(Layers, TheFirstSettingThatMatchesWins) {
  const SpanMethod& slerp_method = *find_method("slerp");
  const std::vector<Setting> settings = {
      {0, "self_attn", {0, 1}}, {0, "mlp", {0.25}}, {0, "mlp.down", {0.9}}};
  const auto t = [&](const char* tensor, LayerPosition position) {
    return evaluate(slerp_method, settings, tensor, position).at(0);
  };
  EXPECT_EQ(t("model.layers.1.self_attn.q", {LayerPosition::Inside, 1, 3}), 0.5);
  EXPECT_EQ(t("model.layers.1.mlp.down", {LayerPosition::Inside, 1, 3}), 0.25);
  EXPECT_EQ(t("model.norm", {LayerPosition::After, 0, 3}), std::nullopt);
  const SpanMethod& linear_method = *find_method("linear");
  EXPECT_EQ(evaluate(linear_method, {}, "x", {}).at(0), 1.0);
  const std::vector<Setting> off = {{0, "", {0}}};
  EXPECT_EQ(evaluate(linear_method, off, "x", {}).at(0), 0.0);
}

}  // namespace
}  // namespace thorns
