#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "key/expression.h"
#include "key/lexer.h"
#include "support/key_dump.h"

namespace thorns {
namespace {

struct PrintCase {
  const char* key;
  const char* canonical;
};

const PrintCase kPrintCases[] = {
    {" { A + B } ", "{A+B}"},
    {"A{B}", "{A+B}"},
    {"{A}{B}{C}", "{{A+B}+C}"},
    {"{X+{Y+Z}}", "X{Y+Z}"},  // one pair less
    {"X{Y+Z}", "X{Y+Z}"},
    {"{{A+B}+{C+D}}", "{A+B}{C+D}"},
    {"{X+{Y+Z};t=0.3}", "{X+{Y+Z};t=0.3}"},
    {"{X+{Y+Z;t=0.3}}", "{X+{Y+Z;t=0.3}}"},
    {"{2*X+{Y+Z}}", "{2*X+{Y+Z}}"},
    {"{X+{2*Y+Z}}", "X{2*Y+Z}"},
    {"{X+({Y+Z})}", "{X+({Y+Z})}"},
    {"{{{A}}}", "A"},
    {"A[L][K]", "A[L+K]"},
    {"A{3*B}", "{A+3*B}"},
    {"{ 0.30 * A + 1e2 * B; slerp }", "{0.3*A+100*B;slerp}"},
    {"{1E30*A+1E-07*B;linear}", "{1e30*A+1e-7*B;linear}"},
    {"{A+B; t(\"x y\")=[0, 0.50], u=\"7\", v=\"x\"}", "{A+B;t(x y)=[0,0.5],u=\"7\",v=x}"},
    {"\"LIMA RP\"", "LIMA RP"},
    {"\"two  blanks\"", "\"two  blanks\""},
    {"\"a\\\\\\\"\"", "\"a\\\\\\\"\""},
    {"({({NousHermes+Chronos}[Kimiko])+({Platupus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})",
     "({{({NousHermes+Chronos}[Kimiko])+({Platupus+AiroborosM2.0}[Janine])}+Holodeck[LIMA RP]})"},
};

TEST(KeyPrinter, WritesTheCanonicalForm) {
  for (const PrintCase& c : kPrintCases) {
    SCOPED_TRACE(c.key);
    const auto expression = parse_key(c.key);
    EXPECT_EQ(to_string(*expression), c.canonical);
    EXPECT_EQ(dump(*parse_key(c.canonical)), dump(*expression));
  }
}

TEST(KeyPrinter, NumbersAreShortestThatReadBack) {
  std::mt19937_64 random(1);
  for (const double number : {0.0, 1.0, -1.0, 0.1, 1.0 / 3, 1e300, 5e-324, 1e15, 1e16, 1e17}) {
    const auto read = read_number(number_text(number));
    ASSERT_TRUE(read) << number_text(number);
    EXPECT_EQ(read->value, number);
  }
  EXPECT_EQ(number_text(0.1), "0.1");
  EXPECT_EQ(number_text(1000), "1000");
  EXPECT_EQ(number_text(1e9), "1e9");
  EXPECT_EQ(number_text(-1.5e-10), "-1.5e-10");
  EXPECT_EQ(number_text(1e-5), "1e-5");
  EXPECT_EQ(number_text(1e100), "1e100");
  for (int i = 0; i < 10'000; ++i) {
    const double number = std::bit_cast<double>(random());
    if (!std::isfinite(number)) continue;
    const auto read = read_number(number_text(number));
    ASSERT_TRUE(read && read->in_range) << number_text(number);
    EXPECT_EQ(read->value, number);
  }
}

ExpressionPtr make(Expression expression) {
  return std::make_shared<const Expression>(std::move(expression));
}
ExpressionPtr leaf(const std::string& name) { return make({LeafExpression{{name, {}}}, {}}); }
ExpressionPtr composite(ExpressionPtr inside) {
  return make({CompositeExpression{std::move(inside)}, {}});
}
KeyTerm term(ExpressionPtr model, std::optional<double> weight = {}) {
  return {weight, {}, std::move(model)};
}
ExpressionPtr blend(std::vector<KeyTerm> terms, KeyOptions options = {}) {
  return make({BlendExpression{std::move(terms), std::move(options)}, {}});
}
ExpressionPtr fold(ExpressionPtr model, std::vector<KeyAdapter> adapters, KeyOptions options = {}) {
  return make(fold_into(std::move(model), std::move(adapters), std::move(options), {}));
}
KeySetting setting(const std::string& name,
                   std::variant<double, KeyName, std::vector<double>> value,
                   const char* filter = nullptr) {
  KeySetting result{{name, {}}, {}, std::move(value), {}};
  if (filter != nullptr) result.filter = KeyName{filter, {}};
  return result;
}

// What the printer must hold for any expression.
void expect_round_trip(const Expression& expression) {
  const std::string key = to_string(expression);
  ASSERT_NO_THROW({
    const auto read = parse_key(key);
    ASSERT_EQ(dump(*read), dump(expression)) << key;
    ASSERT_TRUE(same(*read, expression)) << key;
    ASSERT_EQ(to_string(*read), key);
    ASSERT_EQ(depth_of(*read), depth_of(expression));
  }) << key;
}

// All that can stand one level above these expressions.
std::vector<ExpressionPtr> level_above(const std::vector<ExpressionPtr>& firsts,
                                       const std::vector<ExpressionPtr>& seconds) {
  KeyOptions options;
  options.method = KeyName{"linear", {}};
  options.settings = {setting("t", std::vector<double>{0, 0.5}, "q"),
                      setting("n", KeyName{"false", {}})};
  std::vector<ExpressionPtr> result;
  for (const auto& a : firsts) {
    result.push_back(composite(a));
    result.push_back(fold(a, {{std::nullopt, {"L", {}}}}));
    result.push_back(fold(a, {{0.5, {"L", {}}}, {std::nullopt, {"K K", {}}}}, options));
    for (const auto& b : seconds) {
      result.push_back(blend({term(a), term(b)}));
      result.push_back(blend({term(a, 0.3), term(b)}));
      result.push_back(blend({term(a), term(b), term(a)}));
      result.push_back(blend({term(a), term(b, -2)}, options));
    }
  }
  return result;
}

TEST(KeyPrinter, TreesOfDepthThreeReadBack) {
  const std::vector<ExpressionPtr> leaves = {leaf("A"), leaf("0.5"), leaf("LIMA RP"),
                                             leaf("q\"+{ ")};
  const auto one = level_above(leaves, leaves);
  std::vector<ExpressionPtr> upto_one = leaves;
  upto_one.insert(upto_one.end(), one.begin(), one.end());
  const auto two = level_above(upto_one, leaves);
  for (const auto& expression : upto_one) expect_round_trip(*expression);
  for (const auto& expression : two) {
    expect_round_trip(*expression);
    if (HasFatalFailure()) return;
  }
  // The third level is too large for all pairs: each tree of two levels with every seventh of one,
  // in both orders, another seventh each time.
  std::size_t count = 0;
  for (const auto& a : two) {
    expect_round_trip(*composite(a));
    expect_round_trip(*fold(a, {{std::nullopt, {"L", {}}}}));
    for (std::size_t i = count % 7; i < upto_one.size(); i += 7) {
      const auto& b = upto_one[i];
      expect_round_trip(*blend({term(a), term(b)}));
      expect_round_trip(*blend({term(b), term(a)}));
      expect_round_trip(*blend({term(b, 2), term(a)}));
      if (HasFatalFailure()) return;
    }
    ++count;
  }
  EXPECT_GT(count, 1000U);
}

class RandomKeys {
 public:
  explicit RandomKeys(std::uint64_t seed) : random_(seed) {}

