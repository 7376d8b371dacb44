// Models that number their tokens differently: `union` at every node, against a slow evaluation
// over maps from a token to its row.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "base/json.h"
#include "engine/engine.h"
#include "plan/memory.h"
#include "plan/vocabulary.h"
#include "support/memory_disk.h"
#include "support/memory_model.h"
#include "support/oracle.h"

namespace thorns {
namespace {

using namespace testing_support;

constexpr std::uint64_t kTextColumns = 17;
const std::string kHead = "lm_head.weight";
using Row = std::vector<double>;
using Texts = std::vector<std::string>;  // by row; empty: a row that no token stands for

class Leaf : public MemoryCheckpoint {
 public:
  using MemoryCheckpoint::MemoryCheckpoint;
  const std::vector<std::string>& tokenizer_files() const override { return files; }
  std::vector<std::string> files;
};

// A family of models: rows by name, tokens by row.
struct TextFamily {
  std::map<std::string, Texts> texts;
  Models models;
  MemoryDisk disk;

  void add(const std::string& name, const Texts& tokens) {
    texts[name] = tokens;
    const std::size_t count = tokens.size() * kTextColumns;
    const auto change = normal_values(count, texts.size() + 1);
    std::vector<double> values(count);
    for (std::size_t r = 0; r < tokens.size(); ++r) {
      // Rows of one token resemble each other.
      const auto base = normal_values(kTextColumns, std::hash<std::string>()(tokens[r]));
      for (std::size_t c = 0; c < kTextColumns; ++c)
        values[r * kTextColumns + c] = base[c] + 0.7 * change[r * kTextColumns + c];
    }
    models[name] = {tensor(kHead, Dtype::F16, {tokens.size(), kTextColumns}, values)};
    Json words = Json::object();
    for (std::size_t r = 0; r < tokens.size(); ++r) {
      if (!tokens[r].empty()) words[tokens[r]] = r;
    }
    write(name,
          Json{{"model", {{"type", "BPE"}, {"vocab", words}}}, {"added_tokens", Json::array()}}
              .dump());
  }
  void write(const std::string& name, std::string tokenizer) {
    disk.add_file(name + "/tokenizer.json", std::move(tokenizer));
  }

  PlanResult plan(const Recipe& recipe, const Loras& loras, const PlanOptions& options = {}) {
    std::vector<std::unique_ptr<Checkpoint>> leaves;
    for (const RecipeLeaf& leaf : recipe.leaves) {
      auto made = std::make_unique<Leaf>(leaf.name, models.at(leaf.name));
      if (disk.exists(leaf.name + "/tokenizer.json")) made->files = {"tokenizer.json"};
      leaves.push_back(std::move(made));
    }
    std::vector<std::unique_ptr<Adapter>> adapters;
    for (const RecipeAdapter& adapter : recipe.adapters) {
      const MemoryAdapter& from = *loras.at(adapter.name);
      adapters.push_back(std::make_unique<MemoryAdapter>(
          adapter.name, from.updates(),
          static_cast<const MemoryCheckpoint&>(from.source()).data()));
    }
    return make_plan(recipe, std::move(leaves), std::move(adapters), options, &disk);
  }
};

// What a node knows of each token; rows without one are called by their number.
using Rows = std::map<std::string, Row>;
std::string called(const Texts& texts, std::size_t row) {
  return texts[row].empty() ? "#" + std::to_string(row) : texts[row];
}

class TextOracle {
 public:
  TextOracle(const Recipe& recipe, const TextFamily& family, const Loras& loras)
      : recipe_(recipe), family_(family), loras_(loras) {
    std::set<std::string> all;
    for (const RecipeLeaf& leaf : recipe.leaves) {
      for (const std::string& text : family.texts.at(leaf.name)) all.insert(text);
    }
    all.erase("");
    tokens_ = all.size();
  }

  Rows rows() const { return node(recipe_.root).first; }

 private:
  // The texts by row are those of the leaf that adapters are folded into.
  using Known = std::pair<Rows, Texts>;

