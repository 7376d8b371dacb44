// Whole recipes against the step-by-step float64 oracle, and the promise that output bytes depend
// on the recipe and its inputs alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "adapter/rotation.h"
#include "engine/engine.h"
#include "kernel/kernels.h"
#include "plan/memory.h"
#include "support/byte_disk.h"
#include "support/memory_model.h"
#include "support/oracle.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

using namespace testing_support;

const std::string kTensor = "model.layers.0.mlp.up_proj.weight";

std::vector<std::unique_ptr<Checkpoint>> open_leaves(const Recipe& recipe, const Models& models) {
  std::vector<std::unique_ptr<Checkpoint>> leaves;
  for (const RecipeLeaf& leaf : recipe.leaves) {
    leaves.push_back(std::make_unique<MemoryCheckpoint>(leaf.name, models.at(leaf.name)));
  }
  return leaves;
}

// Folds need their own adapters, because a plan owns what it opens.
std::vector<std::unique_ptr<Adapter>> open_adapters(const Recipe& recipe, const Loras& loras) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (const RecipeAdapter& adapter : recipe.adapters) {
    const MemoryAdapter& from = *loras.at(adapter.name);
    adapters.push_back(std::make_unique<MemoryAdapter>(
        adapter.name, from.updates(), static_cast<const MemoryCheckpoint&>(from.source()).data()));
  }
  return adapters;
}

struct Merged {
  Plan plan;
  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorFacts> facts;
  EngineFacts engine;
};

Merged merge_in_memory(const Recipe& recipe, const Models& models, const Loras& loras,
                       PlanOptions options = {}, EngineOptions engine = {}) {
  PlanResult made =
      make_plan(recipe, open_leaves(recipe, models), open_adapters(recipe, loras), options);
  if (!made.problems.empty()) throw made.problems.front();
  Merged merged;
  merged.plan = std::move(made.plan);
  MemorySink sink(merged.plan);
  Observer silent;
  merged.engine = run(merged.plan, sink, silent, engine);
  merged.bytes = std::move(sink.bytes);
  merged.facts = std::move(sink.facts);
  return merged;
}

// Four fine-tunes of one base: apart by 15 to 60 degrees, one pair almost parallel.
Models small_family(Dtype dtype, std::uint64_t rows, std::uint64_t columns) {
  const std::size_t count = rows * columns;
  const auto base = normal_values(count, 1);
  Models models;
  const std::vector<std::pair<std::string, double>> apart = {
      {"A", 0.2}, {"B", 0.7}, {"C", 1.5}, {"D", 0.001}};
  for (std::size_t i = 0; i < apart.size(); ++i) {
    const auto change = normal_values(count, 10 + i);
    std::vector<double> values(count);
    for (std::size_t e = 0; e < count; ++e) values[e] = base[e] + apart[i].second * change[e];
    models[apart[i].first] = {tensor(kTensor, dtype, {rows, columns}, values)};
  }
  return models;
}

std::vector<std::string> keys_of_depth(int depth) {
  if (depth == 1) return {"A", "B", "C", "D"};
  std::vector<std::string> keys = keys_of_depth(1);
  const auto below = keys_of_depth(depth - 1);
  for (const std::string& x : below) {
    for (const std::string& y : below) keys.push_back("{" + x + "+" + y + "}");
  }
  return keys;
}

TEST(Exactness, EveryKeyOfDepthThreeOverFourLeaves) {
  const KeyBinder binder({"A", "B", "C", "D"}, {});
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    const Models models = small_family(dtype, 13, 29);
    Exactness exactness;
    const auto keys = keys_of_depth(3);
    ASSERT_EQ(keys.size(), 404U);
    for (const std::string& key : keys) {
      const Recipe recipe = binder.bind(key);
      const Merged merged = merge_in_memory(recipe, models, {});
      exactness.check(dtype, merged.bytes.at(0), Oracle(recipe, models, {}).tensor(kTensor), key);
      if (HasFatalFailure()) return;
    }
    EXPECT_GE(exactness.share(), 0.999) << to_string(dtype);
  }
}

// ---------------------------------------------------------------- changes that are no products

constexpr std::uint64_t kRows = 70;
constexpr std::uint64_t kColumns = 37;

template <class Kind>
class TestChange : public Kind, public PlainChange {
 public:
  bool fits(const BaseTensor& base) const override {
    return base.shape == std::vector<std::uint64_t>{kRows, kColumns};
  }
  std::string expected() const override { return "(70, 37)"; }
  std::vector<std::size_t> tensors() const override { return {}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return 1000; }
};

double wave(std::uint64_t row, std::uint64_t column) {
  return 0.01 * std::sin(static_cast<double>(row * 7 + column * 3));
}

// D = wave.
class Waves final : public TestChange<DeltaChange> {
  class Loaded final : public Delta {
    void generate(std::uint64_t first, std::span<double> to) const override {
      for (std::size_t i = 0; i < to.size(); ++i)
        to[i] = wave((first + i) / kColumns, (first + i) % kColumns);
    }
  };
  std::unique_ptr<Delta> load(const TensorSource&, const BaseTensor&) const override {
    return std::make_unique<Loaded>();
  }
  void change(std::vector<double>& values) const override {
    for (std::size_t e = 0; e < values.size(); ++e) values[e] += wave(e / kColumns, e % kColumns);
  }
};

