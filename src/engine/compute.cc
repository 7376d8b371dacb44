#include "engine/compute.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "plan/memory.h"

namespace thorns {

LoadedUpdates::LoadedUpdates(const Program& program)
    : products_(program.operands.size()),
      deltas_(program.operands.size()),
      maps_(program.operands.size()) {
  for (std::size_t i = 0; i < program.operands.size(); ++i) {
    const Operand& operand = program.operands[i];
    if (operand.is_stored()) continue;
    const TensorSource& source = operand.adapter->source();
    if (operand.is_product()) {
      load_product(program, i);
    } else if (operand.is_generated()) {
      deltas_[i] =
          static_cast<const DeltaChange&>(*operand.update->change).load(source, operand.base);
    } else {
      maps_[i] = static_cast<const MapChange&>(*operand.update->change).load(source, operand.base);
    }
  }
  bytes_read_ = program.update_bytes();
}

void LoadedUpdates::load_product(const Program& program, std::size_t operand_index) {
  const Operand& operand = program.operands[operand_index];
  Product& product = products_[operand_index].emplace();
  product.rank = static_cast<std::size_t>(operand.update->rank);
  product.columns = static_cast<std::size_t>(program.columns());
  const auto rows = static_cast<std::size_t>(operand.base.elements()) / product.columns;
  product.u.resize(rows * product.rank);
  std::vector<float> v(product.rank * product.columns);
  load_factors(*operand.adapter, *operand.update, operand.base, product.u, v);
  product.packed_v.resize(packed_size(product.rank, product.columns));
  pack_panels(v.data(), product.rank, product.columns, product.packed_v.data());
}

Workspace::Workspace(const Plan& plan) {
  std::size_t operands = 1;
  std::uint64_t of_products = 0;
  std::uint64_t of_computed = 0;
  for (const Program& program : plan.programs) {
    operands = std::max(operands, program.operands.size());
    of_products = std::max(of_products, product_bytes(program));
    of_computed = std::max(of_computed, computed_bytes(program));
  }
  chunks = Buffer(operands * kChunk * sizeof(double));
  if (of_products > 0) products = Buffer(static_cast<std::size_t>(of_products));
  if (of_computed > 0) computed = Buffer(static_cast<std::size_t>(of_computed));
  lanes.resize(pairs(operands) * kLanes);
}

GrainView::GrainView(const Program& program, const LoadedUpdates& updates, const Tile& tile,
                     std::uint64_t offset, std::size_t count, Workspace& workspace)
    : program_(program),
      tile_(tile),
      offset_(offset),
      count_(count),
      space_(workspace),
      products_(program.operands.size(), nullptr),
      computed_(program.operands.size(), nullptr),
      pointers_(program.operands.size()),
      runs_(program.operands.size()) {
  const std::uint64_t room = grain_room(program);
  auto* product_at = reinterpret_cast<float*>(space_.products.data());
  auto* const mapped = reinterpret_cast<double*>(space_.computed.data());
  double* computed_at = mapped == nullptr ? nullptr : mapped + room;
  for (std::size_t i = 0; i < products_.size(); ++i) {
    const Operand& operand = program.operands[i];
    if (tile.codes[i] != nullptr) {
      tile.codes[i]->decode(first(), count, product_at);
      products_[i] = product_at;
      product_at += room;
      continue;
    }
    if (operand.is_stored() || !program.blocks[tile.block].has(operand)) continue;
    if (const LoadedUpdates::Product* product = updates.product(i)) {
      float* to = product_at;
      operand.each_run(first(), count, [&](std::uint64_t from, std::uint64_t part) {
        const auto elements = static_cast<std::size_t>(part);
        low_rank(product->u.data(), product->packed_v.data(), product->rank, product->columns, from,
                 elements, to);
        to += elements;
      });
      products_[i] = product_at;
      product_at += room;
      continue;
    }
    if (operand.is_mapped()) widen_operand(operand.mapped, mapped);
    std::size_t done = 0;
    operand.each_run(first(), count, [&](std::uint64_t from, std::uint64_t part) {
      const auto elements = static_cast<std::size_t>(part);
      if (operand.is_generated()) {
        updates.delta(i).generate(from, {computed_at + done, elements});
      } else {
        updates.map(i).apply(from, {mapped + done, elements}, {computed_at + done, elements});
      }
      done += elements;
    });
    computed_[i] = computed_at;
    computed_at += room;
  }
}

void GrainView::widen_operand(std::size_t operand, double* to) const {
  if (computed_[operand] != nullptr) {
    std::copy_n(computed_[operand], count_, to);
  } else if (products_[operand] != nullptr) {
    std::copy_n(products_[operand], count_, to);
  } else {
    const Dtype dtype = program_.operands[operand].dtype;
    const std::byte* const from = tile_.operands[operand] + offset_ * size_of(dtype);
    widen(dtype, from, count_, to);
  }
}

const std::vector<const double*>& GrainView::chunk(std::size_t begin, std::size_t count, As as) {
  auto* to = reinterpret_cast<double*>(space_.chunks.data());
  for (std::size_t i = 0; i < pointers_.size(); ++i, to += kChunk) {
    if (products_[i] != nullptr) {
      widen(Dtype::F32, reinterpret_cast<const std::byte*>(products_[i] + begin), count, to);
    } else if (computed_[i] != nullptr) {
      (as == As::Exact ? widen : widen_to_24_bits)(
          Dtype::F64, reinterpret_cast<const std::byte*>(computed_[i] + begin), count, to);
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
    } else if (computed_[i] != nullptr) {
      runs_[i] = {reinterpret_cast<const std::byte*>(computed_[i] + begin), Dtype::F64};
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

namespace {

// Calls body(begin, count, row, column) for runs of at most a chunk, each within one row of the
// tensor.
template <class Body>
void each_run(const GrainView& grain, Body body) {
  const std::uint64_t columns = grain.program().columns();
  for (std::size_t begin = 0; begin < grain.count();) {
    const std::uint64_t row = (grain.first() + begin) / columns;
    const std::uint64_t column = (grain.first() + begin) % columns;
    const auto left =
        static_cast<std::size_t>(std::min<std::uint64_t>(grain.count() - begin, columns - column));
    const std::size_t count = std::min(kChunk, left);
    body(begin, count, static_cast<std::size_t>(row), static_cast<std::size_t>(column));
    begin += count;
  }
}

void add_columns(const std::vector<const double*>& vectors, std::size_t count, double* sums) {
  for (std::size_t e = 0; e < count; ++e) {
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      for (std::size_t j = i; j < vectors.size(); ++j) *sums++ += vectors[i][e] * vectors[j][e];
    }
  }
}

}  // namespace

void measure_lines(GrainView& grain, bool finite_only, std::span<double> sums) {
  const std::size_t all = pairs(grain.operands());
  const bool by_row = grain.program().lines == Lines::Rows;
  const std::size_t first_cell = grain.program().cells_before(grain.block());
  std::vector<double>& lanes = grain.lanes();
  each_run(grain, [&](std::size_t begin, std::size_t count, std::size_t row, std::size_t column) {
    const auto& vectors = grain.chunk(
        begin, count, finite_only ? GrainView::As::FiniteOnly : GrainView::As::Measured);
    if (!by_row) {
      add_columns(vectors, count, sums.data() + (first_cell + column) * all);
      return;
    }
    if (column == 0) std::fill_n(lanes.begin(), all * kLanes, 0.0);
    gram(vectors.data(), grain.operands(), padded(count), lanes.data());
    if (column + count < grain.program().columns()) return;
    for (std::size_t pair = 0; pair < all; ++pair) {
      sums[row * all + pair] = sum_lanes(lanes.data() + pair * kLanes);
    }
  });
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

RoundingCounts blend_lines(GrainView& grain, std::span<const double> coefficients, Dtype dtype,
                           std::byte* to) {
  const std::size_t n = grain.operands();
  const bool by_row = grain.program().lines == Lines::Rows;
  const std::size_t first_cell = grain.program().cells_before(grain.block());
  const std::vector<double> ones(n, 1.0);
  std::vector<double> scaled(by_row ? 0 : n * kChunk);
  std::vector<const double*> pointers(n);
  RoundingCounts counts;
  each_run(grain, [&](std::size_t begin, std::size_t count, std::size_t row, std::size_t column) {
    const auto& vectors = grain.chunk(begin, count, GrainView::As::Exact);
    std::byte* const target = to + begin * size_of(dtype);
    if (by_row) {
      blend(vectors.data(), coefficients.data() + row * n, n, count, dtype, target, counts);
      return;
    }
    for (std::size_t i = 0; i < n; ++i) {
      double* const products = scaled.data() + i * kChunk;
      for (std::size_t e = 0; e < padded(count); ++e) {
        products[e] =
            e < count ? coefficients[(first_cell + column + e) * n + i] * vectors[i][e] : 0.0;
      }
      pointers[i] = products;
    }
    blend(pointers.data(), ones.data(), n, count, dtype, target, counts);
  });
  return counts;
}

StepCounts count_changed(GrainView& grain, const LastStep& last, Dtype dtype,
                         const std::byte* stored) {
  const std::size_t n = grain.operands();
  const std::size_t width = size_of(dtype);
  const std::size_t count = std::min(kSample, grain.count());
  if (!all_finite(dtype, stored, count)) return {};
  std::vector<const double*> vectors = grain.chunk(0, count, GrainView::As::Exact);
  std::vector<double> models(last.models.size() * padded(count));
  std::vector<std::byte> rounded(count * width);
  RoundingCounts unused;
  for (std::size_t m = 0; m < last.models.size(); ++m) {
    double* const model = models.data() + m * padded(count);
    blend(vectors.data(), last.models[m].data(), n, count, dtype, rounded.data(), unused);
    widen(dtype, rounded.data(), count, model);
    vectors.push_back(model);
  }
  blend(vectors.data(), last.coefficients.data(), vectors.size(), count, dtype, rounded.data(),
        unused);
  StepCounts counts{count, 0};
  for (std::size_t e = 0; e < count; ++e) {
    const std::byte* const again = rounded.data() + e * width;
    if (!std::equal(again, again + width, stored + e * width)) ++counts.changed;
  }
  return counts;
}

}  // namespace thorns