  Known node(std::size_t index) const {
    const auto& value = recipe_.nodes[index].node;
    if (const auto* leaf = std::get_if<LeafNode>(&value)) {
      const std::string& name = recipe_.leaves[leaf->leaf].name;
      const auto values = family_.models.at(name).front().values();
      Known known{{}, family_.texts.at(name)};
      for (std::size_t r = 0; r < known.second.size(); ++r) {
        if (known.second[r].empty() && r < tokens_) continue;  // a token takes its place
        const auto begin = values.begin() + static_cast<std::ptrdiff_t>(r * kTextColumns);
        known.first[called(known.second, r)] = Row(begin, begin + kTextColumns);
      }
      return known;
    }
    if (const auto* fold = std::get_if<FoldNode>(&value)) {
      Known known = node(fold->model);
      const MemoryAdapter& adapter =
          *loras_.at(recipe_.adapters[fold->adapters.front().adapter].name);
      const Update& update = adapter.updates().front();
      if (update.change != nullptr) {
        change_rows(dynamic_cast<const PlainChange&>(*update.change), known);
        return known;
      }
      const auto& source = static_cast<const MemoryCheckpoint&>(adapter.source());
      const auto delta = reference::low_rank(source.data()[update.second].values(),
                                             source.data()[update.first].values(),
                                             known.second.size(), update.rank, kTextColumns);
      for (std::size_t r = 0; r < known.second.size(); ++r) {
        const auto row = known.first.find(called(known.second, r));
        if (row == known.first.end()) continue;
        for (std::size_t c = 0; c < kTextColumns; ++c)
          row->second[c] += fold->weight() * update.scale * delta[r * kTextColumns + c];
      }
      return known;
    }
    return {blended(std::get<BlendNode>(value)), {}};
  }

  // A whole tensor, in the order of the leaf's own rows.
  static void change_rows(const PlainChange& change, Known& known) {
    std::vector<double> values;
    for (std::size_t r = 0; r < known.second.size(); ++r) {
      const Row& row = known.first.at(called(known.second, r));
      values.insert(values.end(), row.begin(), row.end());
    }
    change.change(values);
    for (std::size_t r = 0; r < known.second.size(); ++r) {
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(r * kTextColumns);
      known.first.at(called(known.second, r)) = Row(begin, begin + kTextColumns);
    }
  }

  Rows blended(const BlendNode& blend) const {
    std::vector<Rows> models;
    for (const std::size_t model : blend.models) models.push_back(node(model).first);
    const auto in_all = [&](const std::string& text) {
      return std::all_of(models.begin(), models.end(),
                         [&](const Rows& rows) { return rows.contains(text); });
    };
    std::vector<double> factors = blend.weights;
    if (blend.method->name() == "linear") {
      double sum = 0;
      for (const double weight : factors) sum += weight;
      for (double& factor : factors) factor /= sum;
    } else {
      double aa = 0;
      double ab = 0;
      double bb = 0;
      for (const auto& [text, a] : models[0]) {
        if (!in_all(text)) continue;
        const Row& b = models[1].at(text);
        for (std::size_t c = 0; c < kTextColumns; ++c) {
          aa += a[c] * a[c];
          ab += a[c] * b[c];
          bb += b[c] * b[c];
        }
      }
      const double angle = std::acos(ab / std::sqrt(aa * bb));
      const double t = factors[1] / (factors[0] + factors[1]);
      factors = {std::sin((1 - t) * angle) / std::sin(angle),
                 std::sin(t * angle) / std::sin(angle)};
    }
    Rows result;
    for (const Rows& rows : models) {
      for (const auto& [text, unused] : rows) result[text] = Row(kTextColumns, 0.0);
    }
    for (auto& [text, row] : result) {
      double sum = 0;
      for (std::size_t m = 0; m < models.size(); ++m)
        sum += models[m].contains(text) ? blend.weights[m] : 0;
      for (std::size_t m = 0; m < models.size(); ++m) {
        if (!models[m].contains(text)) continue;
        const double factor = in_all(text) ? factors[m] : blend.weights[m] / sum;
        for (std::size_t c = 0; c < kTextColumns; ++c) row[c] += factor * models[m].at(text)[c];
      }
    }
    return result;
  }