// Every element with a part of its right neighbour, around the row.
class Turn final : public TestChange<MapChange> {
  static constexpr double kStay = 0.8;
  static constexpr double kMove = 0.6;
  class Loaded final : public RowMap {
    void apply(std::uint64_t first, std::span<const double> from,
               std::span<double> to) const override {
      EXPECT_EQ(first % kColumns, 0U);
      EXPECT_EQ(from.size() % kColumns, 0U);
      for (std::size_t i = 0; i < from.size(); ++i) {
        const std::size_t row = i / kColumns * kColumns;
        to[i] = kStay * from[i] + kMove * from[row + (i - row + 1) % kColumns];
      }
    }
  };
  bool elementwise() const override { return false; }
  std::unique_ptr<RowMap> load(const TensorSource&, const BaseTensor&) const override {
    return std::make_unique<Loaded>();
  }
  void change(std::vector<double>& values) const override {
    const std::vector<double> before = values;
    for (std::uint64_t r = 0; r < kRows; ++r) {
      for (std::uint64_t c = 0; c < kColumns; ++c)
        values[r * kColumns + c] =
            kStay * before[r * kColumns + c] + kMove * before[r * kColumns + (c + 1) % kColumns];
    }
  }
};

// All of a row rotated, and row r times 1 + r / 100, as OFT and BOFT have it.
class Rotated final : public TestChange<MapChange> {
  static Matrices rotation() {
    Matrices matrices(kColumns, 1);
    for (std::size_t e = 0; e < matrices[0].size(); ++e)
      matrices[0][e] = 0.5 * std::cos(static_cast<double>(e * e % 101));
    make_skew(matrices[0], kColumns, 1);
    cayley(matrices[0], kColumns);
    return matrices;
  }
  static double factor(std::uint64_t row) { return 1 + static_cast<double>(row) / 100; }

  bool elementwise() const override { return false; }
  std::unique_ptr<RowMap> load(const TensorSource&, const BaseTensor&) const override {
    std::vector<double> factors(kRows);
    for (std::size_t row = 0; row < kRows; ++row) factors[row] = factor(row);
    std::vector<Rotation::Step> steps;
    steps.push_back({rotation()});
    return std::make_unique<Rotation>(std::move(steps), kColumns, std::move(factors));
  }
  void change(std::vector<double>& values) const override {
    const std::vector<double> before = values;
    const Matrices matrices = rotation();
    for (std::uint64_t e = 0; e < values.size(); ++e) {
      const std::uint64_t row = e / kColumns;
      long double sum = 0;
      for (std::uint64_t k = 0; k < kColumns; ++k)
        sum += before[row * kColumns + k] * matrices[0][k * kColumns + e % kColumns];
      values[e] = factor(row) * static_cast<double>(sum);
    }
  }
};

// Every row with a part of the next one, around its group.
class TurnRows final : public MapChange, public PlainChange {
 public:
  TurnRows(std::uint64_t together, std::uint64_t columns)
      : together_(together), columns_(columns) {}

 private:
  static constexpr double kStay = 0.8;
  static constexpr double kMove = 0.6;
  // Whole groups.
  void turn(std::span<const double> from, std::span<double> to) const {
    const std::uint64_t group = together_ * columns_;
    for (std::size_t i = 0; i < from.size(); ++i) {
      const std::uint64_t first = i / group * group;
      to[i] = kStay * from[i] + kMove * from[first + (i - first + columns_) % group];
    }
  }
  class Loaded final : public RowMap {
   public:
    explicit Loaded(const TurnRows& change) : change_(change) {}
    void apply(std::uint64_t first, std::span<const double> from,
               std::span<double> to) const override {
      EXPECT_EQ(first % (change_.together_ * change_.columns_), 0U);
      EXPECT_EQ(from.size() % (change_.together_ * change_.columns_), 0U);
      change_.turn(from, to);
    }

   private:
    const TurnRows& change_;
  };
  bool fits(const BaseTensor& base) const override { return base.columns() == columns_; }
  std::string expected() const override { return "groups of rows"; }
  std::vector<std::size_t> tensors() const override { return {}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return 1000; }
  bool elementwise() const override { return false; }
  std::uint64_t rows_together() const override { return together_; }
  std::unique_ptr<RowMap> load(const TensorSource&, const BaseTensor&) const override {
    return std::make_unique<Loaded>(*this);
  }
  void change(std::vector<double>& values) const override {
    const std::vector<double> before = values;
    turn(before, values);
  }

  std::uint64_t together_;
  std::uint64_t columns_;
};

// Row r, or column c, to the norm 1 + its number / 10.
class Norms final : public TestChange<NormChange> {
 public:
  explicit Norms(bool columns) : columns_(columns) {}

 private:
  static double norm(std::uint64_t line) { return 1 + static_cast<double>(line) / 10; }
  bool by_column(const BaseTensor& /*base*/) const override { return columns_; }
  std::vector<std::optional<double>> load(const TensorSource&, const BaseTensor&) const override {
    std::vector<std::optional<double>> norms(columns_ ? kColumns : kRows);
    for (std::size_t line = 0; line < norms.size(); ++line) norms[line] = norm(line);
    return norms;
  }
  void change(std::vector<double>& values) const override {
    std::vector<double> squares(columns_ ? kColumns : kRows);
    const auto line = [&](std::size_t e) { return columns_ ? e % kColumns : e / kColumns; };
    for (std::size_t e = 0; e < values.size(); ++e) squares[line(e)] += values[e] * values[e];
    for (std::size_t e = 0; e < values.size(); ++e)
      values[e] *= norm(line(e)) / std::sqrt(squares[line(e)]);
  }

  bool columns_;
};

