#include "hub/cache.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "hub/environment.h"
#include "support/expect_error.h"
#include "support/memory_disk.h"
#include "support/temp_folder.h"

namespace thorns {
namespace {

const std::string kCommit(40, 'a');
const std::string kOther(40, 'b');

TEST(Repository, IsOwnerRepoAndRevision) {
  const auto read = [](const char* text) {
    const auto repository = parse_repository(text);
    return repository ? repository->id + " " + repository->revision : "";
  };
  EXPECT_EQ(read("owner/repo"), "owner/repo main");
  EXPECT_EQ(read("Owner_1/re.po-2@v1.0"), "Owner_1/re.po-2 v1.0");
  EXPECT_EQ(read("owner/repo@refs/pr/1"), "owner/repo refs/pr/1");
  EXPECT_EQ(read("models--owner--repo"), "owner/repo main");
  EXPECT_EQ(read("models--owner--repo@v1"), "owner/repo v1");
  for (const char* text : {"",
                           "repo",
                           "/repo",
                           "owner/",
                           "owner/repo@",
                           "a/b/c",
                           "../repo",
                           "owner/..",
                           "./repo",
                           "owner/.repo",
                           "owner/re--po",
                           "owner/repo.git",
                           "owner/repo@../x",
                           "owner/repo@/x",
                           "owner/repo@x/",
                           "owner/repo@a//b",
                           "owner/repo@.x",
                           "owner/repo@a/.b",
                           "owner/repo@a\nb",
                           "ow ner/repo",
                           "models--owner",
                           "models----repo",
                           "models--a--b--c",
                           "~/repo",
                           "datasets--a--b"}) {
    EXPECT_EQ(read(text), "") << text;
  }
  EXPECT_EQ(read(("a/" + std::string(100, 'b')).c_str()), "");
  EXPECT_EQ(snapshot_commit("/hub/models--o--r/snapshots/" + kCommit), kCommit);
  EXPECT_EQ(snapshot_commit("/hub/snapshots/" + kCommit + "/x"), "");
  EXPECT_EQ(snapshot_commit("/hub/snapshots/main"), "");
  EXPECT_EQ(snapshot_commit(kCommit), "");
  EXPECT_EQ(parse_repository("owner/repo@main")->text(), "owner/repo");
  EXPECT_EQ(parse_repository("models--owner--repo@v1")->text(), "owner/repo@v1");
  EXPECT_EQ(parse_repository("owner/repo")->folder(), "models--owner--repo");
}

TEST(HubEnvironment, NamesTheCachesFolder) {
  using Variables = std::map<std::string, std::string>;
  const auto folder = [](const Variables& variables) {
    return hub_cache_folder([&](const char* name) -> std::optional<std::string> {
      const auto found = variables.find(name);
      if (found == variables.end()) return std::nullopt;
      return found->second;
    });
  };
  Variables variables;
  EXPECT_EQ(folder(variables), "");
  variables["HOME"] = "/home/me";
  EXPECT_EQ(folder(variables), "/home/me/.cache/huggingface/hub");
  variables["XDG_CACHE_HOME"] = "/fast";
  EXPECT_EQ(folder(variables), "/fast/huggingface/hub");
  variables["HF_HOME"] = "~/hf";
  EXPECT_EQ(folder(variables), "/home/me/hf/hub");
  variables["HUGGINGFACE_HUB_CACHE"] = "$HF_HOME/old";
  EXPECT_EQ(folder(variables), "~/hf/old");
  variables["HF_HUB_CACHE"] = "${XDG_CACHE_HOME}/$UNKNOWN/${HOME/a$";
  EXPECT_EQ(folder(variables), "/fast/$UNKNOWN/${HOME/a$");
}

class HubCache : public ::testing::Test {
 protected:
  void add(const std::string& file, const std::string& content = {}) {
    disk_.add_file("hub/models--o--r/" + file, content);
  }
  void add_whole() {
    add("refs/main", kCommit);
    add("snapshots/" + kCommit + "/model.safetensors");
  }
  std::string folder(const char* text) {
    return snapshot_folder(disk_, "hub", *parse_repository(text));
  }
  void expect_missing(const char* text, const char* message, const char* hint) {
    expect_error(error_of([&] { folder(text); }), ErrorCode::NotFound, message, hint);
  }

  MemoryDisk disk_;
  const std::string snapshot_ = "hub/models--o--r/snapshots/" + kCommit;
};

TEST_F(HubCache, ARevisionIsABranchATagOrACommit) {
  add_whole();
  add("refs/v1", kCommit + "\n");
  add("refs/refs/pr/1", kCommit);
  EXPECT_EQ(folder("o/r"), snapshot_);
  EXPECT_EQ(folder("o/r@v1"), snapshot_);
  EXPECT_EQ(folder("o/r@refs/pr/1"), snapshot_);
  EXPECT_EQ(folder(("o/r@" + kCommit).c_str()), snapshot_);
}

TEST_F(HubCache, SaysWhatToFetch) {
  expect_missing("o/r", "`o/r` is no folder here, and not in the Hub cache", "`thorns fetch o/r`");
  add_whole();
  expect_missing("o/r@v2", "not its revision `v2`; it has main", "`thorns fetch o/r@v2`");
  expect_missing(("o/r@" + kOther).c_str(), "not its revision", "");
  expect_error(error_of([&] { snapshot_folder(disk_, "", *parse_repository("o/r")); }),
               ErrorCode::NotFound, "not in the Hub cache");
  add("refs/odd", "../../elsewhere");
  expect_error(error_of([&] { folder("o/r@odd"); }), ErrorCode::Corrupt, "does not name a commit");
}

TEST_F(HubCache, APartIsNotTheWhole) {
  add("refs/main", kCommit);
  add("blobs/0.incomplete");
  expect_missing("o/r", "not its revision `main`; it has main", "");
  add("snapshots/" + kCommit + "/config.json");
  expect_missing("o/r", "without weights; a download was interrupted",
                 "`thorns fetch o/r` brings what is missing");
  add("snapshots/" + kCommit + "/model.safetensors.index.json",
      R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
  add("snapshots/" + kCommit + "/1.safetensors");
  expect_missing("o/r", "without 2.safetensors", "");
  add("snapshots/" + kCommit + "/2.safetensors");
  EXPECT_EQ(folder("o/r"), snapshot_);
}

TEST(HubCacheOnDisk, ALinkToNowhereIsAMissingFile) {
  const test::TempFolder cache;
  const std::string home = cache.make_folder("models--o--r");
  const std::string snapshot = cache.make_folder("models--o--r/snapshots/" + kCommit);
  cache.make_folder("models--o--r/refs");
  cache.make_folder("models--o--r/blobs");
  Disk& disk = real_disk();
  write_text(disk, home + "/refs/main", kCommit);
  std::filesystem::create_symlink("../../blobs/1", snapshot + "/model.safetensors");
  const auto find = [&] { return snapshot_folder(disk, cache.path(), *parse_repository("o/r")); };
  expect_error(error_of(find), ErrorCode::NotFound, "without model.safetensors");
  write_text(disk, home + "/blobs/1", "x");
  EXPECT_EQ(find(), snapshot);
  EXPECT_EQ(located_in_cache(disk, cache.path(), "o/r"), snapshot);
  EXPECT_EQ(located_in_cache(disk, cache.path(), snapshot), snapshot);
  EXPECT_EQ(located_in_cache(disk, cache.path(), "./o/r"), "./o/r");
}

}  // namespace
}  // namespace thorns
