#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/disk.h"
#include "support/temp_folder_out.h"
#include "thorns/error.h"

namespace thorns {
namespace {

TEST(DiskLock, KeepsOthersOutUntilItIsGivenBack) {
  const test::OutFolder folder;
  Disk& disk = real_disk();
  auto first = disk.lock(folder / "lock");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(disk.lock(folder / "lock"), nullptr);
  EXPECT_NE(disk.lock(folder / "other"), nullptr);
  first.reset();
  EXPECT_NE(disk.lock(folder / "lock"), nullptr);
}

TEST(DiskLock, DoesNotOutliveItsProcess) {
  const test::OutFolder folder;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto lock = real_disk().lock(folder / "lock");
    ::_exit(lock && !real_disk().lock(folder / "lock") ? 0 : 1);  // runs no destructor
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_NE(real_disk().lock(folder / "lock"), nullptr);
}

TEST(DiskLock, ForgetsAFileThatWasRemoved) {
  const test::OutFolder folder;
  const auto old = real_disk().lock(folder / "lock");
  std::filesystem::remove(folder / "lock");
  EXPECT_NE(real_disk().lock(folder / "lock"), nullptr);
}

TEST(DiskLock, NamesAFolderThatIsNotThere) {
  const test::OutFolder folder;
  try {
    real_disk().lock(folder / "none/lock");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::NotFound);
    EXPECT_EQ(std::get<FilePlace>(error.where()).path, folder / "none/lock");
  }
}

}  // namespace
}  // namespace thorns