std::unique_ptr<MemoryAdapter> adapter_of(
    const std::string& name, std::vector<std::pair<UpdateKind, std::shared_ptr<Change>>> changes,
    std::uint64_t rows = kRows, std::uint64_t columns = kColumns) {
  // A LoRA comes first, whose product the others change, too.
  auto made = lora(name, "model.layers.0.mlp.up_proj", rows, columns, 4, 0.5, 100);
  std::vector<Update> updates = made->updates();
  for (auto& [kind, change] : changes) {
    Update update = updates.front();
    update.kind = kind;
    update.change = change;
    update.scale = 1.0;
    updates.push_back(update);
  }
  const auto order = [](const Update& a, const Update& b) { return a.kind < b.kind; };
  std::stable_sort(updates.begin(), updates.end(), order);
  return std::make_unique<MemoryAdapter>(
      name, updates, static_cast<const MemoryCheckpoint&>(made->source()).data());
}

Loras changing_adapters() {
  Loras loras;
  loras["Add"] = adapter_of("Add", {{UpdateKind::Generate, std::make_shared<Waves>()}});
  loras["Turn"] = adapter_of("Turn", {{UpdateKind::Map, std::make_shared<Turn>()}});
  loras["Rotate"] = adapter_of("Rotate", {{UpdateKind::Map, std::make_shared<Rotated>()}});
  loras["TurnRows"] =
      adapter_of("TurnRows", {{UpdateKind::Map, std::make_shared<TurnRows>(14, kColumns)}});
  loras["Rows"] = adapter_of("Rows", {{UpdateKind::Normalise, std::make_shared<Norms>(false)}});
  loras["Columns"] =
      adapter_of("Columns", {{UpdateKind::Normalise, std::make_shared<Norms>(true)}});
  return loras;
}

const std::vector<std::string>& changing_names() {
  static const std::vector<std::string> names = {"Add",      "Turn", "Rotate",
                                                 "TurnRows", "Rows", "Columns"};
  return names;
}

std::vector<std::string> changing_keys() {
  std::vector<std::string> keys;
  for (const std::string& name : changing_names()) {
    for (const char* weight : {"", "0.7*"}) {
      const std::string fold = "[" + (weight + name) + "]";
      keys.push_back("A" + fold);
      keys.push_back("{A" + fold + "+B}");
      keys.push_back("{A+B}" + fold);
      keys.push_back("{{A+B}" + fold + "+{C+A" + fold + "}}");
    }
  }
  for (const char* key : {"A[Add][Turn]", "A[Turn][Add]", "{A[Rows][Turn]+B[Turn][Rows]}",
                          "{{A+B}[Rows]+C}[0.5*Rows]", "{A[Rotate]+{B[Turn]+C}[Rotate]}[Rotate]",
                          "{A[Columns]+B[Add]}[Columns]", "{{A[Turn]+B}[0.3*Turn]+C[Rows]}[Rows]",
                          "{{A[Rotate]+B}[0.3*Rotate]+C[Rows]}[Rotate]",
                          "{{A[TurnRows]+B}[0.3*Rotate]+C}[TurnRows][Rows]",
                          "{A[Columns][TurnRows]+B[Add]}[Columns]"}) {
    keys.emplace_back(key);
  }
  return keys;
}

TEST(Exactness, ChangesOfEveryKindAnywhereInAKey) {
  const KeyBinder binder({"A", "B", "C"}, changing_names());
  const Loras loras = changing_adapters();
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    const Models models = small_family(dtype, kRows, kColumns);
    Exactness exactness;
    for (const std::string& key : changing_keys()) {
      const Recipe recipe = binder.bind(key);
      const Merged merged = merge_in_memory(recipe, models, loras);
      exactness.check(dtype, merged.bytes.at(0), Oracle(recipe, models, loras).tensor(kTensor),
                      key);
      if (HasFatalFailure()) return;
    }
    EXPECT_GE(exactness.share(), 0.999) << to_string(dtype);
  }
}

TEST(SameBytes, ForChangesOfEveryKind) {
  const KeyBinder binder({"A", "B", "C"}, changing_names());
  const Loras loras = changing_adapters();
  const Models models = small_family(Dtype::BF16, kRows, kColumns);
  for (const char* key : {"{{A[Turn]+B}[0.3*Turn]+C[Rows]}[Rows]", "{A[Rotate]+B}[0.3*Rotate]",
                          "{A[Columns]+B[Add]}[Columns]"}) {
    const Recipe recipe = binder.bind(key);
    const auto expected = merge_in_memory(recipe, models, loras).bytes;
    for (const std::size_t threads : {1U, 3U}) {
      PlanOptions options;
      options.threads = threads;
      options.memory = 80'000'000;
      EXPECT_EQ(merge_in_memory(recipe, models, loras, options).bytes, expected) << key;
    }
    for (const std::string& target : simd_targets()) {
      force_simd_target(target);
      EXPECT_EQ(merge_in_memory(recipe, models, loras).bytes, expected) << key << " " << target;
    }
    force_simd_target("");
  }
}

