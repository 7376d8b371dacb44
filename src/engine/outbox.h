// Finished bytes on their way to the sink: one thread writes while the others compute.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/pages.h"
#include "plan/sink.h"

namespace thorns {

class Outbox {
 public:
  // `slots` buffers of `slot_bytes` for output tiles. The sink must outlive the outbox.
  Outbox(Sink& sink, std::size_t slots, std::size_t slot_bytes);
  ~Outbox();  // stops after the item being written; the rest is dropped
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  // A free output slot; waits for one. Rethrows what the sink threw.
  std::size_t take_slot();
  std::byte* data(std::size_t slot) const { return slots_[slot].data(); }
  // Queues the first `bytes` of a slot for `program`; the slot is free again when they are written.
  void send_slot(std::size_t program, std::size_t slot, std::size_t bytes);
  // Queues bytes that live elsewhere; `done` is called when they are written.
  void send(std::size_t program, std::span<const std::byte> bytes, std::function<void()> done);
  void finish_program(std::size_t program, TensorFacts facts);
  // Waits until everything is written. Rethrows what the sink threw.
  void drain();

  std::uint64_t bytes_written() const;

 private:
  struct Item {
    std::size_t program = 0;
    std::span<const std::byte> bytes;
    std::function<void()> done;
    std::optional<TensorFacts> facts;  // set: the program is finished
  };

  void push(Item item);
  void work();

  Sink& sink_;
  std::vector<Buffer> slots_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> free_;
  std::deque<Item> items_;
  bool writing_ = false;
  bool stop_ = false;
  std::uint64_t bytes_written_ = 0;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace thorns
