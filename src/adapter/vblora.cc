// VB-LoRA (Li et al. 2024): W + B A, whose factors are put together from pieces of one row of A
// (one column of B) each; a piece is a mixture of a few vectors of a bank that all layers share.
// The mixture is given by logits for all vectors, of which the largest few count, or by the numbers
// and weights of those few.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>

#include "adapter/family.h"
#include "adapter/matrix.h"
#include "adapter/numbers.h"
#include "adapter/product.h"
#include "base/text.h"

namespace thorns {
namespace {

constexpr std::uint64_t kDefaultVectors = 2;  // that are mixed, `topk`

// The mixtures of one factor: for each piece the numbers of its vectors and their weights.
class Mixtures {
 public:
  // `name` with logits (d0 x d1 x vectors), or with `_topk_indices` (d0 x d1 x few) and
  // `_topk_weights` (d0 x d1 x few - 1: the last is what is missing to 1).
  Mixtures(FamilyModule& module, const std::string& name, std::uint64_t few) : few_(few) {
    if (module.has(name)) {
      first_ = module.need(name);
      shape_ = module.shape(first_);
    } else {
      indices_ = module.need_indices(name + "_topk_indices");
      first_ = module.need(name + "_topk_weights");
      shape_ = module.shape(*indices_);
    }
    bool fits = shape_.size() == 3 && shape_[0] * shape_[1] > 0 && shape_[2] >= few_;
    if (fits && indices_) {
      std::vector<std::uint64_t> weights = shape_;
      --weights[2];  // to none, where one vector is all of the mixture
      fits = shape_[2] == few_ && module.shape(first_) == weights;
    }
    for (const std::size_t tensor : tensors()) numbers_ += module.info(tensor).elements;
    if (!fits) {
      module.refuse(ErrorCode::Corrupt,
                    fmt::format("mixes vectors by a tensor of shape {}, from which {} cannot be "
                                "chosen: `{}`",
                                shape_text(module.shape(first_)), few_, module.info(first_).name),
                    first_);
    }
  }

  // Of the pieces: ranks x pieces, or pieces x ranks.
  std::uint64_t rows() const { return shape_[0]; }
  std::uint64_t columns() const { return shape_[1]; }
  std::vector<std::size_t> tensors() const {
    return indices_ ? std::vector<std::size_t>{first_, *indices_}
                    : std::vector<std::size_t>{first_};
  }

  // Numbers that load() holds besides the pieces, at most.
  std::uint64_t numbers() const { return numbers_; }

  // All pieces, one a row.
  Matrix load(const TensorSource& source, const Matrix& bank) const {
    Matrix pieces{rows() * columns(), bank.columns, {}};
    pieces.values.resize(pieces.rows * pieces.columns);
    const std::vector<double> numbers = read_numbers(source, first_);
    std::vector<std::uint64_t> chosen;
    if (indices_) chosen = read_indices(source, *indices_);
    for (std::uint64_t piece = 0; piece < pieces.rows; ++piece) {
      const auto mixture = indices_ ? stored(numbers, chosen, piece) : largest(numbers, piece);
      double* const to = pieces.values.data() + piece * pieces.columns;
      for (const auto& [vector, weight] : mixture) {
        if (vector >= bank.rows) refuse(source, vector, bank.rows);
        for (std::uint64_t c = 0; c < bank.columns; ++c) to[c] += weight * bank(vector, c);
      }
    }
    return pieces;
  }

 private:
  using Mixture = std::vector<std::pair<std::uint64_t, double>>;  // vector, weight

  Mixture stored(const std::vector<double>& weights, const std::vector<std::uint64_t>& chosen,
                 std::uint64_t piece) const {
    Mixture mixture;
    double rest = 1;
    for (std::uint64_t k = 0; k < few_; ++k) {
      const bool last = k + 1 == few_;
      const double weight = last ? rest : weights[piece * (few_ - 1) + k];
      rest -= weight;
      mixture.emplace_back(chosen[piece * few_ + k], weight);
    }
    return mixture;
  }