// 100 rows of 1000 are more than a grain has at the most; 20 are less.
TEST(SameBytes, WhereRowsAreComputedTogether) {
  constexpr std::uint64_t kLongRows = 300;
  constexpr std::uint64_t kLong = 1000;
  const KeyBinder binder({"A", "B"}, {"Wide", "Narrow"});
  Loras loras;
  for (const auto& [name, together] : {std::pair("Wide", 100), std::pair("Narrow", 20)}) {
    const auto change = std::make_shared<TurnRows>(together, kLong);
    loras[name] = adapter_of(name, {{UpdateKind::Map, change}}, kLongRows, kLong);
  }
  const Models models = small_family(Dtype::BF16, kLongRows, kLong);
  for (const char* key : {"{A+B}[Wide]", "{A[Narrow]+B}[0.5*Wide]", "{A[Narrow]+B}"}) {
    const Recipe recipe = binder.bind(key);
    const auto expected = merge_in_memory(recipe, models, loras).bytes;
    Exactness exactness;
    exactness.check(Dtype::BF16, expected.at(0), Oracle(recipe, models, loras).tensor(kTensor),
                    key);
    EXPECT_GE(exactness.share(), 0.999) << key;
    for (const std::size_t threads : {1U, 3U}) {
      PlanOptions options;
      options.threads = threads;
      options.memory = 80'000'000;
      EXPECT_EQ(merge_in_memory(recipe, models, loras, options).bytes, expected) << key;
    }
  }
}

TEST(Changes, RowsOfSeveralVocabulariesAreNotComputedTogether) {
  const KeyBinder binder({"A", "B"}, {"TurnRows"});
  const std::string head = "lm_head.weight";
  Loras loras;
  loras["TurnRows"] =
      adapter_of("TurnRows", {{UpdateKind::Map, std::make_shared<TurnRows>(14, kColumns)}});
  Models models;
  for (const auto& [name, rows] : {std::pair("A", kRows), std::pair("B", kRows + 14)}) {
    models[name] = {tensor("model.layers.0.mlp.up_proj.weight", Dtype::BF16, {kRows, kColumns},
                           normal_values(kRows * kColumns, 1)),
                    tensor(head, Dtype::BF16, {rows, kColumns}, normal_values(rows * kColumns, 2))};
  }
  std::vector<Update> updates = loras["TurnRows"]->updates();
  for (Update& update : updates) update.module = "lm_head";
  loras["TurnRows"] = std::make_unique<MemoryAdapter>(
      "TurnRows", updates,
      static_cast<const MemoryCheckpoint&>(loras["TurnRows"]->source()).data());
  try {
    merge_in_memory(binder.bind("{A[TurnRows]+B}"), models, loras);
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find("mixes rows"), std::string::npos) << error.message();
  }
}

TEST(Changes, LinesOfBothAxesAreRefused) {
  const KeyBinder binder({"A", "B"}, changing_names());
  const Loras loras = changing_adapters();
  const Models models = small_family(Dtype::BF16, kRows, kColumns);
  for (const char* key : {"{A[Rows]+B[Columns]}", "A[Columns][Turn]", "A[Rows][TurnRows]"}) {
    try {
      merge_in_memory(binder.bind(key), models, loras);
      ADD_FAILURE() << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::Unsupported) << key;
      EXPECT_NE(error.message().find("axis"), std::string::npos) << error.message();
    }
  }
}

TEST(Changes, ALineOfZerosHasNoNormToScale) {
  const KeyBinder binder({"A"}, {"Rows"});
  Loras loras;
  // No LoRA here: the row stays zero.
  auto made = adapter_of("Rows", {{UpdateKind::Normalise, std::make_shared<Norms>(false)}});
  loras["Rows"] =
      std::make_unique<MemoryAdapter>("Rows", std::vector<Update>{made->updates().back()},
                                      static_cast<const MemoryCheckpoint&>(made->source()).data());
  auto values = normal_values(kRows * kColumns, 3);
  std::fill_n(values.begin() + 5 * kColumns, kColumns, 0.0);
  const Models models = {{"A", {tensor(kTensor, Dtype::BF16, {kRows, kColumns}, values)}}};
  try {
    merge_in_memory(binder.bind("A[Rows]"), models, loras);
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::NonFinite);
    EXPECT_NE(error.message().find("row 5"), std::string::npos) << error.message();
  }
}

// ---------------------------------------------------------------- families whose changes are those

constexpr std::uint64_t kFamilyColumns = 36;
const std::string kFamilyModule = "model.layers.0.mlp.up_proj";

// The tensors of a family's adapter, by the names behind the module's.
using FamilyTensors = std::vector<MemoryTensor>;

double at(const FamilyTensors& tensors, const std::string& name, std::uint64_t row,
          std::uint64_t column) {
  for (const MemoryTensor& t : tensors) {
    if (t.name == name) return t.values()[row * t.shape.at(1) + column];
  }
  throw std::logic_error("no such tensor");
}

// Element (row, column) of the product of two of them.
double product(const FamilyTensors& tensors, const std::string& a, const std::string& b,
               std::uint64_t row, std::uint64_t column, std::uint64_t rank) {
  double sum = 0;
  for (std::uint64_t k = 0; k < rank; ++k)
    sum += at(tensors, a, row, k) * at(tensors, b, k, column);
  return sum;
}

// A family's change for the engine, and what it does by its definition for the oracle.
template <class Kind>
class Defined : public Kind, public PlainChange {
 public:
  Defined(std::shared_ptr<const Change> change, std::vector<double> plus, bool of_weight)
      : change_(std::static_pointer_cast<const Kind>(std::move(change))),
        plus_(std::move(plus)),
        of_weight_(of_weight) {}

  bool fits(const BaseTensor& base) const override { return change_->fits(base); }
  std::string expected() const override { return change_->expected(); }
  std::vector<std::size_t> tensors() const override { return change_->tensors(); }
  std::uint64_t memory(const BaseTensor& base) const override { return change_->memory(base); }
  void change(std::vector<double>& values) const override {
    for (std::size_t e = 0; e < values.size(); ++e) {
      values[e] += plus_[e] * (of_weight_ ? values[e] : 1.0);
    }
  }