  const Recipe& recipe_;
  const TextFamily& family_;
  const Loras& loras_;
  std::size_t tokens_ = 0;  // of all leaves together
};

// A has 40 tokens; B has two of them elsewhere, lacks one and has two of its own; C has A's
// backwards with one of B's, and two rows of padding.
void fill(TextFamily& family) {
  Texts a;
  for (int i = 0; i < 40; ++i) a.push_back("t" + std::to_string(i));
  Texts b(a.begin(), a.begin() + 37);
  b.insert(b.end(), {"x", "t38", "t39", "y"});
  Texts c(a.rbegin(), a.rend());
  c.insert(c.end(), {"z", "y", "", "", ""});
  family.add("A", a);
  family.add("B", b);
  family.add("C", c);
}

// Changes that are no products, of B's 41 rows: every row by its own number.
template <class Kind>
class RowChange : public Kind, public PlainChange {
 public:
  bool fits(const BaseTensor& base) const override { return base.shape.front() == 41; }
  std::string expected() const override { return "41 rows"; }
  std::vector<std::size_t> tensors() const override { return {}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return 1000; }
};

double step(std::uint64_t element) { return 0.001 * static_cast<double>(element / kTextColumns); }

class Steps final : public RowChange<DeltaChange> {
  class Loaded final : public Delta {
    void generate(std::uint64_t first, std::span<double> to) const override {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] = step(first + i);
    }
  };
  std::unique_ptr<Delta> load(const TensorSource&, const BaseTensor&) const override {
    return std::make_unique<Loaded>();
  }
  void change(std::vector<double>& values) const override {
    for (std::size_t e = 0; e < values.size(); ++e) values[e] += step(e);
  }
};

class Stretched final : public RowChange<MapChange> {
  class Loaded final : public RowMap {
    void apply(std::uint64_t first, std::span<const double> from,
               std::span<double> to) const override {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i] * (1 + step(first + i));
    }
  };
  bool elementwise() const override { return true; }
  std::unique_ptr<RowMap> load(const TensorSource&, const BaseTensor&) const override {
    return std::make_unique<Loaded>();
  }
  void change(std::vector<double>& values) const override {
    for (std::size_t e = 0; e < values.size(); ++e) values[e] *= 1 + step(e);
  }
};

std::unique_ptr<MemoryAdapter> changing(const std::string& name, UpdateKind kind,
                                        std::shared_ptr<const Change> change) {
  Update update;
  update.kind = kind;
  update.module = "lm_head";
  update.parameter = "weight";
  update.change = std::move(change);
  return std::make_unique<MemoryAdapter>(name, std::vector<Update>{update},
                                         std::vector<MemoryTensor>{});
}

