// What an adapter does to projections that it and the model cut differently: the rows of a joined
// matrix are those of its parts, one part after the other, [q; k; v] and [gate; up]. Private to
// this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "adapter/change.h"

namespace thorns {

enum class Projection { Query, Key, Value, Gate, Up };

// The rows that the adapter holds for one part or, to be cut apart, for the whole.
struct RowPiece {
  Projection part = Projection::Query;  // its own, or the model's tensor's of the whole
  bool whole = false;
  std::size_t tensor = 0;  // in the adapter's source: lora_B, a bias, magnitudes
  std::uint64_t rows = 0;  // elements, of a vector
  // Of the model's tensor: how many dimensions it has, and how long its rows are; 0: of any length.
  std::size_t dimensions = 2;
  std::uint64_t columns = 0;
  double scale = 1.0;
  bool replaces = false;  // the model's rows are given up
  std::size_t a = 0;      // of factors: the other one, rank x columns
  std::uint64_t rank = 0;
};

// Changes of the model's tensor that holds all the pieces, or a part of one; the pieces are of one
// kind. What none of them speaks of stays as it is.
//
// U V: V is all A below one another, U has every B at its own rows and columns. The scale is that
// of the first piece.
std::shared_ptr<const FactorChange> recut_factors(std::vector<RowPiece> pieces);
// W + rows, each times its piece's scale.
std::shared_ptr<const DeltaChange> recut_rows(std::vector<RowPiece> pieces);
// W without the rows that are replaced.
std::shared_ptr<const MapChange> recut_clearing(std::vector<RowPiece> pieces);
// Every row of W scaled to its norm.
std::shared_ptr<const NormChange> recut_norms(std::vector<RowPiece> pieces);

}  // namespace thorns