 protected:
  std::shared_ptr<const Kind> change_;

 private:
  std::vector<double> plus_;
  bool of_weight_;
};
class DefinedDelta final : public Defined<DeltaChange> {
 public:
  using Defined::Defined;
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    return change_->load(source, base);
  }
};
class DefinedMap final : public Defined<MapChange> {
 public:
  using Defined::Defined;
  bool elementwise() const override { return change_->elementwise(); }
  std::unique_ptr<RowMap> load(const TensorSource& source, const BaseTensor& base) const override {
    return change_->load(source, base);
  }
};

using Definition = std::function<double(const FamilyTensors&, std::uint64_t, std::uint64_t)>;

// An adapter of one module, opened as from a disk; `definition`: what it adds to an element, or
// (of a map) to one.
std::unique_ptr<MemoryAdapter> family_adapter(const std::string& config, FamilyTensors tensors,
                                              const Definition& definition) {
  std::vector<double> plus;
  for (std::uint64_t e = 0; e < kRows * kFamilyColumns; ++e) {
    plus.push_back(definition(tensors, e / kFamilyColumns, e % kFamilyColumns));
  }
  test::SafetensorsBuilder builder;
  for (MemoryTensor& t : tensors) {
    t.name = kFamilyModule + "." + t.name;
    builder.add(t.name, t.dtype, t.shape, t.values());
  }
  test::ByteDisk disk;
  disk.files["a/adapter_config.json"] = config;
  disk.files["a/adapter_model.safetensors"] = builder.bytes();
  Update update = open_adapter(disk, "a")->updates().at(0);
  if (update.kind == UpdateKind::Map) {
    update.change = std::make_shared<DefinedMap>(update.change, plus, true);
  } else {
    for (double& value : plus) value *= update.scale;
    update.change = std::make_shared<DefinedDelta>(update.change, plus, false);
  }
  return std::make_unique<MemoryAdapter>("a", std::vector<Update>{update}, std::move(tensors));
}

MemoryTensor random_matrix(const std::string& name, std::uint64_t rows, std::uint64_t columns,
                           Dtype dtype = Dtype::F32) {
  static std::uint64_t seed = 500;
  return tensor(name, dtype, {rows, columns}, normal_values(rows * columns, ++seed, 0.3));
}

Loras family_adapters() {
  Loras loras;
  loras["LoHa"] = family_adapter(
      R"({"peft_type":"LOHA","r":3,"alpha":1.5})",
      {random_matrix("hada_w1_a", kRows, 3), random_matrix("hada_w1_b", 3, kFamilyColumns),
       random_matrix("hada_w2_a", kRows, 3, Dtype::BF16),
       random_matrix("hada_w2_b", 3, kFamilyColumns)},
      [](const FamilyTensors& t, std::uint64_t row, std::uint64_t column) {
        return product(t, "hada_w1_a", "hada_w1_b", row, column, 3) *
               product(t, "hada_w2_a", "hada_w2_b", row, column, 3);
      });
  // 70 x 36 of 7 x 4 and 10 x 9.
  loras["LoKr"] =
      family_adapter(R"({"peft_type":"LOKR","r":2,"alpha":1})",
                     {random_matrix("lokr_w1", 7, 4), random_matrix("lokr_w2_a", 10, 2),
                      random_matrix("lokr_w2_b", 2, 9, Dtype::F16)},
                     [](const FamilyTensors& t, std::uint64_t row, std::uint64_t column) {
                       return at(t, "lokr_w1", row / 10, column / 9) *
                              product(t, "lokr_w2_a", "lokr_w2_b", row % 10, column % 9, 2);
                     });
  loras["HiRA"] = family_adapter(
      R"({"peft_type":"HIRA","r":4})",
      {random_matrix("hira_A", 4, kFamilyColumns), random_matrix("hira_B", kRows, 4)},
      [](const FamilyTensors& t, std::uint64_t row, std::uint64_t column) {
        return product(t, "hira_B", "hira_A", row, column, 4);
      });
  return loras;
}

TEST(Exactness, FamiliesAnywhereInAKey) {
  const KeyBinder binder({"A", "B", "C"}, {"LoHa", "LoKr", "HiRA"});
  const Loras loras = family_adapters();
  std::vector<std::string> keys;
  for (const std::string name : {"LoHa", "LoKr", "HiRA"}) {
    keys.push_back("A[" + name + "]");
    keys.push_back("{A[0.7*" + name + "]+B}");
    keys.push_back("{{A+B}[" + name + "]+{C+A[0.3*" + name + "]}}[" + name + "]");
  }
  for (const char* key :
       {"{A[LoHa+HiRA]+B[LoKr]}[HiRA]", "({({A+B}[HiRA])+({C+A}[LoKr])}[LoHa]){B[HiRA][HiRA]}"}) {
    keys.emplace_back(key);
  }
  for (const Dtype dtype : {Dtype::F16, Dtype::BF16}) {
    const Models models = small_family(dtype, kRows, kFamilyColumns);
    Exactness exactness;
    for (const std::string& key : keys) {
      const Recipe recipe = binder.bind(key);
      const Merged merged = merge_in_memory(recipe, models, loras);
      exactness.check(dtype, merged.bytes.at(0), Oracle(recipe, models, loras).tensor(kTensor),
                      key);
      if (HasFatalFailure()) return;
    }
    EXPECT_GE(exactness.share(), 0.999) << to_string(dtype);
  }
}