  // The softmax over the largest logits.
  Mixture largest(const std::vector<double>& logits, std::uint64_t piece) const {
    const double* const own = logits.data() + piece * shape_[2];
    std::vector<std::uint64_t> order(shape_[2]);
    std::iota(order.begin(), order.end(), 0);
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(few_);
    std::partial_sort(order.begin(), end, order.end(), [&](std::uint64_t a, std::uint64_t b) {
      return own[a] > own[b] || (own[a] == own[b] && a < b);
    });
    Mixture mixture;
    double sum = 0;
    for (auto vector = order.begin(); vector != end; ++vector) {
      mixture.emplace_back(*vector, std::exp(own[*vector] - own[order[0]]));
      sum += mixture.back().second;
    }
    for (auto& [vector, weight] : mixture) weight /= sum;
    return mixture;
  }

  [[noreturn]] void refuse(const TensorSource& source, std::uint64_t vector,
                           std::uint64_t vectors) const {
    const std::size_t tensor = indices_.value_or(first_);
    const TensorInfo& info = source.tensors()[tensor];
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` names vector {} of a bank of {}", info.name, vector, vectors),
                TensorPlace{info.name, std::nullopt, source.file_of(tensor)});
  }

  std::uint64_t few_;
  std::size_t first_ = 0;  // logits, or weights
  std::optional<std::size_t> indices_;
  std::vector<std::uint64_t> shape_;
  std::uint64_t numbers_ = 0;
};

class BankProduct final : public ProductChange {
 public:
  BankProduct(const FamilyModule& module, std::size_t bank, Mixtures a, Mixtures b)
      : ProductChange(a.rows()),
        bank_(bank),
        bank_numbers_(module.info(bank).elements),
        length_(module.shape(bank)[1]),
        a_(std::move(a)),
        b_(std::move(b)) {}

  std::string expected() const override {
    return shape_text(std::vector<std::uint64_t>{b_.rows() * length_, a_.columns() * length_});
  }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all = {bank_};
    for (const Mixtures* mixtures : {&a_, &b_}) {
      for (const std::size_t tensor : mixtures->tensors()) all.push_back(tensor);
    }
    return all;
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    const std::uint64_t pieces = rank() * (base.rows() + base.columns());
    return ProductChange::memory(base) +
           (pieces + bank_numbers_ + a_.numbers() + b_.numbers()) * sizeof(double);
  }

 private:
  bool fits(std::uint64_t out, std::uint64_t in) const override {
    return out == b_.rows() * length_ && in == a_.columns() * length_;
  }
  void make(const TensorSource& source, const BaseTensor& /*base*/, std::span<float> b,
            std::span<float> a) const override {
    const Matrix bank = read_matrix(source, bank_);
    const Matrix rows = a_.load(source, bank);
    std::copy(rows.values.begin(), rows.values.end(), a.begin());
    const Matrix columns = b_.load(source, bank);  // piece by rank, each of `length_`
    for (std::uint64_t i = 0; i < b.size(); ++i) {
      const std::uint64_t row = i / rank();
      b[i] = static_cast<float>(columns((row / length_) * rank() + i % rank(), row % length_));
    }
  }

  std::size_t bank_;
  std::uint64_t bank_numbers_;
  std::uint64_t length_;  // of a vector of the bank
  Mixtures a_;
  Mixtures b_;
};

void fold_vblora(FamilyModule& module) {
  const std::size_t bank = module.need_shared("vblora_vector_bank");
  module.check_matrix(bank);
  const std::uint64_t few = module.config().count("topk", kDefaultVectors);
  Mixtures a(module, "vblora_logits_A", few);
  Mixtures b(module, "vblora_logits_B", few);
  if (a.rows() != b.columns()) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has factors of different rank for `{}`: {} and {}", module.name(),
                              a.rows(), b.columns()));
  }
  module.add(UpdateKind::LowRank,
             std::make_shared<BankProduct>(module, bank, std::move(a), std::move(b)));
}

const RegisterFamily registered_vblora(
    {.type = "VBLORA",
     .name = "VB-LoRA",
     .reference = "Li et al. 2024",
     .update = "W + B·A, put together from mixtures of the vectors of one bank",
     .layers = "linear, Conv1D",
     .tensors = {"vblora_logits_A", "vblora_logits_B", "vblora_logits_A_topk_indices",
                 "vblora_logits_A_topk_weights", "vblora_logits_B_topk_indices",
                 "vblora_logits_B_topk_weights"},
     .shared = {"vblora_vector_bank"},
     .fold = fold_vblora});

}  // namespace
}  // namespace thorns