  ExpressionPtr expression(std::size_t depth) {
    if (depth == 0 || below(5) == 0) return leaf(name());
    switch (below(4)) {
      case 0:
        return composite(expression(depth - 1));
      case 1: {
        std::vector<KeyAdapter> adapters(1 + below(3));
        for (KeyAdapter& adapter : adapters) adapter = {weight(), {name(), {}}};
        return fold(expression(depth - 1), std::move(adapters),
                    below(4) == 0 ? options() : KeyOptions{});
      }
      default: {
        std::vector<KeyTerm> terms(2 + below(3));
        for (KeyTerm& one : terms) one = term(expression(depth - 1), weight());
        return blend(std::move(terms), below(2) == 0 ? options() : KeyOptions{});
      }
    }
  }

 private:
  std::size_t below(std::size_t end) { return random_() % end; }
  double number() {
    return below(2) == 0
               ? static_cast<double>(below(20)) / 4
               : std::ldexp(static_cast<double>(random_()), static_cast<int>(below(600)) - 300);
  }
  std::optional<double> weight() {
    if (below(2) == 0) return std::nullopt;
    return below(5) == 0 ? -number() : number();
  }
  std::string name() {
    static const std::vector<std::string> kPieces = {
        "A", "b7", ".", "/", " ", "  ",       "\"",     "\\", "0.5",
        "-", "3",  "{", "]", "+", "\xC3\xA9", "linear", ";",  "\xF0\x9F\x98\x80"};
    std::string text;
    for (std::size_t i = 1 + below(4); i > 0; --i) text += kPieces[below(kPieces.size())];
    return text;
  }
  KeyOptions options() {
    KeyOptions options;
    if (below(2) == 0) options.method = KeyName{name(), {}};
    for (std::size_t i = below(3); i > 0; --i) {
      switch (below(3)) {
        case 0:
          options.settings.push_back(setting(name(), number()));
          break;
        case 1:
          options.settings.push_back(setting(name(), KeyName{name(), {}}, name().c_str()));
          break;
        default:
          options.settings.push_back(setting(name(), std::vector<double>(1 + below(3), number())));
      }
    }
    return options;
  }

