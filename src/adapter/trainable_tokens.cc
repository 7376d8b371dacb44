// Trainable tokens: some rows of an embedding are replaced. The rows are cleared, which is linear
// in W, and added as they were trained; PEFT calls them deltas, but they are whole rows.
#include "adapter/trainable_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/text.h"
#include "kernel/kernels.h"

namespace thorns {
namespace {

// Row of the embedding -> row of the adapter's tensor.
using TokenRows = std::map<std::uint64_t, std::uint64_t>;

// The part of elements [first, first + count) that lies in trained rows, row by row:
// body(adapter's row, its first column, position in the run, elements).
template <class Body>
void each_trained_run(const TokenRows& rows, std::uint64_t columns, std::uint64_t first,
                      std::uint64_t count, Body body) {
  const std::uint64_t end = first + count;
  for (auto at = rows.lower_bound(first / columns); at != rows.end(); ++at) {
    const std::uint64_t begin = std::max(first, at->first * columns);
    if (begin >= end) return;
    const std::uint64_t stop = std::min(end, (at->first + 1) * columns);
    body(at->second, begin - at->first * columns, static_cast<std::size_t>(begin - first),
         static_cast<std::size_t>(stop - begin));
  }
}

class ClearedRows final : public RowMap {
 public:
  ClearedRows(TokenRows rows, std::uint64_t columns) : rows_(std::move(rows)), columns_(columns) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    std::copy(from.begin(), from.end(), to.begin());
    each_trained_run(rows_, columns_, first, to.size(),
                     [&](std::uint64_t, std::uint64_t, std::size_t at, std::size_t count) {
                       std::fill_n(to.begin() + static_cast<std::ptrdiff_t>(at), count, 0.0);
                     });
  }

 private:
  TokenRows rows_;
  std::uint64_t columns_;
};

// Reads the rows when they are needed; there may be many.
class TrainedRows final : public Delta {
 public:
  TrainedRows(TokenRows rows, const TensorSource& source, std::size_t tensor)
      : rows_(std::move(rows)), source_(source), tensor_(tensor) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    std::fill(to.begin(), to.end(), 0.0);
    const TensorInfo& info = source_.tensors()[tensor_];
    const std::uint64_t columns = info.shape[1];
    std::vector<std::byte> bytes;
    std::vector<double> numbers;
    each_trained_run(
        rows_, columns, first, to.size(),
        [&](std::uint64_t row, std::uint64_t column, std::size_t at, std::size_t count) {
          bytes.resize(count * size_of(info.dtype));
          numbers.resize(padded(count));
          source_.read(tensor_, row * columns + column, bytes);
          widen(info.dtype, bytes.data(), count, numbers.data());
          std::copy_n(numbers.begin(), count, to.begin() + static_cast<std::ptrdiff_t>(at));
        });
  }

 private:
  TokenRows rows_;
  const TensorSource& source_;
  std::size_t tensor_;
};

// What both changes are for: embeddings with all these rows.
struct Tokens {
  std::size_t tensor = 0;
  std::uint64_t columns = 0;
  TokenRows rows;

  bool fits(const BaseTensor& base) const {
    return base.shape.size() == 2 && !base.transposed && base.columns() == columns &&
           rows.rbegin()->first < base.rows();
  }
  std::string expected() const {
    return fmt::format("at least {} rows of {} elements", rows.rbegin()->first + 1, columns);
  }
  std::uint64_t memory() const {
    constexpr std::uint64_t kEntry = 64;  // bytes of an entry of the map
    return rows.size() * kEntry + columns * 2 * sizeof(double);
  }
};

class ClearedTokens final : public MapChange {
 public:
  explicit ClearedTokens(Tokens tokens) : tokens_(std::move(tokens)) {}
  bool fits(const BaseTensor& base) const override { return tokens_.fits(base); }
  std::string expected() const override { return tokens_.expected(); }
  bool elementwise() const override { return true; }
  std::vector<std::size_t> tensors() const override { return {}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return tokens_.memory(); }
  std::unique_ptr<RowMap> load(const TensorSource& /*source*/,
                               const BaseTensor& base) const override {
    return std::make_unique<ClearedRows>(tokens_.rows, base.columns());
  }

 private:
  Tokens tokens_;
};

class TrainedTokens final : public DeltaChange {
 public:
  explicit TrainedTokens(Tokens tokens) : tokens_(std::move(tokens)) {}
  bool fits(const BaseTensor& base) const override { return tokens_.fits(base); }
  std::string expected() const override { return tokens_.expected(); }
  std::vector<std::size_t> tensors() const override { return {tokens_.tensor}; }
  std::uint64_t memory(const BaseTensor& /*base*/) const override { return tokens_.memory(); }
  std::unique_ptr<Delta> load(const TensorSource& source,
                              const BaseTensor& /*base*/) const override {
    return std::make_unique<TrainedRows>(tokens_.rows, source, tokens_.tensor);
  }

 private:
  Tokens tokens_;
};

// The list for `module`: all of a plain list; of lists by module that of the first name with which
// the module's ends.
const Json& indices_of(const FamilyModule& module, const char* field) {
  const ConfigFields& config = module.config();
  const Json* lists = config.find(field);
  if (lists != nullptr && lists->is_object()) {
    const Json* found = nullptr;
    for (const auto& [name, list] : lists->items()) {
      if (found == nullptr && module.name().ends_with(name)) found = &list;
    }
    lists = found;
  }
  if (lists == nullptr || !lists->is_array() || lists->empty()) {
    config.wrong(field, "a list of token numbers for every trained embedding");
  }
  return *lists;
}

}  // namespace

void fold_trained_tokens(FamilyModule& module, const char* field) {
  Tokens tokens;
  tokens.tensor = module.need(kTrainedTokens);
  module.check_matrix(tokens.tensor);
  const std::vector<std::uint64_t>& shape = module.shape(tokens.tensor);
  const Json& indices = indices_of(module, field);
  if (indices.size() != shape[0]) {
    module.refuse(ErrorCode::Corrupt,
                  fmt::format("has {} trained tokens for `{}`, and {} lists {}", shape[0],
                              module.name(), field, indices.size()),
                  tokens.tensor, "the file and its adapter_config.json do not belong together");
  }
  tokens.columns = shape[1];
  for (std::uint64_t row = 0; row < shape[0]; ++row) {
    const Json& index = indices[static_cast<std::size_t>(row)];
    if (!index.is_number_unsigned()) module.config().wrong(field, "a list of token numbers from 0");
    tokens.rows[index.get<std::uint64_t>()] = row;  // of a token that is listed twice, the last
  }
  module.add(UpdateKind::Map, std::make_shared<ClearedTokens>(tokens));
  module.add(UpdateKind::Generate, std::make_shared<TrainedTokens>(tokens));
}

namespace {

const RegisterFamily registered_trainable_tokens(
    {.type = "TRAINABLE_TOKENS",
     .name = "trainable tokens",
     .reference = "PEFT 2025",
     .update = "some rows are replaced by the adapter's",
     .layers = "embedding, output head",
     .tensors = {kTrainedTokens},
     .fold = [](FamilyModule& module) { fold_trained_tokens(module, "token_indices"); }});

}  // namespace
}  // namespace thorns
