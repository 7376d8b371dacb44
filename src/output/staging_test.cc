#include "output/staging.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/temp_folder_out.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using test::names_in;

using Names = std::vector<std::string>;

TEST(OutputPath, IsNormalised) {
  struct Case {
    const char* given;
    const char* target;
    const char* parent;
    const char* staging;
  };
  for (const Case& c : std::vector<Case>{
           {"out", "out", ".", "./.out.thorns-partial"},
           {"out///", "out", ".", "./.out.thorns-partial"},
           {"a/b/", "a/b", "a", "a/.b.thorns-partial"},
           {"/b", "/b", "/", "/.b.thorns-partial"},
           {"../b", "../b", "..", "../.b.thorns-partial"},
           {"a/./b c", "a/./b c", "a/.", "a/./.b c.thorns-partial"},
       }) {
    const OutputPath path = output_path(c.given);
    EXPECT_EQ(path.target, c.target);
    EXPECT_EQ(path.parent, c.parent);
    EXPECT_EQ(path.staging, c.staging);
  }
}

TEST(OutputPath, RefusesWhatNamesNoFolder) {
  for (const char* given : {"", "/", "//", ".", "..", "a/..", "a/./", "../"}) {
    expect_file_error([&] { output_path(given); }, ErrorCode::BadUsage, "names no folder", "",
                      "a name of its own");
  }
}

// The run after next would take it for what an interrupted one left.
TEST(OutputPath, RefusesTheNamesOfWhatIsRemoved) {
  for (const char* given : {"a/.b.thorns-partial", ".b.thorns-old/"}) {
    expect_file_error([&] { output_path(given); }, ErrorCode::BadUsage, "removes by itself", "",
                      "a name of its own");
  }
}

TEST(Staging, RefusesATakenTarget) {
  const test::OutFolder folder;
  Disk& disk = real_disk();
  const OutputPath path = output_path(folder / "out");
  refuse_taken(disk, path, false);
  std::filesystem::create_directory(path.target);
  expect_file_error([&] { refuse_taken(disk, path, false); }, ErrorCode::Exists, "exists already",
                    path.target, "--force");
  refuse_taken(disk, path, true);  // empty
  test::spill(path.target + "/notes.txt", "mine");
  expect_file_error([&] { refuse_taken(disk, path, true); }, ErrorCode::Exists,
                    "is not a model folder", path.target, "move this one away");
  for (const char* name : {"thorns.json", "config.json", "x.safetensors"}) {
    test::spill(path.target + "/" + name, "");
    refuse_taken(disk, path, true);
    std::filesystem::remove(path.target + "/" + name);
  }
  std::filesystem::remove_all(path.target);
  test::spill(path.target, "a file");
  expect_file_error([&] { refuse_taken(disk, path, true); }, ErrorCode::Exists,
                    "is not a model folder", path.target, "");
}

TEST(Staging, RefusesAMissingParent) {
  const test::OutFolder folder;
  expect_file_error([&] { refuse_taken(real_disk(), output_path(folder / "no/out"), false); },
                    ErrorCode::NotFound, "does not exist", folder / "no", "make it first");
  test::spill(folder / "file", "");
  expect_file_error([&] { refuse_taken(real_disk(), output_path(folder / "file/out"), false); },
                    ErrorCode::NotFound, "is a file", folder / "file", "inside a folder");
}

TEST(Staging, VanishesUnlessPublished) {
  const test::OutFolder folder;
  {
    Staging staging(real_disk(), output_path(folder / "out"));
    test::spill(staging.model_folder() + "/file", "x");
    EXPECT_EQ(names_in(folder.path()), Names{".out.thorns-partial"});
  }
  EXPECT_EQ(names_in(folder.path()), Names{});
}

TEST(Staging, IsHeldByOneRunAtATime) {
  const test::OutFolder folder;
  const OutputPath path = output_path(folder / "out");
  Staging first(real_disk(), path);
  test::spill(first.model_folder() + "/file", "x");
  expect_file_error([&] { const Staging second(real_disk(), path); }, ErrorCode::Exists,
                    "another run of thorns", path.target, "wait until it is done");
  expect_file_error([&] { refuse_busy(real_disk(), path); }, ErrorCode::Exists,
                    "another run of thorns", path.target, "");
  EXPECT_EQ(test::slurp(first.model_folder() + "/file"), "x");
  const Staging other(real_disk(), output_path(folder / "other"));
}

TEST(Staging, TakesOverWhatAKilledRunLeft) {
  const test::OutFolder folder;
  const OutputPath path = output_path(folder / "out");
  test::spill(path.staging + "/lock", "");
  test::spill(path.staging + "/model/model.safetensors", "half");
  refuse_busy(real_disk(), path);
  Staging staging(real_disk(), path);
  EXPECT_EQ(names_in(path.staging), Names{"lock"});
  EXPECT_EQ(names_in(staging.model_folder()), Names{});
}