  std::mt19937_64 random_;
};

TEST(KeyPrinter, RandomTreesReadBack) {
  RandomKeys keys(20'231'018);
  for (int i = 0; i < 20'000; ++i) {
    const auto expression = keys.expression(static_cast<std::size_t>(1 + i % 6));
    if (to_string(*expression).size() > kMaxKeyBytes) continue;
    expect_round_trip(*expression);
    if (HasFatalFailure()) return;
  }
}

TEST(KeyExpression, SameSeesEveryDifference) {
  const std::vector<std::string> keys = {
      "A",         "B",         "(A)",          "A[L]",          "A[K]",
      "A[L+K]",    "A[2*L]",    "A[L;x=1]",     "B[L]",          "{A+B}",
      "{B+A}",     "{A+B+C}",   "{1*A+B}",      "{A+B;slerp}",   "{A+B;linear}",
      "{A+B;t=1}", "{A+B;t=2}", "{A+B;t=[1]}",  "{A+B;t=[1,2]}", "{A+B;t=x}",
      "{A+B;t=y}", "{A+B;u=1}", "{A+B;t(q)=1}", "{A+B;t(r)=1}",  "{A+B;t=1,t=1}"};
  for (const auto& a : keys) {
    for (const auto& b : keys) EXPECT_EQ(same(*parse_key(a), *parse_key(b)), a == b) << a << b;
  }
}

TEST(KeyExpression, TreeIsOneNodeALine) {
  EXPECT_EQ(draw_tree(*parse_key("({({A+3*B; t(q)=[0,1], u=x}[Kimiko+0.7*LIMA RP])}{C;linear})")),
            "composite model\n"
            "  linear merge\n"
            "    composite model\n"
            "      PEFT merge of Kimiko + 0.7 * LIMA RP into\n"
            "        SLERP merge with t(q)=[0,1], u=x\n"
            "          A\n"
            "          3 * B\n"
            "    C\n");
}

using Lines = std::vector<std::string>;

TEST(KeyExpression, LegendHoldsOnlyWhatOccurs) {
  EXPECT_EQ(legend(*parse_key("A")), Lines{});
  EXPECT_EQ(legend(*parse_key("A[L]")), Lines{"[] = PEFT Merge"});
  EXPECT_EQ(legend(*parse_key("{({A+B}[L])+C}")),
            (Lines{"{} = SLERP Merge", "[] = PEFT Merge", "() = Composite Model"}));
  EXPECT_EQ(legend(*parse_key("{A+B;slerp}")), Lines{"{} = SLERP Merge"});
  EXPECT_EQ(legend(*parse_key("{{A+B;linear}+{C+D;linear};linear}")),
            Lines{"{; linear} = linear merge"});
}

TEST(KeyExpression, NamesComeInOrderOfFirstMention) {
  const auto expression = parse_key("{({B[L]+A}[K+L])+B[M]}");
  EXPECT_EQ(mentioned_models(*expression), (Lines{"B", "A"}));
  EXPECT_EQ(mentioned_adapters(*expression), (Lines{"L", "K", "M"}));
}

}  // namespace
}  // namespace thorns
