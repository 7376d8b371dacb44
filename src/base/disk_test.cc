// The operating system's files behind Disk: what is read and written, and one clear error for each
// way in which a file is not what was expected.
#include "base/disk.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/descriptors.h"
#include "base/disk_links.h"
#include "base/disk_resume.h"
#include "support/error_of.h"
#include "support/temp_folder.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using test::error_of;
using test::offset_of;
using test::path_of;

class RealDiskTest : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& content) {
    write_text(disk_, folder_ / name, content);
    return folder_ / name;
  }
  std::string read(const std::string& path) { return read_text(disk_, path, 1 << 20); }

  // Code, words and place of what `action` throws.
  template <typename Action>
  void expect_failure(Action action, ErrorCode code, const std::string& message,
                      const std::string& path, const std::string& hint = {}) {
    const Error error = error_of(action);
    EXPECT_STREQ(to_string(error.code()), to_string(code)) << error.message();
    EXPECT_NE(error.message().find(message), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("`" + path + "`"), std::string::npos) << error.message();
    EXPECT_EQ(path_of(error), path);
    EXPECT_NE(error.hint().find(hint), std::string::npos) << error.hint();
  }

  test::TempFolder folder_;
  Disk& disk_ = real_disk();
};

// ---------------------------------------------------------------- reading

TEST_F(RealDiskTest, ReadsAnyPart) {
  const std::string path = write("f", "0123456789");
  const auto file = disk_.open(path);
  EXPECT_EQ(file->size(), 10U);
  EXPECT_EQ(file->path(), path);
  std::string part(4, '.');
  file->read(3, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "3456");
  file->will_need(0, 10);
  file->will_need(1000, 1ULL << 62);  // advice never fails
  file->read(10, {});
  EXPECT_EQ(read(path), "0123456789");
}

