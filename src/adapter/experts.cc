#include "adapter/experts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <utility>
#include <vector>

#include "adapter/numbers.h"
#include "base/text.h"
#include "kernel/kernels.h"

namespace thorns {
namespace {

// Models whose experts multiply from the left: stored (E, in, out).
constexpr std::array<std::string_view, 4> kTransposedModels = {"aria", "aria_text", "gpt_oss",
                                                               "openai_privacy_filter"};

// A stacked parameter and the matrices of one expert that a checkpoint may hold in its place, one
// below the other in it.
const std::map<std::string_view, std::vector<std::string>> kMatrices = {
    {"gate_up_proj", {"gate_proj", "up_proj"}},
    {"gate_proj", {"gate_proj"}},
    {"up_proj", {"up_proj"}},
    {"down_proj", {"down_proj"}},
};

// "0.19.1.dev0" -> 19001; 0 where there is none.
int minor_and_patch(const std::string& version) {
  std::array<int, 3> numbers{};
  const char* at = version.data();
  const char* const end = at + version.size();
  for (int& number : numbers) {
    const auto read = std::from_chars(at, end, number);
    if (read.ec != std::errc{} || read.ptr == end || *read.ptr != '.') {
      break;
    }
    at = read.ptr + 1;
  }
  return numbers[0] > 0 ? 1'000'000 : numbers[1] * 1000 + numbers[2];
}

// Rows [first, first + rows) of what one expert adds to its part of the parameter, as a product:
// straight from D_e, or of its transpose.
struct ExpertPart {
  std::uint64_t expert = 0;
  std::uint64_t first = 0;
  std::uint64_t rows = 0;
};

// u: part.rows x rank, v: rank x columns of that side.
void load_part(const ExpertFactors& factors, const TensorSource& source, bool turned,
               const ExpertPart& part, std::span<float> u, std::span<float> v) {
  const std::uint64_t rank = factors.rank;
  const std::uint64_t stacked = factors.experts * rank;
  std::vector<float> a(rank * factors.in);
  read_floats(source, factors.a, a, part.expert * a.size());
  const std::uint64_t b_first = turned ? 0 : part.first;
  const std::uint64_t b_rows = turned ? factors.out : part.rows;
  std::vector<float> b(b_rows * stacked);
  read_floats(source, factors.b, b, b_first * stacked);
  const auto b_at = [&](std::uint64_t row, std::uint64_t k) {
    return b[row * stacked + k * factors.experts + part.expert];
  };
  for (std::uint64_t k = 0; k < rank; ++k) {
    const float* const a_row = a.data() + k * factors.in;
    for (std::uint64_t i = 0; i < part.rows; ++i) {
      u[i * rank + k] = turned ? a_row[part.first + i] : b_at(i, k);
    }
    const std::uint64_t columns = turned ? factors.out : factors.in;
    for (std::uint64_t j = 0; j < columns; ++j) {
      v[k * columns + j] = turned ? b_at(j, k) : a_row[j];
    }
  }
}

// What load_part() holds.
std::uint64_t part_memory(const ExpertFactors& factors, std::uint64_t b_rows) {
  return factors.rank * (factors.in + factors.experts * b_rows) *
         (sizeof(double) + 2 * sizeof(float));
}

class StackedDelta final : public Delta {
 public:
  StackedDelta(const ExpertFactors& factors, const TensorSource& source, bool turned)
      : rank_(factors.rank),
        rows_(turned ? factors.in : factors.out),
        columns_(turned ? factors.out : factors.in) {
    std::vector<float> v(rank_ * columns_);
    for (std::uint64_t e = 0; e < factors.experts; ++e) {
      Expert& expert = experts_.emplace_back();
      expert.u.resize(rows_ * rank_);
      load_part(factors, source, turned, {e, 0, rows_}, expert.u, v);
      expert.packed_v.resize(packed_size(rank_, columns_));
      pack_panels(v.data(), rank_, columns_, expert.packed_v.data());
    }
  }

  void generate(std::uint64_t first, std::span<double> to) const override {
    std::vector<float> run(to.size());
    const std::uint64_t each = rows_ * columns_;
    for (std::size_t done = 0; done < to.size();) {
      const std::uint64_t at = (first + done) % each;
      const auto count = static_cast<std::size_t>(std::min(each - at, to.size() - done));
      const Expert& expert = experts_[(first + done) / each];
      low_rank(expert.u.data(), expert.packed_v.data(), rank_, columns_, at, count, run.data());
      std::copy_n(run.begin(), count, to.begin() + static_cast<std::ptrdiff_t>(done));
      done += count;
    }
  }

 private:
  struct Expert {
    std::vector<float> u;
    std::vector<float> packed_v;
  };
  std::size_t rank_;
  std::uint64_t rows_;
  std::size_t columns_;
  std::vector<Expert> experts_;
};

// All experts at once.
class StackedChange final : public DeltaChange {
 public:
  explicit StackedChange(ExpertFactors factors) : factors_(std::move(factors)) {}

