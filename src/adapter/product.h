// W + scale * B A with factors that are computed from an adapter's tensors, for families on linear
// layers. Private to this room.
#pragma once

#include <cstdint>
#include <span>

#include "adapter/change.h"

namespace thorns {

// `from`, row-major with that many columns; `to` becomes its transpose.
void transpose(std::span<const float> from, std::uint64_t columns, std::span<float> to);

// B is out x rank, A is rank x in. W is (out, in), or (in, out) where it is transposed; on a
// convolution (out, channels, kernel...), read as out x (channels * kernel).
class ProductChange : public FactorChange {
 public:
  explicit ProductChange(std::uint64_t rank) : rank_(rank) {}

  std::uint64_t rank() const final { return rank_; }
  bool fits(const BaseTensor& base) const final;
  // What make() holds beside the factors is not counted.
  std::uint64_t memory(const BaseTensor& base) const override;
  void load(const TensorSource& source, const BaseTensor& base, std::span<float> u,
            std::span<float> v) const final;

 protected:
  // Whether a layer of this size can be changed.
  virtual bool fits(std::uint64_t out, std::uint64_t in) const = 0;
  virtual bool fits_convolutions() const { return false; }
  // The factors for a layer of the size that b and a have, both row-major.
  virtual void make(const TensorSource& source, const BaseTensor& base, std::span<float> b,
                    std::span<float> a) const = 0;

 private:
  std::uint64_t rank_;
};

}  // namespace thorns