TEST_F(RealDiskTest, ReadsFromManyThreads) {
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += std::to_string(i % 10);
  const auto file = disk_.open(write("f", content));
  std::vector<std::string> parts(8, std::string(12'345, '.'));
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    readers.emplace_back(
        [&, i] { file->read(i * 12'345, std::as_writable_bytes(std::span(parts[i]))); });
  }
  for (std::thread& reader : readers) reader.join();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(parts[i], content.substr(i * 12'345, 12'345)) << i;
  }
}

TEST_F(RealDiskTest, SaysWhereAFileEndsTooEarly) {
  const std::string path = write("short", "0123456789");
  const auto file = disk_.open(path);
  std::string part(8, '.');
  const auto reading = [&] { file->read(6, std::as_writable_bytes(std::span(part))); };
  expect_failure(reading, ErrorCode::Corrupt, "ends at byte 10, 4 bytes before it should", path,
                 "fetch it again");
  EXPECT_EQ(offset_of(error_of(reading)), 10);
  EXPECT_EQ(offset_of(error_of([&] { file->read(1000, std::as_writable_bytes(std::span(part))); })),
            1000);
}

TEST_F(RealDiskTest, NoticesAFileThatChangesWhileItIsOpen) {
  const std::string path = folder_ / "f";
  std::string part(2, '.');
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  const std::vector<std::pair<std::string, std::function<void()>>> changes = {
      {": it had 10 bytes and has 3 now", [&] { std::filesystem::resize_file(path, 3); }},
      {": it had 10 bytes and has 12 now", [&] { write("f", "0123456789ab"); }},
      {"", [&] { write("f", "x123456789"); }},
      {"", [&] { std::filesystem::last_write_time(path, old); }},
  };
  for (const auto& [sizes, change] : changes) {
    write("f", "0123456789");
    std::filesystem::last_write_time(path, old - std::chrono::hours(1));
    const auto file = disk_.open(path);
    file->read(0, std::as_writable_bytes(std::span(part)));
    change();
    expect_failure([&] { file->read(0, std::as_writable_bytes(std::span(part))); },
                   ErrorCode::Corrupt, "changed while it was in use" + sizes, path, "wait");
  }
}

TEST_F(RealDiskTest, MapsWhatItReads) {
  std::string content;
  for (int i = 0; content.size() < 20'000; ++i) content += std::to_string(i);
  const auto file = disk_.open(write("f", content));
  for (const auto& [offset, bytes] : std::vector<std::pair<std::size_t, std::size_t>>{
           {0, 1}, {1, 4095}, {4095, 2}, {4096, 4096}, {5001, content.size() - 5001}}) {
    const auto part = file->map(offset, bytes);
    ASSERT_NE(part, nullptr) << offset;
    ASSERT_EQ(part->bytes().size(), bytes);
    EXPECT_TRUE(
        std::equal(part->bytes().begin(), part->bytes().end(),
                   std::as_bytes(std::span(content)).begin() + static_cast<std::ptrdiff_t>(offset)))
        << offset;
    EXPECT_NO_THROW(part->require_intact());
  }
  EXPECT_EQ(file->map(0, 0), nullptr);
  EXPECT_EQ(file->map(1, content.size()), nullptr);
  EXPECT_EQ(file->map(content.size() + 1, 1), nullptr);
  EXPECT_EQ(file->map(~std::uint64_t{0}, 2), nullptr);
}

TEST_F(RealDiskTest, SurvivesAFileThatIsCutWhileItIsMapped) {
  const std::string path = write("f", std::string(20'000, 'x'));
  const auto file = disk_.open(path);
  const auto first = file->map(10, 100);
  const auto all = file->map(0, 20'000);
  ASSERT_NE(all, nullptr);
  std::filesystem::resize_file(path, 5'000);
  // Pages that are gone read as zeros: the process lives, and is told.
  EXPECT_EQ(std::count(all->bytes().begin(), all->bytes().end(), std::byte{'x'}), 5'000);
  EXPECT_EQ(std::count(all->bytes().begin(), all->bytes().end(), std::byte{0}), 15'000);
  for (const auto* part : {&first, &all}) {
    expect_failure([&] { (*part)->require_intact(); }, ErrorCode::Corrupt,
                   "changed while it was in use: it had 20000 bytes and has 5000 now", path,
                   "wait");
  }
}

TEST_F(RealDiskTest, LeavesOtherBusErrorsAlone) {
  const std::string path = write("f", std::string(10, 'x'));
  const auto die = [&] {
    const auto mapped = disk_.open(path)->map(0, 10);  // from now on they are handled
    std::raise(SIGBUS);
  };
  EXPECT_DEATH(die(), "");  // by the signal, or by the handler of a sanitizer
}

TEST_F(RealDiskTest, RefusesToOpenWhatIsNoFile) {
  expect_failure([&] { disk_.open(folder_ / "none"); }, ErrorCode::NotFound, "cannot open",
                 folder_ / "none");
  const std::string file = write("file", "x");
  expect_failure([&] { disk_.open(file + "/below"); }, ErrorCode::NotFound, "cannot open",
                 file + "/below");
  const std::string inner = folder_.make_folder("inner");
  expect_failure([&] { disk_.open(inner); }, ErrorCode::Unsupported, "is not a file", inner);
  const std::string dangling = folder_ / "dangling";
  std::filesystem::create_symlink("nowhere", dangling);
  expect_failure([&] { disk_.open(dangling); }, ErrorCode::NotFound, "cannot open", dangling);
  expect_failure([&] { disk_.open("/dev/null"); }, ErrorCode::Unsupported, "is not a file",
                 "/dev/null");
}

TEST_F(RealDiskTest, FollowsLinks) {
  write("f", "content");
  std::filesystem::create_symlink("f", folder_ / "link");
  EXPECT_EQ(read(folder_ / "link"), "content");
}

TEST_F(RealDiskTest, BoundsTextFiles) {
  const std::string path = write("config.json", "0123456789");
  EXPECT_EQ(read_text(disk_, path, 10), "0123456789");
  expect_failure([&] { read_text(disk_, path, 9); }, ErrorCode::Corrupt,
                 "has 10 bytes; at most 9 are expected", path);
  EXPECT_EQ(read(write("empty", "")), "");
}

// ---------------------------------------------------------------- writing

TEST_F(RealDiskTest, WritesInPieces) {
  const std::string path = folder_ / "f";
  std::string all;
  const auto file = disk_.create(path, 20'000'000);
  for (int i = 0; i < 20; ++i) {
    const std::string piece(1'000'000, static_cast<char>('a' + i));
    file->append(std::as_bytes(std::span(piece)));
    all += piece;
  }
  file->append({});
  file->finish();
  EXPECT_EQ(read_text(disk_, path, 1 << 25), all);
}

TEST_F(RealDiskTest, ReservedSpaceIsNoContent) {
  const std::string path = folder_ / "f";
  const std::string text = "abc";
  const auto file = disk_.create(path, 1'000'000);
  file->append(std::as_bytes(std::span(text)));
  file->finish();
  EXPECT_EQ(disk_.stat(path).size, 3U);
}

TEST_F(RealDiskTest, CreateTruncates) {
  const std::string path = write("f", "a long content");
  write("f", "new");
  EXPECT_EQ(read(path), "new");
}

TEST_F(RealDiskTest, RefusesToCreateWhereItCannot) {
  expect_failure([&] { disk_.create(folder_ / "none/f", 0); }, ErrorCode::NotFound, "cannot create",
                 folder_ / "none/f");
  const std::string inner = folder_.make_folder("inner");
  expect_failure([&] { disk_.create(inner, 0); }, ErrorCode::Io, "cannot create", inner);
  if (::geteuid() != 0) {  // nothing is forbidden to root
    std::filesystem::permissions(inner, std::filesystem::perms(0555));
    expect_failure([&] { disk_.create(inner + "/f", 0); }, ErrorCode::Io, "cannot create",
                   inner + "/f", "permissions");
  }
}

TEST_F(RealDiskTest, SaysThatTheDiskIsFull) {
  // /dev/full takes the place of a full disk: every write to it fails so.
  const auto file = disk_.create("/dev/full", 0);
  const std::string text(10, 'x');
  expect_failure([&] { file->append(std::as_bytes(std::span(text))); }, ErrorCode::NoSpace,
                 "cannot write to", "/dev/full", "free space");
}

TEST_F(RealDiskTest, RefusesAReservationThatCannotBeKept) {
  // A limit on the size of files takes the place of a small disk.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1 << 20, before.rlim_max};
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string path = folder_ / "f";
  try {
    // File systems that reserve nothing notice it when the bytes come.
    const std::string text(2 << 20, 'x');
    disk_.create(path, text.size())->append(std::as_bytes(std::span(text)));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::NoSpace);
    EXPECT_EQ(path_of(error), path);
    const bool refused_at_once = error.message().find("reserve") != std::string::npos;
    EXPECT_NE(disk_.exists(path), refused_at_once);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
}

TEST_F(RealDiskTest, NamesTheLimitOfOpenFiles) {
  const std::string path = write("f", "x");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Whoever started the test may have left files open in it: count from the next free number.
  const int next = ::dup(STDERR_FILENO);
  ASSERT_GE(next, 0);
  ::close(next);
  const rlimit few{static_cast<rlim_t>(next) + 16, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<std::unique_ptr<WriteFile>> files;
  const Error error = error_of([&] {
    for (int i = 0; i < 100; ++i) files.push_back(disk_.create(folder_ / std::to_string(i), 0));
  });
  files.clear();
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(error.code(), ErrorCode::Io);
  EXPECT_NE(error.hint().find("ulimit -n"), std::string::npos);
}

// More files than there may be descriptors: each is opened again when it is its turn, if it is the
// same.
TEST_F(RealDiskTest, ReadsMoreFilesThanMayBeOpen) {
  constexpr std::size_t kFiles = 600;
  std::vector<std::unique_ptr<ReadFile>> files;
  for (std::size_t i = 0; i < kFiles; ++i) {
    const std::string text = std::to_string(i);
    files.push_back(disk_.open(write(text, text)));
  }
  EXPECT_LE(read_descriptors().open(), 256U);
  for (std::size_t i = 0; i < kFiles; ++i) {
    const std::size_t at = i * 7 % kFiles;
    std::string text(files[at]->size(), '.');
    files[at]->read(0, std::as_writable_bytes(std::span(text)));
    EXPECT_EQ(text, std::to_string(at));
  }
  // The first of them are closed by now; one is replaced by a file of its size.
  write("new", "7");
  std::filesystem::rename(folder_ / "new", folder_ / "7");
  std::filesystem::remove(folder_ / "14");
  std::byte byte{};
  expect_failure(
      [&] {
        files[7]->read(0, {&byte, 1});
      },
      ErrorCode::Corrupt, "changed while", folder_ / "7");
  expect_failure(
      [&] {
        files[14]->read(0, {&byte, 1});
      },
      ErrorCode::NotFound, "cannot open", folder_ / "14");
  files[14]->will_need(0, 2);  // never fails
  files.clear();
  EXPECT_EQ(read_descriptors().open(), 0U);
}

// ---------------------------------------------------------------- folders

TEST_F(RealDiskTest, LooksAtFilesAndFolders) {
  const std::string path = write("f", "abc");
  EXPECT_TRUE(disk_.exists(path));
  EXPECT_FALSE(disk_.exists(folder_ / "none"));
  std::filesystem::create_symlink("nowhere", folder_ / "dangling");
  EXPECT_TRUE(disk_.exists(folder_ / "dangling"));  // something is in the way
  EXPECT_EQ(disk_.stat(path).size, 3U);
  EXPECT_FALSE(disk_.stat(path).is_folder);
  EXPECT_TRUE(disk_.stat(folder_.path()).is_folder);
  expect_failure([&] { disk_.stat(folder_ / "none"); }, ErrorCode::NotFound, "cannot look at",
                 folder_ / "none");
}

TEST_F(RealDiskTest, WritesThroughNoLink) {
  const std::string precious = write("precious", "x");
  for (const std::string& target : {precious, folder_ / "new"}) {
    const std::string link = folder_ / "link";
    std::filesystem::create_symlink(target, link);
    EXPECT_EQ(resumable(disk_)->kind(link), ResumableDisk::Kind::Other);
    expect_failure([&] { disk_.create(link, 0); }, ErrorCode::Io, "cannot create", link);
    expect_failure([&] { disk_.lock(link); }, ErrorCode::Io, "cannot lock", link);
    std::filesystem::remove(link);
  }
  EXPECT_EQ(read(precious), "x");
  EXPECT_EQ(resumable(disk_)->kind(precious), ResumableDisk::Kind::File);
  EXPECT_EQ(resumable(disk_)->kind(folder_.path()), ResumableDisk::Kind::Folder);
  EXPECT_EQ(resumable(disk_)->kind(folder_ / "new"), ResumableDisk::Kind::None);
}

TEST_F(RealDiskTest, MakesLinks) {
  write("blob", "content");
  linking(disk_)->make_link("blob", folder_ / "link");
  EXPECT_EQ(read_text(disk_, folder_ / "link", 100), "content");
  EXPECT_EQ(std::filesystem::read_symlink(folder_ / "link"), "blob");
  expect_failure([&] { linking(disk_)->make_link("other", folder_ / "link"); }, ErrorCode::Exists,
                 "cannot make the link", folder_ / "link");
}

TEST_F(RealDiskTest, ListsNamesSorted) {
  for (const char* name : {"b", "a", ".hidden", "B", "a1"}) write(name, "");
  folder_.make_folder("inner");
  EXPECT_EQ(disk_.list(folder_.path()),
            (std::vector<std::string>{".hidden", "B", "a", "a1", "b", "inner"}));
  expect_failure([&] { disk_.list(folder_ / "none"); }, ErrorCode::NotFound, "cannot list",
                 folder_ / "none");
  expect_failure([&] { disk_.list(folder_ / "a"); }, ErrorCode::NotFound, "cannot list",
                 folder_ / "a");
}

TEST_F(RealDiskTest, MakesAFolderOnceAndNoParents) {
  const std::string path = folder_ / "new";
  disk_.make_folder(path);
  EXPECT_TRUE(disk_.stat(path).is_folder);
  expect_failure([&] { disk_.make_folder(path); }, ErrorCode::Exists, "cannot make the folder",
                 path);
  expect_failure([&] { disk_.make_folder(folder_ / "none/new"); }, ErrorCode::NotFound,
                 "cannot make the folder", folder_ / "none/new");
}

TEST_F(RealDiskTest, RenamesOverFilesButNotOverFullFolders) {
  const std::string old = write("old", "1");
  const std::string taken = write("taken", "2");
  disk_.rename(old, taken);
  EXPECT_EQ(read(taken), "1");
  EXPECT_FALSE(disk_.exists(old));
  const std::string staging = folder_.make_folder("staging");
  const std::string target = folder_.make_folder("target");
  write("target/f", "x");
  expect_failure([&] { disk_.rename(staging, target); }, ErrorCode::Exists,
                 "cannot move into place", target);
  expect_failure([&] { disk_.rename(folder_ / "none", folder_ / "x"); }, ErrorCode::NotFound,
                 "cannot move into place", folder_ / "x");
}

TEST_F(RealDiskTest, ExchangesFoldersInOneStep) {
  ResumableDisk& disk = *resumable(disk_);
  folder_.make_folder("new");
  folder_.make_folder("old");
  write("new/f", "1");
  write("old/f", "2");
  if (!disk.exchange(folder_ / "new", folder_ / "old")) GTEST_SKIP() << "not on this file system";
  EXPECT_EQ(read(folder_ / "old/f"), "1");
  EXPECT_EQ(read(folder_ / "new/f"), "2");
  expect_failure([&] { disk.exchange(folder_ / "new", folder_ / "none"); }, ErrorCode::NotFound,
                 "cannot exchange", folder_ / "none");
}

TEST_F(RealDiskTest, RemovesTreesAndMindsNoNothing) {
  folder_.make_folder("a/b/c");
  write("a/b/f", "x");
  disk_.remove_all(folder_ / "a");
  EXPECT_FALSE(disk_.exists(folder_ / "a"));
  EXPECT_NO_THROW(disk_.remove_all(folder_ / "a"));
}

TEST_F(RealDiskTest, RemovingALinkKeepsWhatItPointsTo) {
  const std::string kept = write("kept", "x");
  std::filesystem::create_symlink("kept", folder_ / "link");
  disk_.remove_all(folder_ / "link");
  EXPECT_FALSE(disk_.exists(folder_ / "link"));
  EXPECT_EQ(read(kept), "x");
}

TEST_F(RealDiskTest, SyncsFolders) {
  EXPECT_NO_THROW(disk_.sync_folder(folder_.path()));
  expect_failure([&] { disk_.sync_folder(folder_ / "none"); }, ErrorCode::NotFound, "cannot open",
                 folder_ / "none");
}

TEST_F(RealDiskTest, KnowsTheFreeSpace) {
  const auto said = std::filesystem::space(folder_.path());
  const std::uint64_t free = disk_.free_space(folder_.path());
  EXPECT_GT(free, 0U);
  EXPECT_LE(free, said.capacity);
  expect_failure([&] { disk_.free_space(folder_ / "none"); }, ErrorCode::NotFound, "cannot look at",
                 folder_ / "none");
}

TEST_F(RealDiskTest, GivesOneSpellingToAllPathsOfAFile) {
  write("f", "x");
  const std::string inner = folder_.make_folder("inner");
  std::filesystem::create_symlink("inner", folder_ / "link");
  const std::string one = disk_.canonical(folder_ / "f");
  EXPECT_EQ(one.front(), '/');
  EXPECT_EQ(disk_.canonical(inner + "/../f"), one);
  EXPECT_EQ(disk_.canonical(folder_ / "link/../f"), one);
  EXPECT_EQ(disk_.canonical(folder_ / "./inner//"), disk_.canonical(folder_ / "link"));
  EXPECT_EQ(disk_.canonical(folder_ / "link/new"), disk_.canonical(folder_ / "inner/new"));
}

// ---------------------------------------------------------------- locks

TEST_F(RealDiskTest, ALockIsHeldOnce) {
  const std::string path = folder_ / "lock";
  auto held = disk_.lock(path);
  ASSERT_NE(held, nullptr);
  EXPECT_EQ(disk_.lock(path), nullptr);
  held.reset();
  EXPECT_NE(disk_.lock(path), nullptr);
}

TEST_F(RealDiskTest, ALockOnARemovedFileKeepsNobodyOut) {
  const std::string path = folder_ / "lock";
  const auto first = disk_.lock(path);
  disk_.remove_all(path);
  EXPECT_NE(disk_.lock(path), nullptr);
}

TEST_F(RealDiskTest, RefusesToLockWhereItCannot) {
  expect_failure([&] { disk_.lock(folder_ / "none/lock"); }, ErrorCode::NotFound, "cannot lock",
                 folder_ / "none/lock");
}

// ---------------------------------------------------------------- paths

TEST(Paths, Join) {
  EXPECT_EQ(join_path("a", "b"), "a/b");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
  EXPECT_EQ(join_path("/", "b"), "/b");
  EXPECT_EQ(join_path("", "b"), "b");
}

TEST(Paths, ParentAndName) {
  struct Row {
    const char* path;
    const char* parent;
    const char* name;
  };
  const std::vector<Row> rows = {
      {"a/b", "a", "b"},     {"a/b/", "a", "b"},  {"a//b//", "a", "b"}, {"a", ".", "a"},
      {"a/", ".", "a"},      {"/a", "/", "a"},    {"/a/", "/", "a"},    {"//a", "/", "a"},
      {"/a/b", "/a", "b"},   {"./a", ".", "a"},   {"/", "/", ""},       {"", ".", ""},
      {"a/b.c", "a", "b.c"}, {"../a", "..", "a"},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(parent_path(row.path), row.parent) << row.path;
    EXPECT_EQ(base_name(row.path), row.name) << row.path;
  }
}

}  // namespace
}  // namespace thorns