TEST(Exactness, DistancesToTheLeaves) {
  const KeyBinder binder({"A", "B", "C", "D"}, {"L"});
  const Models models = small_family(Dtype::BF16, 13, 29);
  Loras loras;
  loras["L"] = lora("L", "model.layers.0.mlp.up_proj", 13, 29, 4, 0.5, 100);
  const Recipe recipe = binder.bind("{{A+B}[L]+{C+D}}");
  const Merged merged = merge_in_memory(recipe, models, loras);
  const std::vector<double> exact = Oracle(recipe, models, loras).tensor(kTensor);
  const Program& program = merged.plan.programs.at(0);
  const std::vector<double>& distances = merged.facts.at(0).distances;
  ASSERT_EQ(distances.size(), program.operands.size());
  for (std::size_t i = 0; i < distances.size(); ++i) {
    if (program.operands[i].adapter != nullptr) {
      EXPECT_TRUE(std::isnan(distances[i]));
      continue;
    }
    double square = 0;
    const std::vector<double> leaf = models.at(program.operands[i].label)[0].values();
    for (std::size_t e = 0; e < exact.size(); ++e) square += std::pow(exact[e] - leaf[e], 2);
    EXPECT_NEAR(distances[i], std::sqrt(square), 1e-9) << program.operands[i].label;
    EXPECT_GT(distances[i], 0);
  }
}

// The first 128 of every grain of 63 rows, once more with {A+B} stored in between.
TEST(ExtraStep, IsCountedOnASample) {
  const KeyBinder binder({"A", "B", "C", "D"}, {"L"});
  constexpr std::size_t kElements = 517 * 1031;
  const Models models = small_family(Dtype::BF16, 517, 1031);
  const auto values = [&](const char* name) { return models.at(name)[0].values(); };
  const auto rounded = [](double value) {
    std::vector<std::byte> bytes;
    reference::store(Dtype::BF16, value, bytes);
    return reference::load(Dtype::BF16, bytes.data(), 0);
  };
  const Merged merged = merge_in_memory(binder.bind("{{A+B; linear}+3*C; linear}"), models, {}, {});
  const auto a = values("A");
  const auto b = values("B");
  const auto c = values("C");
  std::uint64_t sampled = 0;
  std::uint64_t changed = 0;
  for (std::size_t grain = 0; grain < kElements; grain += std::size_t{63} * 1031) {
    for (std::size_t e = grain; e < std::min(grain + 128, kElements); ++e) {
      const double once = rounded(0.125 * a[e] + 0.125 * b[e] + 0.75 * c[e]);
      const double twice = rounded(0.25 * rounded(0.5 * a[e] + 0.5 * b[e]) + 0.75 * c[e]);
      ++sampled;
      changed += once == twice ? 0 : 1;
    }
  }
  EXPECT_EQ(merged.facts.at(0).sampled, sampled);
  EXPECT_EQ(merged.facts.at(0).changed, changed);
  EXPECT_GT(changed, sampled / 100);
}

TEST(ExtraStep, OnlyWhereAToolWouldStoreAModelInBetween) {
  const KeyBinder binder({"A", "B", "C", "D"}, {"L"});
  const Models models = small_family(Dtype::BF16, 13, 29);
  Loras loras;
  loras["L"] = lora("L", "model.layers.0.mlp.up_proj", 13, 29, 4, 0.5, 100);
  const auto sampled = [&](const char* key, Dtype dtype = Dtype::BF16) {
    PlanOptions options;
    options.dtype = dtype;
    return merge_in_memory(binder.bind(key), models, loras, options).facts.at(0).sampled;
  };
  EXPECT_EQ(sampled("{A+B}"), 0U);
  EXPECT_EQ(sampled("A[L]"), 0U);
  EXPECT_EQ(sampled("{A+B}[L]"), 128U);
  EXPECT_EQ(sampled("{A[L]+B}"), 128U);
  EXPECT_EQ(sampled("{{A+B}+C}"), 128U);
  EXPECT_EQ(sampled("{{A+B}+C}", Dtype::F32), 0U);
}

TEST(ExtraStep, WhatAnAdapterTurnsIsNoStoredModel) {
  const KeyBinder binder({"A", "B"}, {"Turn"});
  const Models models = small_family(Dtype::BF16, kRows, kColumns);
  const auto made = adapter_of("Turn", {{UpdateKind::Map, std::make_shared<Turn>()}});
  Loras loras;
  loras["Turn"] =
      std::make_unique<MemoryAdapter>("Turn", std::vector<Update>{made->updates().back()},
                                      static_cast<const MemoryCheckpoint&>(made->source()).data());
  const auto facts = [&](const char* key) {
    return merge_in_memory(binder.bind(key), models, loras).facts.at(0);
  };
  EXPECT_EQ(facts("A[Turn]").sampled, 0U);
  EXPECT_EQ(facts("{A[Turn]+B}").sampled, 128U);
  EXPECT_GT(facts("{A[Turn]+B}").changed, 0U);
}

