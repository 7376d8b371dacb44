// What an update does to a tensor where two stored factors do not say it all. A family of adapters
// makes its changes when an adapter is opened, from headers alone; the engine loads a change when
// the turn of its tensor comes, and computes with what was loaded.
//
// Changes and what they load are immutable; every member may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/source.h"

namespace thorns {

// The tensor of a model that an update changes, row-major; a row is what its first dimension
// counts.
struct BaseTensor {
  std::vector<std::uint64_t> shape;
  bool transposed = false;  // a Conv1D weight, stored (in, out) instead of (out, in)
  // The most inputs and outputs of any weight that the same adapter changes; 0 until resolved.
  std::uint64_t most_in = 0;
  std::uint64_t most_out = 0;
  Dtype dtype = Dtype::F32;  // in which it is stored, or was before it was quantised

  std::uint64_t elements() const;
  std::uint64_t rows() const { return shape.size() < 2 ? 1 : shape[0]; }
  std::uint64_t columns() const { return elements() == 0 ? 0 : elements() / rows(); }
};

// Which way a square tensor is stored, whose shape cannot tell.
enum class Orientation { AsLinear, Straight, Transposed, Unknown };

class Change {
 public:
  virtual ~Change() = default;
  virtual bool fits(const BaseTensor& base) const = 0;
  virtual std::string expected() const = 0;  // the shape that fits, for messages
  // The shape of a weight that is not transposed, where the adapter's tensors alone tell it.
  virtual std::optional<std::vector<std::uint64_t>> shape() const { return std::nullopt; }
  // Where it fits both ways. AsLinear: as a Linear weight of that model is.
  virtual Orientation orientation(const std::string& /*model_type*/) const {
    return Orientation::AsLinear;
  }
  // What load() reads, as indices in the adapter's source.
  virtual std::vector<std::size_t> tensors() const = 0;
  // Bytes of them that it reads.
  virtual std::uint64_t bytes(const TensorSource& source, const BaseTensor& base) const;
  // Bytes that load() holds, while it works and afterwards, at most.
  virtual std::uint64_t memory(const BaseTensor& base) const = 0;
};

// W + scale * U V with factors that are computed from the adapter's tensors.
class FactorChange : public Change {
 public:
  virtual std::uint64_t rank() const = 0;
  // u: rows x rank, v: rank x columns, both row-major; rows and columns are the base's.
  virtual void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
                    std::span<float> v) const = 0;
};

// W + scale * D, D computed element by element and independent of W.
class Delta {
 public:
  virtual ~Delta() = default;
  // Elements [first, first + to.size()) of D, row-major in the base's layout.
  virtual void generate(std::uint64_t first, std::span<double> to) const = 0;
};
class DeltaChange : public Change {
 public:
  virtual std::unique_ptr<Delta> load(const TensorSource& source, const BaseTensor& base) const = 0;
};

// T(W), linear in W; each row of the result depends on the same row of W alone, or on the rows of
// its group.
class RowMap {
 public:
  virtual ~RowMap() = default;
  // Elements [first, first + from.size()) of the result from the same elements of W: whole groups
  // of rows, unless the change is elementwise. `from` and `to` do not overlap.
  virtual void apply(std::uint64_t first, std::span<const double> from,
                     std::span<double> to) const = 0;
};
class MapChange : public Change {
 public:
  // Whether each element of the result depends on the same element of W alone.
  virtual bool elementwise() const = 0;
  // Consecutive rows that make a group, the first of them with row 0: such a change mixes the
  // elements of a column within a group, and none of a row.
  virtual std::uint64_t rows_together() const { return 1; }
  virtual std::unique_ptr<RowMap> load(const TensorSource& source,
                                       const BaseTensor& base) const = 0;
};

// Every line (row, or column) of W scaled to a given L2 norm (DoRA: Liu et al. 2024).
class NormChange : public Change {
 public:
  virtual bool by_column(const BaseTensor& base) const = 0;
  // One norm per line; none for a line that stays as it is.
  virtual std::vector<std::optional<double>> load(const TensorSource& source,
                                                  const BaseTensor& base) const = 0;
};

}  // namespace thorns