TEST(Staging, DoesNotFollowALinkInItsPlace) {
  const test::OutFolder folder;
  const OutputPath path = output_path(folder / "out");
  test::spill(folder / "precious/model/file", "x");
  const auto refused = [&](const std::string& what) {
    expect_file_error([&] { const Staging staging(real_disk(), path); }, ErrorCode::Exists,
                      "which thorns makes itself, is a link", what, "remove it");
    expect_file_error([&] { refuse_busy(real_disk(), path); }, ErrorCode::Exists, "is a link", what,
                      "");
  };
  std::filesystem::create_directory_symlink(folder / "precious", path.staging);
  refused(path.staging);
  EXPECT_EQ(test::slurp(folder / "precious/model/file"), "x");
  EXPECT_EQ(names_in(folder / "precious"), Names{"model"});
  std::filesystem::remove(path.staging);
  std::filesystem::create_symlink("nowhere", path.staging);
  refused(path.staging);
  std::filesystem::remove(path.staging);
  test::spill(path.staging, "a file");
  refused(path.staging);
  std::filesystem::remove(path.staging);
  std::filesystem::create_directory(path.staging);
  std::filesystem::create_symlink(folder / "made", path.staging + "/lock");
  refused(path.staging + "/lock");
  EXPECT_FALSE(std::filesystem::exists(folder / "made"));
}

TEST(Staging, AJournalOrAModelThatIsALinkIsNoLeftover) {
  const test::OutFolder folder;
  const OutputPath path = output_path(folder / "out");
  for (const char* link : {"journal", "model"}) {
    test::spill(path.staging + "/journal", "");
    test::spill(path.staging + "/model/file", "x");
    const std::string place = path.staging + "/" + link;
    std::filesystem::rename(place, folder / "elsewhere");
    std::filesystem::create_symlink("../elsewhere", place);
    EXPECT_FALSE(Staging(real_disk(), path).has_leftover()) << link;
    EXPECT_TRUE(std::filesystem::exists(folder / "elsewhere")) << link;
    std::filesystem::remove_all(folder / "elsewhere");
  }
}

TEST(Staging, PublishMovesTheFolder) {
  const test::OutFolder folder;
  Staging staging(real_disk(), output_path(folder / "out/"));
  test::spill(staging.model_folder() + "/file", "new");
  staging.publish(false);
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  EXPECT_EQ(names_in(folder / "out"), Names{"file"});
}

TEST(Staging, PublishRefusesATargetThatCameMeanwhile) {
  const test::OutFolder folder;
  const OutputPath path = output_path(folder / "out");
  {
    Staging staging(real_disk(), path);
    test::spill(staging.model_folder() + "/file", "new");
    test::spill(path.target + "/config.json", "theirs");
    expect_file_error([&] { staging.publish(false); }, ErrorCode::Exists, "exists already",
                      path.target, "--force");
  }
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  EXPECT_EQ(test::slurp(path.target + "/config.json"), "theirs");
}

TEST(Staging, ForceReplacesOnlyTheLinkWhereTheTargetIsOne) {
  const test::OutFolder folder;
  test::spill(folder / "elsewhere/config.json", "old");
  std::filesystem::create_directory_symlink(folder / "elsewhere", folder / "out");
  Staging staging(real_disk(), output_path(folder / "out"));
  test::spill(staging.model_folder() + "/config.json", "new");
  staging.publish(true);
  EXPECT_EQ(names_in(folder.path()), (Names{"elsewhere", "out"}));
  EXPECT_EQ(test::slurp(folder / "elsewhere/config.json"), "old");
  EXPECT_EQ(test::slurp(folder / "out/config.json"), "new");
}

TEST(Staging, RecoversAReplacementThatWasKilled) {
  const test::OutFolder folder;
  const OutputPath path = output_path(folder / "out");
  test::spill(path.aside + "/config.json", "old");
  expect_file_error([&] { refuse_taken(real_disk(), path, false); }, ErrorCode::Exists, path.aside,
                    path.target, "--force");
  refuse_taken(real_disk(), path, true);
  {
    Staging staging(real_disk(), path);
    staging.recover();
  }
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  EXPECT_EQ(test::slurp(path.target + "/config.json"), "old");

  test::spill(path.aside + "/config.json", "older");  // killed after the second rename
  {
    Staging staging(real_disk(), path);
    staging.recover();
  }
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  EXPECT_EQ(test::slurp(path.target + "/config.json"), "old");
}

// A disk that dies between the two renames of a replacement: the error says where the old one is.
TEST(Staging, SaysWhereTheOldFolderIsWhenNothingHelps) {
  bool seen = false;
  for (std::size_t n = 1; n < 40 && !seen; ++n) {
    const test::OutFolder folder;
    const OutputPath path = output_path(folder / "out");
    test::spill(path.target + "/config.json", "old");
    test::FaultyDisk disk(n, test::FaultyDisk::Mode::FromThenOn);
    disk.cannot_exchange();
    try {
      Staging staging(disk, path);
      staging.model_folder();
      staging.publish(true);
    } catch (const Error& error) {
      if (disk.failed_call() != "rename " + path.staging + "/model") continue;
      seen = true;
      EXPECT_EQ(error.code(), ErrorCode::Io);
      EXPECT_NE(error.message().find("could not be put back from `" + path.aside),
                std::string::npos)
          << error.message();
      EXPECT_NE(error.hint().find("rename it back"), std::string::npos);
      EXPECT_EQ(test::slurp(path.aside + "/config.json"), "old");
    }
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace thorns
