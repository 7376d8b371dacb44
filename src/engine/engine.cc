#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "base/threads.h"
#include "engine/compute.h"
#include "engine/outbox.h"
#include "engine/solve.h"
#include "engine/tiles.h"
#include "plan/memory.h"
#include "thorns/error.h"

namespace thorns {
namespace {

class Engine {
 public:
  Engine(const Plan& plan, Sink& sink, Observer& observer, const EngineOptions& options,
         TileReader::Sweeps sweeps)
      : plan_(plan),
        observer_(observer),
        options_(options),
        bytes_total_(remaining_bytes()),
        pool_(plan.threads),
        reader_(plan, reader_threads(plan.threads), sweeps, options.first),
        outbox_(sink, plan.memory.output_slots, plan.memory.output_slot_bytes) {
    for (std::size_t i = 0; i < pool_.size(); ++i) workspaces_.emplace_back(plan);
  }

  EngineFacts run() {
    for (current_ = options_.first; current_ < plan_.programs.size(); ++current_) {
      const Program& program = plan_.programs[current_];
      TensorFacts facts;
      switch (program.kind) {
        case ProgramKind::Blend:
          facts = run_blend(program);
          break;
        case ProgramKind::Cast:
          facts = run_cast(program);
          break;
        case ProgramKind::Copy:
          facts = run_copy(program);
          break;
        case ProgramKind::Same:
          facts = run_same(program);
          break;
      }
      outbox_.finish_program(current_, std::move(facts));
      report();
    }
    outbox_.drain();
    report();
    return {reader_.bytes_read() + factor_bytes_, outbox_.bytes_written()};
  }

  // The reader is one of the first sweep.
  std::uint64_t survey(const OnMeasured& on_measured) {
    bytes_total_ = measured_bytes();
    for (current_ = 0; current_ < plan_.programs.size(); ++current_) {
      const Program& program = plan_.programs[current_];
      if (program.kind != ProgramKind::Blend) continue;
      const LoadedUpdates updates(program);
      factor_bytes_ += updates.bytes_read();
      std::vector<double> sums = empty_sums(program);
      const std::size_t tiles = measured_tiles(program, plan_.memory).size();
      std::uint64_t grains = 0;
      for (std::size_t t = 0; t < tiles; ++t) {
        Tile tile = next_tile();
        measure_tile(program, updates, tile, grains, sums);
        grains += grain_count(program, tile.count);
        reader_.release(tile);
      }
      on_measured(current_, cell_grams(program, std::move(sums)));
      report();
    }
    report();
    return reader_.bytes_read() + factor_bytes_;
  }

 private:
  std::uint64_t measured_bytes() const {
    std::uint64_t bytes = 0;
    for (const Program& program : plan_.programs) {
      if (program.kind != ProgramKind::Blend) continue;
      bytes += program.stored_bytes() + program.update_bytes();
    }
    return bytes;
  }

  // To read and to write from `first` on.
  std::uint64_t remaining_bytes() const {
    std::uint64_t bytes = 0;
    for (std::size_t i = options_.first; i < plan_.programs.size(); ++i) {
      bytes += read_bytes(plan_.programs[i], plan_.memory) + plan_.programs[i].bytes();
    }
    return bytes;
  }

  // Room for the sums of all grains, or of all cells where lines are measured.
  static std::vector<double> empty_sums(const Program& program) {
    const std::size_t blocks = program.blocks.size();
    const std::size_t parts = program.lines == Lines::None
                                  ? static_cast<std::size_t>(grains_before(program, blocks))
                                  : program.cells_before(blocks);
    return std::vector<double>(parts * pairs(program.operands.size()));
  }

  // ------------------------------------------------------------ kinds of programs

