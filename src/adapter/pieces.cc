#include "adapter/pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "adapter/numbers.h"
#include "base/text.h"

namespace thorns {
namespace {

// Where a part of `rows` rows begins in a matrix of `all`: keys and values have as many rows as
// each other and no more than the queries; gate and up are halves. nullopt where it cannot be.
std::optional<std::uint64_t> first_row(Projection part, std::uint64_t rows, std::uint64_t all) {
  if (rows == 0 || rows >= all) return std::nullopt;
  const std::uint64_t rest = all - rows;
  switch (part) {
    case Projection::Query:
      if (rest % 2 != 0 || rest / 2 > rows) return std::nullopt;
      return 0;
    case Projection::Key:
    case Projection::Value:
      if (rest / 2 < rows) return std::nullopt;
      return part == Projection::Value ? rest : rest - rows;
    case Projection::Gate:
    case Projection::Up:
      if (rest != rows) return std::nullopt;
      return part == Projection::Gate ? 0 : rows;
  }
  return std::nullopt;
}

// Rows of a piece and those of the model's tensor that they are.
struct Run {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::uint64_t count = 0;
};
std::optional<Run> run_of(const RowPiece& piece, std::uint64_t base_rows) {
  const auto first = piece.whole ? first_row(piece.part, base_rows, piece.rows)
                                 : first_row(piece.part, piece.rows, base_rows);
  if (!first) return std::nullopt;
  if (piece.whole) return Run{*first, 0, base_rows};
  return Run{0, *first, piece.rows};
}

std::vector<double> numbers_of(const TensorSource& source, const RowPiece& piece, const Run& run) {
  const std::uint64_t width = source.tensors()[piece.tensor].elements / piece.rows;
  return read_numbers(source, piece.tensor, run.from * width,
                      static_cast<std::size_t>(run.count * width));
}

// What all these changes have in common.
template <class Kind>
class OfPieces : public Kind {
 public:
  explicit OfPieces(std::vector<RowPiece> pieces) : pieces_(std::move(pieces)) {}

  bool fits(const BaseTensor& base) const override {
    return !base.transposed &&
           std::all_of(pieces_.begin(), pieces_.end(), [&](const RowPiece& piece) {
             return base.shape.size() == piece.dimensions &&
                    (piece.columns == 0 || piece.columns == width(base)) &&
                    run_of(piece, base.shape[0]).has_value();
           });
  }
  std::string expected() const override {
    std::vector<std::string> shapes;
    for (const RowPiece& piece : pieces_) {
      std::vector<std::uint64_t> shape = {piece.rows};
      if (piece.dimensions == 2 && piece.columns != 0) shape.push_back(piece.columns);
      shapes.push_back(shape_text(shape));
    }
    return fmt::format("{} of {}", pieces_.front().whole ? "a part" : "parts",
                       fmt::join(shapes, ", "));
  }
  std::vector<std::size_t> tensors() const override {
    std::vector<std::size_t> all;
    for (const RowPiece& piece : pieces_) {
      if (piece.rank != 0) all.push_back(piece.a);
      all.push_back(piece.tensor);
    }
    return all;
  }
  std::uint64_t memory(const BaseTensor& base) const override {
    std::uint64_t most = base.shape[0];
    for (const RowPiece& piece : pieces_) {
      const std::uint64_t columns = std::max<std::uint64_t>(piece.columns, 1);
      most = std::max(most, piece.rank == 0 ? piece.rows * columns
                                            : piece.rank * std::max(piece.rows, columns));
    }
    return 3 * most * sizeof(double);
  }

 protected:
  static std::uint64_t width(const BaseTensor& base) {
    return base.shape.size() == 1 ? 1 : base.shape[1];
  }

  std::vector<RowPiece> pieces_;
};

class PieceFactors final : public OfPieces<FactorChange> {
 public:
  explicit PieceFactors(std::vector<RowPiece> pieces) : OfPieces(std::move(pieces)) {
    for (const RowPiece& piece : pieces_) rank_ += piece.rank;
  }

  std::uint64_t rank() const override { return rank_; }
  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const override {
    std::fill(u.begin(), u.end(), 0.0F);
    std::size_t at = 0;  // the first of this piece's ranks
    for (const RowPiece& piece : pieces_) {
      const std::size_t columns = width(base);
      read_floats(source, piece.a, v.subspan(at * columns, piece.rank * columns));
      const Run run = *run_of(piece, base.rows());
      const std::vector<double> b = numbers_of(source, piece, run);
      const double factor = piece.scale / pieces_.front().scale;
      for (std::uint64_t row = 0; row < run.count; ++row) {
        for (std::uint64_t k = 0; k < piece.rank; ++k) {
          u[(run.to + row) * rank_ + at + k] = static_cast<float>(factor * b[row * piece.rank + k]);
        }
      }
      at += piece.rank;
    }
  }

