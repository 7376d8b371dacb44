// The thread pool: every index once, whatever the number of threads; exceptions come back; a pool
// serves many loops. ThreadSanitizer runs these too.
#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace thorns {
namespace {

class ThreadPools : public testing::TestWithParam<std::size_t> {};

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPools, testing::Values(1, 2, 7));

TEST_P(ThreadPools, RunEveryIndexOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.size(), GetParam());
  for (const std::size_t count : {0U, 1U, 2U, 3U, 8U, 1000U}) {
    std::vector<std::atomic<int>> calls(count);
    std::atomic<bool> strange_worker{false};
    pool.run(count, [&](std::size_t index, std::size_t worker) {
      ++calls.at(index);
      if (worker >= pool.size()) strange_worker = true;
    });
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(calls[i], 1) << i << " of " << count;
    EXPECT_FALSE(strange_worker);
  }
}

TEST_P(ThreadPools, AWorkerDoesOneThingAtATime) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(pool.size());
  std::atomic<bool> together{false};
  pool.run(500, [&](std::size_t /*index*/, std::size_t worker) {
    if (++inside.at(worker) != 1) together = true;
    std::this_thread::yield();
    --inside.at(worker);
  });
  EXPECT_FALSE(together);
}

TEST_P(ThreadPools, WhatWorkersWroteIsThereAfterwards) {
  ThreadPool pool(GetParam());
  std::vector<std::size_t> squares(1000);  // not atomic: `run` must order the writes
  pool.run(squares.size(), [&](std::size_t i, std::size_t /*worker*/) { squares[i] = i * i; });
  for (std::size_t i = 0; i < squares.size(); ++i) ASSERT_EQ(squares[i], i * i);
}

TEST_P(ThreadPools, ThrowWhatABodyThrew) {
  ThreadPool pool(GetParam());
  for (const std::size_t bad : {0U, 5U, 99U}) {
    std::atomic<int> calls{0};
    try {
      pool.run(100, [&](std::size_t index, std::size_t /*worker*/) {
        ++calls;
        if (index == bad) throw std::runtime_error("body " + std::to_string(index));
      });
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "body " + std::to_string(bad));
    }
    EXPECT_GE(calls, 1);
    EXPECT_LE(calls, 100);
  }
}

TEST_P(ThreadPools, SkipWhatHasNotBegunAfterAnException) {
  ThreadPool pool(GetParam());
  std::atomic<std::size_t> calls{0};
  EXPECT_THROW(pool.run(100'000,
                        [&](std::size_t /*index*/, std::size_t /*worker*/) {
                          ++calls;
                          throw std::runtime_error("every body");
                        }),
               std::runtime_error);
  EXPECT_LE(calls, pool.size());
}

TEST_P(ThreadPools, ServeOnAfterAnException) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 100; ++round) {
    EXPECT_THROW(pool.run(20, [](std::size_t, std::size_t) { throw std::logic_error("no"); }),
                 std::logic_error);
    std::atomic<int> calls{0};
    pool.run(20, [&](std::size_t, std::size_t) { ++calls; });
    ASSERT_EQ(calls, 20);
  }
}

TEST_P(ThreadPools, ServeTenThousandLoops) {
  ThreadPool pool(GetParam());
  std::atomic<std::size_t> sum{0};
  for (std::size_t round = 0; round < 10'000; ++round) {
    pool.run(round % 5, [&](std::size_t index, std::size_t) { sum += index; });
  }
  EXPECT_EQ(sum, 2000U * (0 + 0 + 1 + 3 + 6));
}

TEST(ThreadPool, NoThreadsAreOne) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.size(), 1U);
  const std::thread::id here = std::this_thread::get_id();
  pool.run(10, [&](std::size_t, std::size_t worker) {
    EXPECT_EQ(std::this_thread::get_id(), here);
    EXPECT_EQ(worker, 0U);
  });
}

TEST(ThreadPool, WorkersWorkAtTheSameTime) {
  // Three bodies that each wait until all three have begun: only three threads get past it.
  ThreadPool pool(3);
  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::size_t> workers;
  std::atomic<int> met{0};
  pool.run(3, [&](std::size_t, std::size_t worker) {
    std::unique_lock lock(mutex);
    workers.insert(worker);
    changed.notify_all();
    if (changed.wait_for(lock, std::chrono::seconds(60), [&] { return workers.size() == 3; })) {
      ++met;
    }
  });
  EXPECT_EQ(met, 3);
}

TEST(ThreadPool, PoolsComeAndGo) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(4);
    if (i % 2 == 0) continue;  // destroyed unused
    std::atomic<int> calls{0};
    pool.run(3, [&](std::size_t, std::size_t) { ++calls; });
    ASSERT_EQ(calls, 3);
  }
}

}  // namespace
}  // namespace thorns