  TensorFacts run_blend(const Program& program) {
    const LoadedUpdates updates(program);
    factor_bytes_ += updates.bytes_read();
    const std::uint64_t keep = kept_tiles(program, plan_.memory);
    const std::size_t n = program.operands.size();
    std::vector<double> sums = empty_sums(program);
    std::vector<Tile> kept;
    const std::size_t measured = measured_tiles(program, plan_.memory).size();
    std::uint64_t grains = 0;
    for (std::size_t t = 0; t < measured; ++t) {
      Tile tile = next_tile();
      measure_tile(program, updates, tile, grains, sums);
      grains += grain_count(program, tile.count);
      if (kept.size() < keep && program.blocks[tile.block].written) {
        kept.push_back(std::move(tile));
      } else {
        reader_.release(tile);
      }
    }
    const CellGrams grams = cell_grams(program, std::move(sums));
    Solution solution = solve(program, grams);
    TensorFacts facts;
    const std::size_t cells = program.cells_before(program.blocks.size());
    for (std::size_t i = 0; i < n; ++i) {
      double square = 0;
      for (std::size_t cell = 0; cell < cells; ++cell) {
        square += grams.of(cell)[pair_index(i, i, n)];
      }
      facts.norms.push_back(std::sqrt(square));
    }
    const std::size_t written = written_tiles(program, plan_.memory).size();
    for (std::size_t t = 0; t < written; ++t) {
      blend_tile(program, updates, t < keep ? std::move(kept[t]) : next_tile(),
                 solution.coefficients, solution.last, facts);
    }
    report_coefficients(program, solution.coefficients, facts);
    facts.norm = solution.norm;
    facts.distances = std::move(solution.distances);
    facts.nodes = std::move(solution.nodes);
    return facts;
  }

  // Per block, with the extremes where every line has its own.
  static void report_coefficients(const Program& program, const std::vector<double>& cells,
                                  TensorFacts& facts) {
    const std::size_t n = program.operands.size();
    std::vector<double> least(n, std::numeric_limits<double>::infinity());
    std::vector<double> most(n, -std::numeric_limits<double>::infinity());
    std::size_t first = 0;
    std::size_t count = 0;
    for (std::size_t b = 0; b < program.blocks.size() && program.blocks[b].written; ++b) {
      std::vector<double>& mean = facts.blocks.emplace_back(n, 0.0);
      first += count;
      count = program.cells_of(b);
      for (std::size_t cell = first; cell < first + count; ++cell) {
        for (std::size_t i = 0; i < n; ++i) {
          const double value = cells[cell * n + i];
          mean[i] += value;
          least[i] = std::min(least[i], value);
          most[i] = std::max(most[i], value);
        }
      }
      if (count > 1) {
        for (double& value : mean) value /= static_cast<double>(count);
      }
    }
    facts.coefficients = facts.blocks.empty() ? std::vector<double>(n, 0.0) : facts.blocks.front();
    if (facts.blocks.size() < 2) facts.blocks.clear();
    if (program.lines == Lines::None) return;
    facts.least = std::move(least);
    facts.most = std::move(most);
  }

  TensorFacts run_cast(const Program& program) {
    const LoadedUpdates none(program);
    TensorFacts facts;
    facts.coefficients = {1.0};
    const std::size_t tiles = written_tiles(program, plan_.memory).size();
    for (std::size_t t = 0; t < tiles; ++t) {
      blend_tile(program, none, next_tile(), facts.coefficients, {}, facts);
    }
    return facts;
  }

  TensorFacts run_copy(const Program& program) {
    TensorFacts facts;
    facts.coefficients = {1.0};
    const std::size_t tiles = written_tiles(program, plan_.memory).size();
    for (std::size_t t = 0; t < tiles; ++t) {
      const Tile tile = next_tile();
      std::atomic<std::uint64_t> nonfinite = 0;
      each_grain(program, tile, [&](std::uint64_t offset, std::size_t count, std::size_t) {
        nonfinite += count_nonfinite(program, tile, offset, count);
      });
      facts.nonfinite += nonfinite;
      send_tile(tile, program);
    }
    return facts;
  }

