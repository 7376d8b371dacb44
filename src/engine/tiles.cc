#include "engine/tiles.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/threads.h"
#include "plan/memory.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// How many tiles beyond the ones being read the system is told of.
constexpr std::size_t kAdviseAhead = 4;

std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

TileReader::TileReader(const Plan& plan, std::size_t readers, Sweeps sweeps, std::size_t first)
    : plan_(plan) {
  for (std::size_t p = first; p < plan.programs.size(); ++p) {
    const Program& program = plan.programs[p];
    const auto add = [&](const std::vector<TileSpan>& tiles, std::size_t from) {
      for (std::size_t t = from; t < tiles.size(); ++t)
        loads_.push_back({static_cast<std::uint32_t>(p), tiles[t]});
    };
    if (program.kind == ProgramKind::Blend) {
      add(measured_tiles(program, plan.memory), 0);
      if (sweeps == Sweeps::Measured) continue;
      add(written_tiles(program, plan.memory), kept_tiles(program, plan.memory));
    } else if (sweeps == Sweeps::All) {
      add(written_tiles(program, plan.memory), 0);
    }
  }
  slots_ = Buffer(plan.memory.slots * static_cast<std::size_t>(plan.memory.slot_bytes));
  for (std::size_t i = 0; i < plan.memory.slots; ++i) {
    free_.push_back(plan.memory.slots - 1 - i);  // the first slots are used first, and again
  }
  threads_.reserve(readers);
  threads_.push_back(start_thread([this] { serve(); }));
  try {
    while (threads_.size() < readers) threads_.push_back(start_thread([this] { serve(); }));
  } catch (const Error&) {  // those that there are do the work
  }
}

TileReader::~TileReader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  can_read_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

// Gives the next load a slot, if there is one. With the lock held.
bool TileReader::start_load() {
  if (next_load_ == loads_.size() || free_.empty()) return false;
  const Load& load = loads_[next_load_];
  const Program& program = plan_.programs[load.program];
  auto pending = std::make_shared<Pending>();
  pending->load = next_load_++;
  pending->tile.slot = free_.back();
  pending->tile.first = load.span.first;
  pending->tile.count = load.span.count;
  pending->tile.block = load.span.block;
  free_.pop_back();
  pending->tile.parts.resize(program.operands.size());
  pending->tile.codes.resize(program.operands.size());
  const std::byte* at = slots_.data() + pending->tile.slot * plan_.memory.slot_bytes;
  for (const Operand& operand : program.operands) {
    if (!operand.is_stored() || !program.blocks[load.span.block].has(operand)) {
      pending->tile.operands.push_back(nullptr);
      ++pending->finished;
      continue;
    }
    pending->tile.operands.push_back(at);
    at += aligned(static_cast<std::size_t>(load.span.count) * size_of(operand.dtype));
  }
  pending_.push_back(std::move(pending));
  return true;
}

// Tells the system of loads to come, so that the disk works while threads copy. Without the lock.
void TileReader::advise(std::size_t load) {
  const Program& program = plan_.programs[loads_[load].program];
  const TileSpan& span = loads_[load].span;
  for (const Operand& operand : program.operands) {
    if (!operand.is_stored() || !program.blocks[span.block].has(operand)) continue;
    operand.will_need(span.first, span.count);
  }
}

void TileReader::read_operand(const Load& load, Tile& tile, std::size_t operand) {
  const Program& program = plan_.programs[load.program];
  const Operand& from = program.operands[operand];
  const std::size_t bytes = static_cast<std::size_t>(load.span.count) * size_of(from.dtype);
  // Copies are handed to the system, which would not take the pages of a file that was cut short.
  if (program.kind == ProgramKind::Blend || program.kind == ProgramKind::Cast) {
    tile.parts[operand] = from.map(load.span.first, load.span.count);
    if (tile.parts[operand] != nullptr) {
      give_back(tile.operands[operand], bytes);  // else both would be resident
      tile.operands[operand] = tile.parts[operand]->bytes().data();
      return;
    }
    if (from.is_decoded()) tile.codes[operand] = from.map_codes(load.span.first, load.span.count);
    if (tile.codes[operand] != nullptr) return give_back(tile.operands[operand], bytes);
  }
  // The tile is const to everybody but the thread that fills it.
  auto* const to = const_cast<std::byte*>(tile.operands[operand]);
  from.read(load.span.first, {to, bytes});
}

void TileReader::serve() {
  try {
    work();
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
    is_ready_.notify_all();
    can_read_.notify_all();
  }
}

void TileReader::work() {
  std::unique_lock lock(mutex_);
  while (!stop_ && !failure_) {
    // The oldest load with an operand that nobody reads yet.
    std::shared_ptr<Pending> found;
    for (const auto& pending : pending_) {
      while (pending->started < pending->tile.operands.size() &&
             pending->tile.operands[pending->started] == nullptr) {
        ++pending->started;
      }
      if (pending->started < pending->tile.operands.size()) {
        found = pending;
        break;
      }
    }
    if (!found) {
      if (!start_load()) can_read_.wait(lock);
      continue;
    }
    const std::size_t operand = found->started++;
    const Load load = loads_[found->load];
    std::vector<std::size_t> to_advise;
    while (advised_ < std::min(loads_.size(), found->load + 1 + kAdviseAhead)) {
      to_advise.push_back(std::max(advised_, found->load + 1));
      advised_ = to_advise.back() + 1;
    }
    lock.unlock();
    for (const std::size_t ahead : to_advise) {
      if (ahead < loads_.size()) advise(ahead);
    }
    read_operand(load, found->tile, operand);
    lock.lock();
    const Operand& from = plan_.programs[load.program].operands[operand];
    bytes_read_ += load.span.count * size_of(from.dtype);
    if (++found->finished == found->tile.operands.size()) is_ready_.notify_all();
  }
}

Tile TileReader::next() {
  std::unique_lock lock(mutex_);
  is_ready_.wait(lock, [&] {
    return failure_ || (!pending_.empty() &&
                        pending_.front()->finished == pending_.front()->tile.operands.size());
  });
  if (failure_) std::rethrow_exception(failure_);
  Tile tile = std::move(pending_.front()->tile);
  pending_.pop_front();
  return tile;
}

void TileReader::release(Tile& tile) {
  for (const auto& part : tile.parts) {
    if (part != nullptr) part->require_intact();
  }
  for (const auto& codes : tile.codes) {
    if (codes != nullptr) codes->require_intact();
  }
  tile.parts.clear();
  tile.codes.clear();
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(tile.slot);
  }
  can_read_.notify_one();
}

std::uint64_t TileReader::bytes_read() const {
  const std::lock_guard lock(mutex_);
  return bytes_read_;
}

}  // namespace thorns