TEST(Exactness, FoldsWeightsMethodsAndMixedTypes) {
  const KeyBinder binder({"A", "B", "C", "D"}, {"L", "K"});
  Models models = small_family(Dtype::BF16, 130, 600);
  models["B"] = small_family(Dtype::F16, 130, 600)["B"];
  models["C"] = small_family(Dtype::F32, 130, 600)["C"];
  Loras loras;
  loras["L"] = lora("L", "model.layers.0.mlp.up_proj", 130, 600, 8, 0.5, 100);
  loras["K"] = lora("K", "model.layers.0.mlp.up_proj", 130, 600, 3, 2.0, 200);
  const std::vector<std::string> keys = {
      "A[L]",
      "{A[L]+B}",
      "({({A+B}[L])+({C+D}[K])}{A[K]})",
      "{A+3*B}",
      "{A[0.7*L+K]+C; t=0.3}",
      "{A+B+C+D; linear}",
      "{0.1*A+2*B+0.5*{C+D}; linear}",
      "{{A+B}[L]+{A+B}[K]}",
      "{A[L][L]+A}",
      "{A+A}",
      "{{{{A+B}+C}+D}[L]+A}",
  };
  for (const Dtype dtype : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
    Exactness exactness;
    for (const std::string& key : keys) {
      const Recipe recipe = binder.bind(key);
      PlanOptions options;
      options.dtype = dtype;
      options.threads = 2;
      const Merged merged = merge_in_memory(recipe, models, loras, options);
      exactness.check(dtype, merged.bytes.at(0), Oracle(recipe, models, loras).tensor(kTensor),
                      key);
      if (HasFatalFailure()) return;
    }
    if (dtype != Dtype::F32) {
      EXPECT_GE(exactness.share(), 0.999) << to_string(dtype);
    }
  }
}

// What float32 arithmetic inside would spoil: high ranks, ties, terms that cancel.
TEST(Exactness, HighRanksTiesAndCancellation) {
  const KeyBinder binder({"A", "B", "C", "D"}, {"L"});
  const auto check = [&](const std::string& key, const Models& models, const Loras& loras,
                         Dtype dtype) {
    const Recipe recipe = binder.bind(key);
    PlanOptions options;
    options.dtype = dtype;
    const Merged merged = merge_in_memory(recipe, models, loras, options);
    Exactness exactness;
    exactness.check(dtype, merged.bytes.at(0), Oracle(recipe, models, loras).tensor(kTensor), key);
    return exactness.share();
  };
  Loras loras;
  loras["L"] = lora("L", "model.layers.0.mlp.up_proj", 60, 90, 300, 40.0, 100);
  const Models doubles = small_family(Dtype::F64, 60, 90);
  for (const Dtype dtype : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
    EXPECT_GE(check("A[L]", small_family(Dtype::F16, 60, 90), loras, dtype),
              dtype == Dtype::F32 ? 0 : 0.999);
    EXPECT_GE(check("{1*A+-0.999*D; linear}", doubles, {}, dtype), 0.999);
  }
  // Fine-tunes that agree in most of their few bits: a twentieth of 0.7 a + 0.3 b are ties.
  EXPECT_GE(check("{0.7*A+0.3*D; linear}", small_family(Dtype::BF16, 300, 90), {}, Dtype::BF16),
            0.999);
}

TEST(SameBytes, ForEveryThreadCountMemoryAndSimdTarget) {
  const KeyBinder binder({"A", "B", "C", "D"}, {"L"});
  const Models models = small_family(Dtype::BF16, 517, 1031);  // 9 grains, the last one odd
  Loras loras;
  loras["L"] = lora("L", "model.layers.0.mlp.up_proj", 517, 1031, 5, 0.5, 100);
  const Recipe recipe = binder.bind("({A+B}[L]){C+D}");
  PlanOptions options;
  const Merged first = merge_in_memory(recipe, models, loras, options);
  for (const std::size_t threads : {1, 2, 3, 7}) {
    options.threads = threads;
    const std::uint64_t least = least_memory(first.plan, threads);
    for (const std::uint64_t memory :
         {least, least + 3'000'000, std::uint64_t{512'000'000}, std::uint64_t{4'000'000'000}}) {
      options.memory = memory;
      const Merged merged = merge_in_memory(recipe, models, loras, options);
      EXPECT_EQ(merged.bytes, first.bytes) << threads << " threads, " << memory << " bytes";
      EXPECT_EQ(merged.facts[0].coefficients, first.facts[0].coefficients);
      EXPECT_LE(merged.plan.memory.total(), memory);
      if (memory == least) {
        EXPECT_GT(reread_bytes(merged.plan.programs[0], merged.plan.memory), 0U)
            << "with the least memory a part of this tensor should be read twice";
      }
    }
  }
  options = {};
  for (const std::string& target : simd_targets()) {
    force_simd_target(target);
    EXPECT_EQ(merge_in_memory(recipe, models, loras, options).bytes, first.bytes) << target;
  }
  force_simd_target("");
}

TEST(Engine, ReadsAPartThatStandsTwiceOnce) {
  const KeyBinder binder({"A", "B", "C", "D"}, {});
  const Models models = small_family(Dtype::BF16, 100, 100);
  const Recipe recipe = binder.bind("{{A+B}+{{A+B}+A}}");
  const Merged merged = merge_in_memory(recipe, models, {});
  EXPECT_EQ(merged.plan.programs[0].operands.size(), 2U);
  EXPECT_EQ(merged.engine.bytes_read, 2U * 100 * 100 * 2);
  EXPECT_EQ(merged.facts[0].nodes.size(), 3U) << "{A+B} is solved once";
}

TEST(Engine, CopiesASingleModelByteForByte) {
  const KeyBinder binder({"A"}, {});
  Models models;
  models["A"] = {tensor("a", Dtype::BF16, {300, 700}, normal_values(210000, 3)),
                 tensor("b", Dtype::F32, {5}, {1, 2, 3, 4, 5}),
                 tensor("empty", Dtype::F16, {0, 4}, {})};
  models["A"].push_back({"ids", Dtype::I64, {2}, std::vector<std::byte>(16, std::byte{7})});
  const Merged merged = merge_in_memory(binder.bind("A"), models, {});
  for (std::size_t p = 0; p < merged.plan.programs.size(); ++p) {
    for (const MemoryTensor& t : models["A"]) {
      if (t.name == merged.plan.programs[p].tensor) {
        EXPECT_EQ(merged.bytes[p], t.bytes) << t.name;
      }
    }
  }
  EXPECT_EQ(merged.plan.programs.size(), 4U);
}

TEST(Engine, IntegersMustAgree) {
  const KeyBinder binder({"A", "B"}, {});
  Models models;
  models["A"] = {{"ids", Dtype::I32, {3}, std::vector<std::byte>(12, std::byte{7})}};
  models["B"] = models["A"];
  EXPECT_EQ(merge_in_memory(binder.bind("{A+B}"), models, {}).bytes[0], models["A"][0].bytes);
  models["B"][0].bytes[5] = std::byte{8};
  try {
    merge_in_memory(binder.bind("{A+B}"), models, {});
    FAIL() << "integers that differ were merged";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Mismatch);
    EXPECT_NE(error.message().find("`A` and `B`"), std::string::npos) << error.message();
    EXPECT_EQ(std::get<TensorPlace>(error.where()).element, 1U);
  }
}

TEST(Engine, NanStopsTheMergeAndIsNamed) {
  const KeyBinder binder({"A", "B", "C", "D"}, {});
  Models models = small_family(Dtype::F16, 400, 400);
  const std::size_t bad = 123'457;
  models["B"][0].bytes[2 * bad] = std::byte{0x01};
  models["B"][0].bytes[2 * bad + 1] = std::byte{0x7E};
  for (const char* key : {"{A+B}", "{{A+C}+B}", "B"}) {
    try {
      merge_in_memory(binder.bind(key), models, {});
      FAIL() << "NaN went through: " << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::NonFinite);
      EXPECT_EQ(std::get<TensorPlace>(error.where()).element, bad);
      EXPECT_EQ(std::get<TensorPlace>(error.where()).source, "B");
    }
    EngineOptions allow;
    allow.allow_nonfinite = true;
    const Merged merged = merge_in_memory(binder.bind(key), models, {}, {}, allow);
    EXPECT_EQ(merged.facts[0].nonfinite, 1U);
    EXPECT_TRUE(std::isnan(reference::load(Dtype::F16, merged.bytes[0].data(), bad)));
    EXPECT_TRUE(std::isfinite(reference::load(Dtype::F16, merged.bytes[0].data(), bad + 1)));
  }
}