  TensorFacts run_same(const Program& program) {
    const std::size_t tiles = written_tiles(program, plan_.memory).size();
    const std::size_t width = size_of(program.dtype);
    for (std::size_t t = 0; t < tiles; ++t) {
      const Tile tile = next_tile();
      for (std::size_t i = 1; i < program.operands.size(); ++i) {
        const std::byte* const a = tile.operands[0];
        const std::byte* const b = tile.operands[i];
        const std::size_t bytes = static_cast<std::size_t>(tile.count) * width;
        const auto differs = static_cast<std::size_t>(std::mismatch(a, a + bytes, b).first - a);
        if (differs == bytes) continue;
        throw Error(
            ErrorCode::Mismatch,
            fmt::format("integer tensor `{}` differs between `{}` and `{}`", program.tensor,
                        program.operands[0].label, program.operands[i].label),
            TensorPlace{program.tensor, tile.first + differs / width, program.operands[i].label},
            "integers are copied when all models agree; they cannot be blended");
      }
      send_tile(tile, program);
    }
    return {};
  }

  // ------------------------------------------------------------ tiles

  // Calls body(offset in the tile, elements, worker) for every grain of the tile.
  template <class Body>
  void each_grain(const Program& program, const Tile& tile, Body body) {
    const std::uint64_t grain = grain_elements(program);
    const auto count = static_cast<std::size_t>(grain_count(program, tile.count));
    pool_.run(count, [&](std::size_t index, std::size_t worker) {
      const std::uint64_t offset = index * grain;
      body(offset, static_cast<std::size_t>(std::min(grain, tile.count - offset)), worker);
    });
  }

