#include "base/threads.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "thorns/error.h"

namespace thorns {

std::thread start_thread(std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error&) {
    throw Error(ErrorCode::NoSpace, "the system has no more threads, or no memory for one", {},
                "use fewer --threads, or raise the limits (ulimit -u, ulimit -v)");
  }
}

using Body = std::function<void(std::size_t, std::size_t)>;

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable idle;
  const Body* body = nullptr;  // of the loop under way
  std::size_t count = 0;
  std::size_t next = 0;
  std::size_t busy = 0;  // workers inside a body
  std::exception_ptr failure;
  bool stop = false;
  std::size_t size = 1;
  std::vector<std::thread> threads;

  // Takes indices until none is left. Called with the lock held, returns with it held.
  void work(std::unique_lock<std::mutex>& lock, std::size_t worker) {
    while (body != nullptr && next < count) {
      const Body& current = *body;
      const std::size_t index = next++;
      ++busy;
      lock.unlock();
      std::exception_ptr thrown;
      try {
        current(index, worker);
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      --busy;
      if (thrown) {
        if (!failure) failure = thrown;
        next = count;
      }
    }
    if (busy == 0) idle.notify_all();
  }
};

ThreadPool::ThreadPool(std::size_t threads) : state_(std::make_unique<State>()) {
  state_->size = threads < 1 ? 1 : threads;
  state_->threads.reserve(state_->size);
  for (std::size_t worker = 1; worker < state_->size; ++worker) {
    const auto serve = [state = state_.get(), worker] {
      std::unique_lock lock(state->mutex);
      for (;;) {
        state->wake.wait(lock, [&] {
          return state->stop || (state->body != nullptr && state->next < state->count);
        });
        if (state->stop) return;
        state->work(lock, worker);
      }
    };
    try {
      state_->threads.push_back(start_thread(serve));
    } catch (const Error&) {  // those that there are do the work
      state_->size = worker;
    }
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

std::size_t ThreadPool::size() const { return state_->size; }

void ThreadPool::run(std::size_t count, const Body& body) {
  std::unique_lock lock(state_->mutex);
  state_->body = &body;
  state_->count = count;
  state_->next = 0;
  state_->failure = nullptr;
  if (count > 1) state_->wake.notify_all();
  state_->work(lock, 0);
  state_->idle.wait(lock, [&] { return state_->busy == 0; });
  state_->body = nullptr;
  if (state_->failure) std::rethrow_exception(std::exchange(state_->failure, nullptr));
}

}  // namespace thorns
