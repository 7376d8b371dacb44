#include "engine/compute.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "plan/memory.h"

namespace thorns {

Factors::Factors(const Program& program) : products_(program.operands.size()) {
  std::vector<float> v;
  for (std::size_t i = 0; i < program.operands.size(); ++i) {
    const Operand& operand = program.operands[i];
    if (!operand.is_product()) continue;
    Product& product = products_[i].emplace();
    product.rank = static_cast<std::size_t>(operand.update->rank);
    product.columns = static_cast<std::size_t>(program.columns());
    const auto rows = static_cast<std::size_t>(operand.elements) / product.columns;
    product.u.resize(rows * product.rank);
    v.resize(product.rank * product.columns);
    load_factors(*operand.adapter, *operand.update, operand.transposed, product.u, v);
    product.packed_v.resize(packed_size(product.rank, product.columns));
    pack_panels(v.data(), product.rank, product.columns, product.packed_v.data());
    const TensorSource& source = operand.adapter->source();
    bytes_read_ += source.tensors()[operand.update->first].bytes() +
                   source.tensors()[operand.update->second].bytes();
  }
}

Workspace::Workspace(const Plan& plan) {
  std::size_t operands = 1;
  std::size_t product_count = 0;
  for (const Program& program : plan.programs) {
    operands = std::max(operands, program.operands.size());
    product_count =
        std::max(product_count, static_cast<std::size_t>(std::count_if(
                                    program.operands.begin(), program.operands.end(),
                                    [](const Operand& operand) { return operand.is_product(); })));
  }
  chunks = Buffer(operands * kChunk * sizeof(double));
  if (product_count > 0) products = Buffer(product_count * kMostGrain * sizeof(float));
  lanes.resize(pairs(operands) * kLanes);
}

GrainView::GrainView(const Program& program, const Factors& factors, const Tile& tile,
                     std::uint64_t offset, std::size_t count, Workspace& workspace)
    : program_(program),
      tile_(tile),
      offset_(offset),
      count_(count),
      space_(workspace),
      products_(program.operands.size(), nullptr),
      pointers_(program.operands.size()),
      runs_(program.operands.size()) {
  auto* to = reinterpret_cast<float*>(space_.products.data());
  for (std::size_t i = 0; i < products_.size(); ++i) {
    const Factors::Product* product = factors.of(i);
    if (product == nullptr || !program.blocks[tile.block].has(program.operands[i])) continue;
    low_rank(product->u.data(), product->packed_v.data(), product->rank, product->columns,
             tile.first + offset, count, to);
    products_[i] = to;
    to += kMostGrain;
  }
}

const std::vector<const double*>& GrainView::chunk(std::size_t begin, std::size_t count, As as) {
  auto* to = reinterpret_cast<double*>(space_.chunks.data());
  for (std::size_t i = 0; i < pointers_.size(); ++i, to += kChunk) {
    if (products_[i] != nullptr) {
      widen(Dtype::F32, reinterpret_cast<const std::byte*>(products_[i] + begin), count, to);
    } else if (tile_.operands[i] == nullptr) {  // it lacks these rows
      std::fill_n(to, padded(count), 0.0);
    } else {
      const Dtype dtype = program_.operands[i].dtype;
      const std::byte* const from = tile_.operands[i] + (offset_ + begin) * size_of(dtype);
      (as == As::Exact ? widen : widen_to_24_bits)(dtype, from, count, to);
    }
    if (as == As::FiniteOnly) {
      std::replace_if(
          to, to + count, [](double value) { return !std::isfinite(value); }, 0.0);
    }
    pointers_[i] = to;
  }
  return pointers_;
}

const std::vector<StoredRun>& GrainView::stored(std::size_t begin) {
  static constexpr std::array<float, kChunk> kAbsent{};
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    const Dtype dtype = program_.operands[i].dtype;
    if (products_[i] != nullptr) {
      runs_[i] = {reinterpret_cast<const std::byte*>(products_[i] + begin), Dtype::F32};
    } else if (tile_.operands[i] == nullptr) {  // it lacks these rows
      runs_[i] = {reinterpret_cast<const std::byte*>(kAbsent.data()), Dtype::F32};
    } else {
      runs_[i] = {tile_.operands[i] + (offset_ + begin) * size_of(dtype), dtype};
    }
  }
  return runs_;
}

void measure(GrainView& grain, bool finite_only, std::span<double> sums) {
  const std::size_t operands = grain.operands();
  std::vector<double>& lanes = grain.lanes();
  std::fill_n(lanes.begin(), pairs(operands) * kLanes, 0.0);
  for (std::size_t begin = 0; begin < grain.count(); begin += kChunk) {
    const std::size_t count = std::min(kChunk, grain.count() - begin);
    const auto& vectors = grain.chunk(
        begin, count, finite_only ? GrainView::As::FiniteOnly : GrainView::As::Measured);
    gram(vectors.data(), operands, padded(count), lanes.data());
  }
  for (std::size_t pair = 0; pair < pairs(operands); ++pair) {
    sums[pair] = sum_lanes(lanes.data() + pair * kLanes);
  }
}

RoundingCounts blend_grain(GrainView& grain, std::span<const double> coefficients, Dtype dtype,
                           std::byte* to) {
  RoundingCounts counts;
  const std::size_t whole = grain.count() / kBlendStep * kBlendStep;
  for (std::size_t begin = 0; begin < grain.count();) {
    // Nearly all of a grain; what is left are its end and chunks with NaN or Inf.
    const std::size_t end = std::min(begin + kChunk, begin < whole ? whole : grain.count());
    const std::size_t count = end - begin;
    std::byte* const into = to + begin * size_of(dtype);
    const std::size_t n = coefficients.size();
    if (begin >= whole || !blend_stored(grain.stored(begin).data(), coefficients.data(), n, count,
                                        dtype, into, counts)) {
      const auto& vectors = grain.chunk(begin, count, GrainView::As::Exact);
      blend(vectors.data(), coefficients.data(), n, count, dtype, into, counts);
    }
    begin = end;
  }
  return counts;
}

}  // namespace thorns