  Tile next_tile() {
    if (observer_.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    Tile tile = reader_.next();
    report();
    return tile;
  }

  // `grains` were measured before the tile.
  void measure_tile(const Program& program, const LoadedUpdates& updates, const Tile& tile,
                    std::uint64_t grains, std::vector<double>& sums) {
    if (program.lines == Lines::Columns) return measure_columns(program, updates, tile, sums);
    const std::size_t n = program.operands.size();
    each_grain(program, tile, [&](std::uint64_t offset, std::size_t count, std::size_t worker) {
      GrainView grain(program, updates, tile, offset, count, workspaces_[worker]);
      if (program.lines == Lines::Rows) {
        measure_rows(program, grain, sums);
        return;
      }
      const auto grain_index = static_cast<std::size_t>(grains + offset / grain_elements(program));
      const std::span<double> into(sums.data() + grain_index * pairs(n), pairs(n));
      measure(grain, false, into);
      for (std::size_t i = 0; i < n; ++i) {
        if (std::isfinite(into[pair_index(i, i, n)])) continue;
        if (!options_.allow_nonfinite) fail_at_input(program, tile.first + offset, grain, i);
        measure(grain, true, into);
        break;
      }
    });
  }

  // Every row on its own. The rows of a grain are whole.
  void measure_rows(const Program& program, GrainView& grain, std::vector<double>& sums) const {
    measure_lines(grain, false, sums);
    const std::size_t n = program.operands.size();
    const auto first = static_cast<std::size_t>(grain.first() / program.columns());
    const std::size_t rows = grain.count() / static_cast<std::size_t>(program.columns());
    for (std::size_t row = first; row < first + rows; ++row) {
      for (std::size_t i = 0; i < n; ++i) {
        if (std::isfinite(sums[row * pairs(n) + pair_index(i, i, n)])) continue;
        if (!options_.allow_nonfinite) fail_at_input(program, grain.first(), grain, i);
        return measure_lines(grain, true, sums);
      }
    }
  }

  // Columns are added up through the whole tensor: one grain after the other, by this thread.
  void measure_columns(const Program& program, const LoadedUpdates& updates, const Tile& tile,
                       std::vector<double>& sums) {
    const std::size_t n = program.operands.size();
    const std::uint64_t step = grain_elements(program);
    for (std::uint64_t offset = 0; offset < tile.count; offset += step) {
      const auto count = static_cast<std::size_t>(std::min(step, tile.count - offset));
      GrainView grain(program, updates, tile, offset, count, workspaces_[0]);
      bool finite = true;
      for (std::size_t begin = 0; begin < count; begin += kChunk) {
        const std::size_t run = std::min(kChunk, count - begin);
        const auto& vectors = grain.chunk(begin, run, GrainView::As::Measured);
        for (std::size_t i = 0; i < n; ++i) {
          if (std::all_of(vectors[i], vectors[i] + run, [](double x) { return std::isfinite(x); }))
            continue;
          if (!options_.allow_nonfinite) fail_at_input(program, grain.first(), grain, i);
          finite = false;
        }
      }
      measure_lines(grain, !finite, sums);
    }
  }

  void blend_tile(const Program& program, const LoadedUpdates& updates, Tile tile,
                  const std::vector<double>& coefficients, const LastStep& last,
                  TensorFacts& facts) {
    const std::size_t slot = outbox_.take_slot();
    std::byte* const to = outbox_.data(slot);
    std::mutex mutex;
    RoundingCounts total;
    StepCounts steps;
    const bool takes_sample =
        !last.models.empty() && tile.block == 0 && size_of(program.dtype) == 2;
    const std::size_t n = program.operands.size();
    each_grain(program, tile, [&](std::uint64_t offset, std::size_t count, std::size_t worker) {
      GrainView grain(program, updates, tile, offset, count, workspaces_[worker]);
      std::byte* const target = to + offset * size_of(program.dtype);
      const RoundingCounts counts =
          program.lines == Lines::None
              ? blend_grain(grain, std::span(coefficients).subspan(tile.block * n, n),
                            program.dtype, target)
              : blend_lines(grain, coefficients, program.dtype, target);
      const StepCounts sample =
          takes_sample ? count_changed(grain, last, program.dtype, target) : StepCounts{};
      const std::lock_guard lock(mutex);
      steps.sampled += sample.sampled;
      steps.changed += sample.changed;
      total.rounded += counts.rounded;
      total.clipped += counts.clipped;
      total.nonfinite += counts.nonfinite;
    });
    reader_.release(tile);
    if (total.nonfinite > 0 && !options_.allow_nonfinite) fail_at_output(program, tile, to, total);
    facts.rounded += total.rounded;
    facts.clipped += total.clipped;
    facts.nonfinite += total.nonfinite;
    facts.sampled += steps.sampled;
    facts.changed += steps.changed;
    outbox_.send_slot(current_, slot,
                      static_cast<std::size_t>(tile.count) * size_of(program.dtype));
    report();
  }

  void send_tile(Tile tile, const Program& program) {
    const std::span<const std::byte> bytes(
        tile.operands[0], static_cast<std::size_t>(tile.count) * size_of(program.dtype));
    outbox_.send(current_, bytes,
                 [this, tile = std::move(tile)]() mutable { reader_.release(tile); });
    report();
  }

  // ------------------------------------------------------------ numbers

  // Grains are added up in their order, whatever thread measured them; one matrix per cell.
  static CellGrams cell_grams(const Program& program, std::vector<double> sums) {
    const std::size_t n = program.operands.size();
    if (program.lines != Lines::None) return {n, std::move(sums)};
    CellGrams grams{n, {}};
    std::uint64_t g = 0;
    for (const Block& block : program.blocks) {
      std::vector<double> totals(pairs(n), 0.0);
      for (const std::uint64_t end = g + grain_count(program, block.count); g < end; ++g) {
        const double* const grain = sums.data() + static_cast<std::size_t>(g) * pairs(n);
        for (std::size_t pair = 0; pair < pairs(n); ++pair) totals[pair] += grain[pair];
      }
      grams.products.insert(grams.products.end(), totals.begin(), totals.end());
    }
    return grams;
  }

  // NaN and Inf among stored elements of the first operand; stops at the first unless they are
  // allowed.
  std::uint64_t count_nonfinite(const Program& program, const Tile& tile, std::uint64_t offset,
                                std::uint64_t count) const {
    const Dtype dtype = program.operands[0].dtype;
    const std::byte* const stored = tile.operands[0] + offset * size_of(dtype);
    if (all_finite(dtype, stored, static_cast<std::size_t>(count))) return 0;
    std::uint64_t found = 0;
    for (std::uint64_t e = 0; e < count; ++e) {
      if (all_finite(dtype, stored + e * size_of(dtype), 1)) continue;
      if (!options_.allow_nonfinite) {
        fail_nonfinite(program, tile.first + offset + e, program.operands[0].label);
      }
      ++found;
    }
    return found;
  }

  [[noreturn]] static void fail_nonfinite(const Program& program, std::uint64_t element,
                                          const std::string& source) {
    throw Error(
        ErrorCode::NonFinite,
        fmt::format("`{}` has NaN, Inf or a value beyond float32 in `{}`", source, program.tensor),
        TensorPlace{program.tensor, element, source},
        "the input is damaged; --allow-nonfinite carries such elements through and counts them");
  }

  [[noreturn]] static void fail_at_input(const Program& program, std::uint64_t first,
                                         GrainView& grain, std::size_t operand) {
    std::uint64_t element = first;
    for (std::size_t begin = 0; begin < grain.count(); begin += kChunk) {
      const std::size_t count = std::min(kChunk, grain.count() - begin);
      const double* const values = grain.chunk(begin, count, GrainView::As::Measured)[operand];
      const auto* const bad =
          std::find_if(values, values + count, [](double value) { return !std::isfinite(value); });
      if (bad == values + count) continue;
      element = first + begin + static_cast<std::uint64_t>(bad - values);
      break;
    }
    fail_nonfinite(program, element, program.operands[operand].label);
  }

  [[noreturn]] static void fail_at_output(const Program& program, const Tile& tile,
                                          const std::byte* bytes, const RoundingCounts& counts) {
    std::uint64_t e = 0;
    while (e + 1 < tile.count && all_finite(program.dtype, bytes + e * size_of(program.dtype), 1))
      ++e;
    if (counts.clipped == 0) fail_nonfinite(program, tile.first + e, program.operands[0].label);
    throw Error(ErrorCode::NonFinite,
                fmt::format("a value of `{}` is too large for {}", program.tensor,
                            torch_name(program.dtype)),
                TensorPlace{program.tensor, tile.first + e},
                "use --dtype bfloat16 or float32, or --allow-nonfinite to store Inf and count it");
  }

  void report() {
    Progress now;
    now.bytes_done = reader_.bytes_read() + factor_bytes_ + outbox_.bytes_written();
    now.bytes_total = bytes_total_;
    now.tensors_done = current_;
    now.tensors_total = plan_.programs.size();
    if (current_ < plan_.programs.size()) now.tensor = plan_.programs[current_].tensor;
    observer_.progress(now);
  }

  const Plan& plan_;
  Observer& observer_;
  EngineOptions options_;
  std::uint64_t bytes_total_;
  std::size_t current_ = 0;  // program at hand
  std::uint64_t factor_bytes_ = 0;
  std::vector<Workspace> workspaces_;  // one per worker
  // The outbox writes from the reader's memory, so it is destroyed first.
  ThreadPool pool_;
  TileReader reader_;
  Outbox outbox_;
};

}  // namespace

EngineFacts run(const Plan& plan, Sink& sink, Observer& observer, const EngineOptions& options) {
  return Engine(plan, sink, observer, options, TileReader::Sweeps::All).run();
}

std::uint64_t survey(const Plan& plan, Observer& observer, const EngineOptions& options,
                     const OnMeasured& on_measured) {
  class Nowhere : public Sink {
   public:
    void write(std::size_t, std::span<const std::byte>) override {}
    void finished(std::size_t, const TensorFacts&) override {}
  } nowhere;
  return Engine(plan, nowhere, observer, options, TileReader::Sweeps::Measured).survey(on_measured);
}

}  // namespace thorns