 private:
  std::uint64_t rank_ = 0;
};

// The part of elements [first, first + count) of a tensor that is a piece's:
// body(element of the piece, position in the run, elements).
template <class Body>
void overlap(const Run& run, std::uint64_t width, std::uint64_t first, std::uint64_t count,
             Body body) {
  const std::uint64_t begin = std::max(first, run.to * width);
  const std::uint64_t end = std::min(first + count, (run.to + run.count) * width);
  if (begin >= end) return;
  body(begin + run.from * width - run.to * width, static_cast<std::size_t>(begin - first),
       static_cast<std::size_t>(end - begin));
}

// Reads the rows when they are needed.
class StoredRows final : public Delta {
 public:
  StoredRows(const std::vector<RowPiece>& pieces, const TensorSource& source, std::uint64_t rows,
             std::uint64_t width)
      : pieces_(pieces), source_(source), rows_(rows), width_(width) {}

  void generate(std::uint64_t first, std::span<double> to) const override {
    std::fill(to.begin(), to.end(), 0.0);
    for (const RowPiece& piece : pieces_) {
      overlap(*run_of(piece, rows_), width_, first, to.size(),
              [&](std::uint64_t element, std::size_t at, std::size_t count) {
                const auto numbers = read_numbers(source_, piece.tensor, element, count);
                for (std::size_t i = 0; i < count; ++i) to[at + i] += piece.scale * numbers[i];
              });
    }
  }

 private:
  const std::vector<RowPiece>& pieces_;
  const TensorSource& source_;
  std::uint64_t rows_;
  std::uint64_t width_;
};

class PieceRows final : public OfPieces<DeltaChange> {
 public:
  using OfPieces::OfPieces;
  std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const override {
    return std::make_unique<StoredRows>(pieces_, source, base.shape[0], width(base));
  }
};

class Cleared final : public RowMap {
 public:
  Cleared(const std::vector<RowPiece>& pieces, std::uint64_t rows, std::uint64_t width)
      : pieces_(pieces), rows_(rows), width_(width) {}

  void apply(std::uint64_t first, std::span<const double> from,
             std::span<double> to) const override {
    std::copy(from.begin(), from.end(), to.begin());
    for (const RowPiece& piece : pieces_) {
      if (!piece.replaces) continue;
      overlap(*run_of(piece, rows_), width_, first, to.size(),
              [&](std::uint64_t, std::size_t at, std::size_t count) {
                std::fill_n(to.begin() + static_cast<std::ptrdiff_t>(at), count, 0.0);
              });
    }
  }

 private:
  const std::vector<RowPiece>& pieces_;
  std::uint64_t rows_;
  std::uint64_t width_;
};

class Clearing final : public OfPieces<MapChange> {
 public:
  using OfPieces::OfPieces;
  bool elementwise() const override { return true; }
  std::unique_ptr<RowMap> load(const TensorSource& /*source*/,
                               const BaseTensor& base) const override {
    return std::make_unique<Cleared>(pieces_, base.shape[0], width(base));
  }
};

class Norms final : public OfPieces<NormChange> {
 public:
  using OfPieces::OfPieces;
  bool by_column(const BaseTensor& /*base*/) const override { return false; }
  std::vector<std::optional<double>> load(const TensorSource& source,
                                          const BaseTensor& base) const override {
    std::vector<std::optional<double>> norms(base.rows());
    for (const RowPiece& piece : pieces_) {
      const Run run = *run_of(piece, base.rows());
      const std::vector<double> numbers = numbers_of(source, piece, run);
      std::copy(numbers.begin(), numbers.end(),
                norms.begin() + static_cast<std::ptrdiff_t>(run.to));
    }
    return norms;
  }
};

}  // namespace

std::shared_ptr<const FactorChange> recut_factors(std::vector<RowPiece> pieces) {
  return std::make_shared<PieceFactors>(std::move(pieces));
}
std::shared_ptr<const DeltaChange> recut_rows(std::vector<RowPiece> pieces) {
  return std::make_shared<PieceRows>(std::move(pieces));
}
std::shared_ptr<const MapChange> recut_clearing(std::vector<RowPiece> pieces) {
  return std::make_shared<Clearing>(std::move(pieces));
}
std::shared_ptr<const NormChange> recut_norms(std::vector<RowPiece> pieces) {
  return std::make_shared<Norms>(std::move(pieces));
}

}  // namespace thorns
