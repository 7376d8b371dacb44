#include "engine/outbox.h"

#include <utility>

#include "base/threads.h"

namespace thorns {

Outbox::Outbox(Sink& sink, std::size_t slots, std::size_t slot_bytes) : sink_(sink) {
  for (std::size_t i = 0; i < slots; ++i) {
    slots_.emplace_back(slot_bytes);
    free_.push_back(i);
  }
  thread_ = start_thread([this] { work(); });
}

Outbox::~Outbox() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::size_t Outbox::take_slot() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || !free_.empty(); });
  if (failure_) std::rethrow_exception(failure_);
  const std::size_t slot = free_.back();
  free_.pop_back();
  return slot;
}

void Outbox::push(Item item) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    items_.push_back(std::move(item));
  }
  changed_.notify_all();
}

void Outbox::send_slot(std::size_t program, std::size_t slot, std::size_t bytes) {
  push({program,
        {slots_[slot].data(), bytes},
        [this, slot] {
          const std::lock_guard lock(mutex_);
          free_.push_back(slot);
        },
        std::nullopt});
}

void Outbox::send(std::size_t program, std::span<const std::byte> bytes,
                  std::function<void()> done) {
  push({program, bytes, std::move(done), std::nullopt});
}

void Outbox::finish_program(std::size_t program, TensorFacts facts) {
  push({program, {}, [] {}, std::move(facts)});
}

void Outbox::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failure_ || (items_.empty() && !writing_); });
  if (failure_) std::rethrow_exception(failure_);
}

void Outbox::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stop_ || !items_.empty(); });
    if (stop_) return;
    Item item = std::move(items_.front());
    items_.pop_front();
    writing_ = true;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      if (item.facts) {
        sink_.finished(item.program, *item.facts);
      } else {
        sink_.write(item.program, item.bytes);
      }
      item.done();
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    writing_ = false;
    bytes_written_ += item.bytes.size();
    if (thrown) {
      failure_ = thrown;
      changed_.notify_all();
      return;
    }
    changed_.notify_all();
  }
}

std::uint64_t Outbox::bytes_written() const {
  const std::lock_guard lock(mutex_);
  return bytes_written_;
}

}  // namespace thorns
