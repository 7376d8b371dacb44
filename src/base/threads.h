// A fixed set of worker threads that share out the indices of a loop.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <thread>

namespace thorns {

// A thread that runs `work`. Throws NoSpace where the system has none left.
std::thread start_thread(std::function<void()> work);

class ThreadPool {
 public:
  // `threads` >= 1 in total, the calling thread included: 1 starts none. Fewer where the system has
  // no more.
  explicit ThreadPool(std::size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t size() const;
  // Calls body(index, worker) once for every index in [0, count), in any order, on any worker
  // (0 <= worker < size()); returns when all are done. The first exception thrown by a body is
  // rethrown here, after which indices not yet begun are skipped. One caller at a time.
  void run(std::size_t count,
           const std::function<void(std::size_t index, std::size_t worker)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace thorns
