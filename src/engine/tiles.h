// Reads the plan's inputs ahead of the computation: a few threads fill a fixed set of slots, in the
// order in which the engine will want them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/disk.h"
#include "base/pages.h"
#include "plan/memory.h"
#include "plan/plan.h"

namespace thorns {

// The stored elements [first, first + count) of every stored operand of one program.
struct Tile {
  std::size_t slot = 0;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  std::size_t block = 0;
  // Like Program::operands; null for products, and for operands that lack the block.
  std::vector<const std::byte*> operands;
  // Of the same operands: what their bytes lie in, where they are used in place.
  std::vector<std::shared_ptr<const FilePart>> parts;
  // Of the same operands: their codes, where they are decoded in use and no bytes are there.
  std::vector<std::shared_ptr<const CodedElements>> codes;
};

class TileReader {
 public:
  enum class Sweeps {
    All,      // what a merge reads
    Measured  // the first sweep of blends alone, what a survey reads
  };
  // Starts reading at once, with program `first`. The plan must outlive the reader.
  TileReader(const Plan& plan, std::size_t readers, Sweeps sweeps = Sweeps::All,
             std::size_t first = 0);
  ~TileReader();  // stops the threads, whatever is left unread
  TileReader(const TileReader&) = delete;
  TileReader& operator=(const TileReader&) = delete;

  // The next tile of the sequence: per program its tiles in order, and once more for a second
  // sweep where one is read. Waits for it. Rethrows what a source threw. One caller at a time.
  Tile next();
  // Gives the tile's memory back. Throws where what was used in place has changed meanwhile. Any
  // thread.
  void release(Tile& tile);

  std::uint64_t bytes_read() const;

 private:
  struct Load {  // one tile of the sequence
    std::uint32_t program = 0;
    TileSpan span;
  };
  struct Pending {  // a load that has a slot
    Tile tile;
    std::size_t load = 0;
    std::size_t started = 0;   // operands handed to a thread
    std::size_t finished = 0;  // operands read
  };

  void serve();  // the whole life of a thread: `work`, and what it throws
  void work();
  bool start_load();
  void advise(std::size_t load);
  void read_operand(const Load& load, Tile& tile, std::size_t operand);

  const Plan& plan_;
  std::vector<Load> loads_;
  Buffer slots_;  // all of them, one after the other
  mutable std::mutex mutex_;
  std::condition_variable can_read_;
  std::condition_variable is_ready_;
  std::vector<std::size_t> free_;
  std::deque<std::shared_ptr<Pending>> pending_;  // in sequence order
  std::size_t next_load_ = 0;
  std::size_t advised_ = 0;
  std::uint64_t bytes_read_ = 0;
  std::exception_ptr failure_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace thorns