TEST(TokenText, UnionAtEveryNode) {
  const KeyBinder binder({"A", "B", "C"}, {"L", "M", "G", "S"});
  TextFamily family;
  fill(family);
  Loras loras;
  loras["G"] = changing("G", UpdateKind::Generate, std::make_shared<Steps>());
  loras["S"] = changing("S", UpdateKind::Map, std::make_shared<Stretched>());
  loras["L"] = lora("L", "lm_head", 41, kTextColumns, 4, 0.5, 100);
  loras["M"] = lora("M", "lm_head", 45, kTextColumns, 3, 2.0, 200);
  Exactness exactness;
  for (const char* key :
       {"{A+B}", "{{A+B}+C}", "{A+{B+C}}", "{{A+C}+{B+C}}", "{A+3*B}", "{A+B+C; linear}",
        "{A+2*B+3*C; linear}", "{{A+B+C; linear}+{B+A}}", "{A+B[L]}", "{A+{B[L]+C[0.5*M]}}",
        "{{A+B[L][L]}+{C[M]+A}}", "{A+B[G]}", "{{A+B[S][G]}+C}"}) {
    SCOPED_TRACE(key);
    const Recipe recipe = binder.bind(key);
    PlanResult made = family.plan(recipe, loras);
    ASSERT_TRUE(made.problems.empty()) << made.problems.front().message();
    ASSERT_NE(made.plan.vocabulary, nullptr);
    MemorySink sink(made.plan);
    Observer silent;
    run(made.plan, sink, silent, {});
    // A's own rows first, then the tokens of B and C in their order, then padding by its number.
    const Rows exact = TextOracle(recipe, family, loras).rows();
    Texts order = family.texts.at("A");
    for (const Vocabulary::NewToken& added : made.plan.vocabulary->added) {
      EXPECT_EQ(added.token.id, order.size());
      order.push_back(added.token.text);
    }
    const std::size_t rows = made.plan.programs[0].shape[0];
    ASSERT_GE(rows, order.size());
    order.resize(rows);
    std::vector<double> values;
    for (std::size_t r = 0; r < rows; ++r) {
      const auto found = exact.find(called(order, r));
      const Row row = found == exact.end() ? Row(kTextColumns, 0.0) : found->second;
      values.insert(values.end(), row.begin(), row.end());
    }
    exactness.check(Dtype::F16, sink.bytes.at(0), values, key);
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(exactness.share(), 0.999);
}

TEST(TokenText, NewTokensFollowInTheOrderOfTheRecipe) {
  const KeyBinder binder({"A", "B", "C"}, {});
  TextFamily family;
  fill(family);
  PlanOptions options;
  options.tokenizer = "A";
  const Plan plan = std::move(family.plan(binder.bind("{{C+B}+A}"), {}, options).plan);
  const Vocabulary& vocabulary = *plan.vocabulary;
  ASSERT_EQ(vocabulary.added.size(), 3U);
  EXPECT_EQ(vocabulary.added[0].token.text, "z");  // of C, which comes first
  EXPECT_EQ(vocabulary.added[1].token.text, "y");
  EXPECT_EQ(vocabulary.added[2].token.text, "x");
  EXPECT_EQ(vocabulary.added[2].leaf, 1U);
  EXPECT_EQ(vocabulary.added[2].id_there, 37U);
  EXPECT_EQ(vocabulary.row_of(1, 38), 38U);  // t38 of B
  EXPECT_EQ(vocabulary.row_of(0, 0), 39U);   // t39 of C
  EXPECT_EQ(vocabulary.row_of(0, 42), 42U);  // padding
  std::string words;
  for (const std::string& warning : plan.warnings) words += warning;
  EXPECT_NE(words.find("2 of `C` (`z` `y`), 1 of `B` (`x`)"), std::string::npos) << words;
  EXPECT_NE(words.find("made room"), std::string::npos) << words;
}

TEST(TokenText, BytesDoNotDependOnMemoryOrThreads) {
  const KeyBinder binder({"A", "B"}, {});
  TextFamily family;
  Texts a;
  for (int i = 0; i < 9000; ++i) a.push_back("t" + std::to_string(i));
  Texts b = a;
  std::reverse(b.begin() + 3000, b.end());  // runs of one row
  b[100] = "x";
  family.add("A", a);
  family.add("B", b);
  const Recipe recipe = binder.bind("{A+B}");
  std::vector<std::byte> first;
  for (const std::size_t threads : {1, 3}) {
    PlanOptions options;
    options.threads = threads;
    const std::uint64_t least = least_memory(family.plan(recipe, {}).plan, threads);
    for (const std::uint64_t memory : {least, least + 2'000'000}) {
      options.memory = memory;
      const PlanResult made = family.plan(recipe, {}, options);
      MemorySink sink(made.plan);
      Observer silent;
      run(made.plan, sink, silent, {});
      if (first.empty()) first = sink.bytes.at(0);
      EXPECT_EQ(sink.bytes.at(0), first);
    }
  }
}

TEST(TokenText, ThePaddedAngleIsTheOneOfTheZeroRule) {
  const KeyBinder binder({"A", "B"}, {});
  TextFamily family;
  Texts texts;
  for (int i = 0; i < 40; ++i) texts.push_back("t" + std::to_string(i));
  family.add("A", texts);
  texts.push_back("x");
  family.add("B", texts);
  std::optional<double> angles[2];
  for (const char* rule : {"union", "zero"}) {
    PlanOptions options;
    options.vocabulary = rule;
    const PlanResult made = family.plan(binder.bind("{A+B}"), {}, options);
    MemorySink sink(made.plan);
    Observer silent;
    run(made.plan, sink, silent, {});
    const NodeFacts& node = sink.facts.at(0).nodes.at(0);
    angles[rule[0] == 'z'] = rule[0] == 'z' ? node.angle : node.padded_angle;
    EXPECT_EQ(node.padded_angle.has_value(), rule[0] == 'u');
  }
  EXPECT_NEAR(*angles[0], *angles[1], 1e-12);
}

TEST(TokenText, RowsStayNumberedWhereTokensCannotBeTold) {
  const KeyBinder binder({"A", "B"}, {});
  for (const char* tokenizer :
       {R"({"model": {"vocab": {"t0": 0, "t1": 0}}})", R"({"model": {"vocab": {"t0": -1}}})",
        R"({"model": {"vocab": {"t0": 99999999999}}})", R"({"model": {"vocab": {"t0": 0)",
        R"({"model": {"vocab": {"t0": 0}}, "added_tokens": [{"id": 1, "content": "t0"}]})",
        R"({"model": {"vocab": {"t0": 0}}, "added_tokens": [{"id": "1", "content": "t1"}]})",
        R"({"model": {"vocab": {}}, "added_tokens": []})"}) {
    TextFamily family;
    fill(family);
    family.write("B", tokenizer);
    const PlanResult made = family.plan(binder.bind("{A+B}"), {});
    EXPECT_TRUE(made.problems.empty());
    EXPECT_EQ(made.plan.vocabulary, nullptr) << tokenizer;
    EXPECT_NE(made.plan.warnings.at(0).find("matched by number"), std::string::npos);
    EXPECT_EQ(made.plan.programs[0].shape[0], 41U);
  }
}

TEST(TokenText, EqualTokenizersSayNothing) {
  const KeyBinder binder({"A", "B"}, {});
  TextFamily family;
  family.add("A", {"a", "b"});
  family.add("B", {"a", "b"});
  const PlanResult made = family.plan(binder.bind("{A+B}"), {});
  EXPECT_EQ(made.plan.vocabulary, nullptr);
  EXPECT_TRUE(made.plan.warnings.empty());
}

// A token that the tokenizer has and no model a row for, before one that has a row.
TEST(TokenText, TokensWithoutARowAreZero) {
  const KeyBinder binder({"A", "B"}, {});
  TextFamily family;
  family.add("A", {"a", "b"});
  family.write("A", R"({"model": {"vocab": {"a": 0, "b": 1, "c": 2}}})");
  family.add("B", {"a", "b", "d"});
  const PlanResult made = family.plan(binder.bind("{A+B}"), {});
  ASSERT_EQ(made.plan.programs[0].shape[0], 4U);
  MemorySink sink(made.plan);
  Observer silent;
  run(made.plan, sink, silent, {});
  const auto row = sink.bytes.at(0).begin() + 2 * kTextColumns * 2;
  EXPECT_TRUE(
      std::all_of(row, row + kTextColumns * 2, [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_NE(made.plan.warnings.back().find("they are zero"), std::string::npos);
}

TEST(TokenText, AdaptersThatCannotFollowAreRefused) {
  const KeyBinder binder({"A", "B"}, {"L", "R"});
  TextFamily family;
  fill(family);
  Loras loras;
  loras["L"] = lora("L", "lm_head", 41, kTextColumns, 4, 0.5, 100);
  const PlanResult mixed = family.plan(binder.bind("{A+B}[L]"), loras);
  ASSERT_EQ(mixed.problems.size(), 1U);
  EXPECT_NE(mixed.problems[0].message().find("number their tokens differently"), std::string::npos);
  Update replace;
  replace.kind = UpdateKind::Replace;
  replace.module = "lm_head";
  replace.parameter = "weight";
  for (const std::uint64_t rows : {41U, 42U}) {
    loras["R"] = std::make_unique<MemoryAdapter>(
        "R", std::vector<Update>{replace},
        std::vector<MemoryTensor>{tensor(kHead, Dtype::F16, {rows, kTextColumns},
                                         normal_values(rows * kTextColumns, 7))});
    EXPECT_EQ(family.plan(binder.bind("{A+B[R]}"), loras).problems.size(), rows == 41 ? 0U : 1U);
  }
}

}  // namespace
}  // namespace thorns