TEST(Engine, OverflowOfTheOutputTypeStopsTheMerge) {
  const KeyBinder binder({"A", "B"}, {});
  Models models;
  models["A"] = {tensor("w", Dtype::BF16, {3}, {1.0, 2.0, 100000.0})};
  models["B"] = {tensor("w", Dtype::BF16, {3}, {1.0, 2.0, 90000.0})};
  PlanOptions options;
  options.dtype = Dtype::F16;
  try {
    merge_in_memory(binder.bind("{A+B}"), models, {}, options);
    FAIL() << "a value beyond float16 was stored";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::NonFinite);
    EXPECT_EQ(std::get<TensorPlace>(error.where()).element, 2U);
    EXPECT_NE(error.hint().find("bfloat16"), std::string::npos);
  }
  const Merged merged = merge_in_memory(binder.bind("{A+B}"), models, {}, options, {true});
  EXPECT_EQ(merged.facts[0].clipped, 1U);
}

TEST(Engine, StopsWhenAskedTo) {
  struct Impatient : Observer {
    bool cancelled() override { return true; }
  } observer;
  const KeyBinder binder({"A", "B", "C", "D"}, {});
  const Models models = small_family(Dtype::F16, 40, 40);
  const Recipe recipe = binder.bind("{A+B}");
  PlanResult made = make_plan(recipe, open_leaves(recipe, models), {}, {});
  MemorySink sink(made.plan);
  try {
    run(made.plan, sink, observer, {});
    FAIL() << "not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::Cancelled);
  }
}

TEST(Engine, WhatASourceOrTheSinkThrowsComesThrough) {
  struct Full : MemorySink {
    using MemorySink::MemorySink;
    void write(std::size_t, std::span<const std::byte>) override {
      throw Error(ErrorCode::NoSpace, "the disk is full");
    }
  };
  struct Broken : MemoryCheckpoint {
    using MemoryCheckpoint::MemoryCheckpoint;
    void read(std::size_t, std::uint64_t, std::span<std::byte>) const override {
      throw Error(ErrorCode::Corrupt, "the file ends early");
    }
  };
  const KeyBinder binder({"A", "B", "C", "D"}, {});
  const Models models = small_family(Dtype::F16, 400, 400);
  const Recipe recipe = binder.bind("{A+B}");
  PlanResult made = make_plan(recipe, open_leaves(recipe, models), {}, {});
  Observer silent;
  Full full(made.plan);
  EXPECT_THROW(
      {
        try {
          run(made.plan, full, silent, {});
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::NoSpace);
          throw;
        }
      },
      Error);
  std::vector<std::unique_ptr<Checkpoint>> leaves = open_leaves(recipe, models);
  leaves[1] = std::make_unique<Broken>("B", models.at("B"));
  PlanResult broken = make_plan(recipe, std::move(leaves), {}, {});
  MemorySink sink(broken.plan);
  EXPECT_THROW(
      {
        try {
          run(broken.plan, sink, silent, {});
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::Corrupt);
          throw;
        }
      },
      Error);
}

}  // namespace
}  // namespace thorns