  bool fits(const BaseTensor& base) const override {
    const std::vector<std::uint64_t> straight = {factors_.experts, factors_.out, factors_.in};
    const std::vector<std::uint64_t> turned = {factors_.experts, factors_.in, factors_.out};
    return base.shape == (base.transposed ? turned : straight);
  }
  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{factors_.experts, factors_.out, factors_.in});
  }
  std::optional<std::vector<std::uint64_t>> shape() const override {
    return {{factors_.experts, factors_.out, factors_.in}};
  }
  std::vector<std::size_t> tensors() const override { return {factors_.a, factors_.b}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    const std::uint64_t numbers =
        factors_.experts * factors_.rank * (factors_.in + factors_.out + kPanel);
    const std::uint64_t runs = kMostRun * sizeof(float);
    return numbers * sizeof(float) + runs + part_memory(factors_, factors_.out) +
           (base.transposed ? factors_.out : factors_.in) * factors_.rank * sizeof(float);
  }
  Orientation orientation(const std::string& model_type) const override {
    return factors_.orientation(model_type);
  }
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    return std::make_unique<StackedDelta>(factors_, source, base.transposed);
  }

 private:
  static constexpr std::uint64_t kMostRun = 65536;  // of a call of generate(), for each thread
  ExpertFactors factors_;
};

// One matrix of one expert, a Linear weight: part `index` of `parts` of the rows of its share of
// the stacked parameter.
class SlicedChange final : public FactorChange {
 public:
  SlicedChange(ExpertFactors factors, std::uint64_t expert, std::uint64_t index,
               std::uint64_t parts)
      : factors_(std::move(factors)), expert_(expert), index_(index), parts_(parts) {}

  bool fits(const BaseTensor& base) const override {
    const std::uint64_t rows = all_rows(base.transposed);
    return rows % parts_ == 0 &&
           base.shape == std::vector<std::uint64_t>{rows / parts_, columns(base.transposed)};
  }
  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{all_rows(false) / parts_, columns(false)});
  }
  std::vector<std::size_t> tensors() const override { return {factors_.a, factors_.b}; }
  std::uint64_t memory(const BaseTensor& base) const override {
    return part_memory(factors_,
                       base.transposed ? factors_.out : all_rows(base.transposed) / parts_);
  }
  // Of A what the expert has, of B the rows that it is read from.
  std::uint64_t bytes(const TensorSource& source, const BaseTensor& base) const override {
    const TensorInfo& a = source.tensors()[factors_.a];
    const TensorInfo& b = source.tensors()[factors_.b];
    return a.bytes() / factors_.experts + (base.transposed ? b.bytes() : b.bytes() / parts_);
  }
  Orientation orientation(const std::string& model_type) const override {
    return factors_.orientation(model_type);
  }
  std::uint64_t rank() const override { return factors_.rank; }
  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const override {
    const std::uint64_t rows = all_rows(base.transposed) / parts_;
    load_part(factors_, source, base.transposed, {expert_, index_ * rows, rows}, u, v);
  }

 private:
  std::uint64_t all_rows(bool turned) const { return turned ? factors_.in : factors_.out; }
  std::uint64_t columns(bool turned) const { return turned ? factors_.out : factors_.in; }

  ExpertFactors factors_;
  std::uint64_t expert_;
  std::uint64_t index_;
  std::uint64_t parts_;
};

Update update_of(const std::string& module, const std::string& parameter, double scale,
                 std::uint64_t rank) {
  Update update;
  update.module = module;
  update.parameter = parameter;
  update.scale = scale;
  update.rank = rank;
  return update;
}

}  // namespace

Orientation ExpertFactors::orientation(const std::string& model_type) const {
  const int version = minor_and_patch(peft_version);
  if (version < 19000) return Orientation::Transposed;
  if (model_type.empty()) return Orientation::Unknown;
  const bool transposed = std::find(kTransposedModels.begin(), kTransposedModels.end(),
                                    model_type) != kTransposedModels.end();
  // PEFT 0.19.0 had it the wrong way round.
  return transposed == (version != 19000) ? Orientation::Transposed : Orientation::Straight;
}

Update expert_update(const ExpertFactors& factors, const std::string& module,
                     const std::string& parameter, double scale) {
  Update stacked = update_of(module, parameter, scale, factors.rank);
  stacked.kind = UpdateKind::Generate;
  stacked.change = std::make_shared<StackedChange>(factors);
  const auto matrices = kMatrices.find(parameter);
  if (matrices == kMatrices.end()) return stacked;
  const std::vector<std::string>& names = matrices->second;
  for (std::uint64_t e = 0; e < factors.experts; ++e) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      Update part =
          update_of(fmt::format("{}.{}.{}", module, e, names[i]), "weight", scale, factors.rank);
      part.kind = UpdateKind::LowRank;
      part.change = std::make_shared<SlicedChange>(factors, e, i, names.size());
      stacked.parts.push_back(std::move(part));
    }
  }
  return stacked;
}

}  // namespace thorns
