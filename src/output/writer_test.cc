#include "output/writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>

#include "base/hash.h"
#include "base/text.h"
#include "output/safetensors_header.h"
#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/output_plan.h"
#include "support/temp_folder_out.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using Names = std::vector<std::string>;
using test::FaultyDisk;
using test::names_in;
using test::OutFolder;

// The plan of a whole folder: config, generation config, tokenizer with a subfolder.
Plan full_plan(const OutFolder& inputs, std::size_t shards) {
  Plan plan = test::small_plan(inputs.path(), shards);
  auto& leaf = static_cast<test::FakeCheckpoint&>(*plan.leaves.front());
  leaf.generation_ = "{\"eos_token_id\": [1, 2] }\n";
  leaf.tokenizer_ = {"templates/tool.jinja", "tokenizer.json"};
  plan.has_tokenizer = true;
  test::spill(inputs / "rose/templates/tool.jinja", "{{ tool }}");
  test::spill(inputs / "rose/tokenizer.json", std::string(3'000'000, 'x'));
  return plan;
}

std::vector<WrittenFile> run(Disk& disk, const Plan& plan, const OutputOptions& options) {
  const auto writer = CheckpointWriter::create(disk, plan, options);
  for (std::size_t i = writer->kept(); i < plan.programs.size(); ++i) {
    test::feed_one(*writer, plan, i);
  }
  return writer->publish();
}

std::string sha256(const std::string& bytes) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(bytes)));
  return hash.hex();
}

std::string expected_shard(const Plan& plan, const Shard& shard) {
  std::string bytes = shard_header(plan, shard);
  for (std::size_t i = shard.first; i < shard.first + shard.count; ++i) {
    for (const std::byte byte : test::fake_bytes(i, plan.programs[i].bytes())) {
      bytes += static_cast<char>(byte);
    }
  }
  return bytes;
}

// What a finished folder says of itself is so.
void expect_finished(const Plan& plan, const std::string& folder) {
  for (const Shard& shard : plan.shards) {
    EXPECT_EQ(test::slurp(folder + "/" + shard.file), expected_shard(plan, shard));
  }
  const Json manifest = Json::parse(test::slurp(folder + "/thorns.json"));
  std::size_t files = 1;  // the manifest
  for (const auto& file : manifest["files"]) {
    const std::string content = test::slurp(folder + "/" + file["name"].get<std::string>());
    EXPECT_EQ(file["size"], content.size()) << file;
    EXPECT_EQ(file["sha256"], sha256(content)) << file;
    ++files;
  }
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    found += entry.is_regular_file() ? 1U : 0U;
  }
  EXPECT_EQ(found, files);
}

TEST(CheckpointWriter, OneShard) {
  const OutFolder inputs;
  const OutFolder folder;
  const Plan plan = full_plan(inputs, 1);
  const std::vector<WrittenFile> files = run(real_disk(), plan, {folder / "out", false});
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  EXPECT_EQ(names_in(folder / "out"),
            (Names{"README.md", "config.json", "generation_config.json", "model.safetensors",
                   "templates", "thorns.json", "tokenizer.json"}));
  expect_finished(plan, folder / "out");
  EXPECT_EQ(test::slurp(folder / "out/generation_config.json"), "{\"eos_token_id\": [1, 2] }\n");
  EXPECT_EQ(test::slurp(folder / "out/templates/tool.jinja"), "{{ tool }}");
  EXPECT_EQ(test::slurp(folder / "out/tokenizer.json").size(), 3'000'000U);
  EXPECT_EQ(test::slurp(folder / "out/README.md").rfind("---\n", 0), 0U);
  ASSERT_EQ(files.size(), 7U);
  EXPECT_EQ(files.front().name, "model.safetensors");
  EXPECT_EQ(files.back().name, "thorns.json");
  EXPECT_EQ(files.back().sha256, sha256(test::slurp(folder / "out/thorns.json")));
}

// Bytes that the Python package safetensors 0.8.0 wrote for attn.0 = 0..5 (float32, 1 x 2 x 3) and
// x = 1, 1 (bfloat16).
TEST(CheckpointWriter, WritesTheReferenceWritersFile) {
  const OutFolder folder;
  Plan plan;
  plan.programs = {
      test::program(ProgramKind::Copy, test::info("attn.0", Dtype::F32, {1, 2, 3}), {"A"}),
      test::program(ProgramKind::Copy, test::info("x", Dtype::BF16, {2}), {"A"})};
  plan.shards = {{"model.safetensors", 0, 2, 28}};
  const std::vector<float> attn = {0, 1, 2, 3, 4, 5};
  const std::vector<std::uint16_t> ones = {0x3f80, 0x3f80};
  const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", false});
  writer->write(0, std::as_bytes(std::span(attn)));
  writer->finished(0, {});
  writer->write(1, std::as_bytes(std::span(ones)));
  writer->finished(1, {});
  writer->publish();
  std::string expected("\x98\0\0\0\0\0\0\0", 8);
  expected += R"({"__metadata__":{"format":"pt"},"attn.0":{"dtype":"F32","shape":[1,2,3],)"
              R"("data_offsets":[0,24]},"x":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]}} )";
  expected += std::string("\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40", 24);
  expected += "\x80\x3f\x80\x3f";
  EXPECT_EQ(test::slurp(folder / "out/model.safetensors"), expected);
}

TEST(CheckpointWriter, TwoShards) {
  const OutFolder inputs;
  const OutFolder folder;
  const Plan plan = full_plan(inputs, 2);
  const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", false});
  test::feed(*writer, plan);
  writer->publish();
  expect_finished(plan, folder / "out");
  const Json index = Json::parse(test::slurp(folder / "out/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 40);
  EXPECT_EQ(index["weight_map"]["ids"], "model-00001-of-00002.safetensors");
  std::uint64_t total = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "out")) {
    if (entry.is_regular_file()) total += entry.file_size();
  }
  EXPECT_EQ(writer->bytes_written(), total);
  EXPECT_GE(output_size(real_disk(), plan), total);
  EXPECT_LE(output_size(real_disk(), plan), total + 11 * 4096);
}

TEST(CheckpointWriter, EmptyTensorsAndShards) {
  const OutFolder folder;
  Plan plan;
  plan.programs = {test::program(ProgramKind::Copy, test::info("e", Dtype::F32, {0, 3}), {"A"})};
  plan.shards = {{"model-00001-of-00002.safetensors", 0, 1, 0},
                 {"model-00002-of-00002.safetensors", 1, 0, 0}};
  const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", false});
  writer->finished(0, {});  // no byte, no write
  writer->publish();
  expect_finished(plan, folder / "out");
}

TEST(CheckpointWriter, ASingleWeightsFileHasNoConfig) {
  const OutFolder folder;
  Plan plan = test::small_plan(folder.path());
  static_cast<test::FakeCheckpoint&>(*plan.leaves.front()).config_ = nullptr;
  run(real_disk(), plan, {folder / "out", false});
  EXPECT_EQ(names_in(folder / "out"), (Names{"README.md", "model.safetensors", "thorns.json"}));
}

TEST(CheckpointWriter, SameBytesWhateverThePieces) {
  const OutFolder inputs;
  const OutFolder folder;
  const Plan plan = full_plan(inputs, 2);
  run(real_disk(), plan, {folder / "out", false});
  const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out2", false});
  for (std::size_t i = 0; i < plan.programs.size(); ++i) {
    for (const std::byte byte : test::fake_bytes(i, plan.programs[i].bytes())) {
      writer->write(i, {&byte, 1});
    }
    writer->finished(i, test::fake_facts(plan.programs[i]));
  }
  writer->publish();
  for (const Shard& shard : plan.shards) {
    EXPECT_EQ(test::slurp(folder / "out/" + shard.file),
              test::slurp(folder / "out2/" + shard.file));
  }
}

TEST(CheckpointWriter, RefusesAnExistingTargetBeforeItWritesAnything) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  test::spill(folder / "out/config.json", "old");
  for (const char* name : {"out", "out/", "out//"}) {
    expect_file_error(
        [&] {
          run(real_disk(), plan, {folder / name, false});
        },
        ErrorCode::Exists, "exists already", folder / "out", "--force");
    expect_file_error(
        [&] {
          check_output(real_disk(), plan, {folder / name, false});
        },
        ErrorCode::Exists, "exists already", folder / "out", "--force");
  }
  expect_file_error(
      [&] {
        check_output(real_disk(), plan, {"..", false});
      },
      ErrorCode::BadUsage, "names no folder", "", "name of its own");
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
}

TEST(CheckpointWriter, ForceReplacesAtTheEnd) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  test::spill(folder / "out/config.json", "old");
  test::spill(folder / "out/model-00009-of-00009.safetensors", "stale");
  {
    const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", true});
    test::feed(*writer, plan);
    EXPECT_EQ(test::slurp(folder / "out/config.json"), "old");
    writer->publish();
  }
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  expect_finished(plan, folder / "out");
}

TEST(CheckpointWriter, AnUnpublishedWriterLeavesNothing) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  test::spill(folder / "out/config.json", "old");
  {
    const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", true});
    test::feed(*writer, plan);
    expect_file_error(
        [&] {
          run(real_disk(), plan, {folder / "out", true});
        },
        ErrorCode::Exists, "another run of thorns", folder / "out", "wait");
    expect_file_error(
        [&] {
          check_output(real_disk(), plan, {folder / "out", true});
        },
        ErrorCode::Exists, "another run of thorns", folder / "out", "wait");
  }
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  EXPECT_EQ(test::slurp(folder / "out/config.json"), "old");
}

TEST(CheckpointWriter, AKilledRunLeavesOnlyTheStagingFolder) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path(), 2);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", false});
    test::feed(*writer, plan);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(names_in(folder.path()), Names{".out.thorns-partial"});
  EXPECT_FALSE(std::filesystem::exists(folder / ".out.thorns-partial/model/config.json"));
  check_output(real_disk(), plan, {folder / "out", false});  // touches nothing
  EXPECT_TRUE(std::filesystem::exists(folder / ".out.thorns-partial/model"));
  run(real_disk(), plan, {folder / "out", false});
  EXPECT_EQ(names_in(folder.path()), Names{"out"});
  expect_finished(plan, folder / "out");
}

// Writes the first `count` tensors and is interrupted.
void write_some(Disk& disk, const Plan& plan, const OutputOptions& options, std::size_t count) {
  const auto writer = CheckpointWriter::create(disk, plan, options);
  for (std::size_t i = writer->kept(); i < count; ++i) test::feed_one(*writer, plan, i);
  writer->keep();
}

// Goes on with what is there; how many tensors were kept.
std::size_t go_on(Disk& disk, const Plan& plan, const OutputOptions& options,
                  std::string* why = nullptr) {
  const auto writer = CheckpointWriter::create(disk, plan, options);
  if (why != nullptr) *why = writer->why_anew();
  const std::size_t kept = writer->kept();
  for (std::size_t i = kept; i < plan.programs.size(); ++i) test::feed_one(*writer, plan, i);
  writer->publish();
  return kept;
}

TEST(CheckpointWriter, GoesOnAfterEveryTensorAndEndsInTheSameBytes) {
  for (const std::size_t shards : {std::size_t{1}, std::size_t{2}}) {
    const OutFolder folder;
    const Plan plan = full_plan(folder, shards);
    std::filesystem::create_directory(folder / "undisturbed");
    run(real_disk(), plan, {folder / "undisturbed/out"});
    for (std::size_t count = 1; count <= plan.programs.size(); ++count) {
      SCOPED_TRACE(count);
      const OutputOptions options{folder / "out"};
      write_some(real_disk(), plan, options, count);
      EXPECT_FALSE(std::filesystem::exists(options.folder));
      check_output(real_disk(), plan, options);
      std::string why;
      EXPECT_EQ(go_on(real_disk(), plan, options, &why), count);
      EXPECT_EQ(why, "");
      EXPECT_FALSE(std::filesystem::exists(folder / ".out.thorns-partial"));
      expect_finished(plan, options.folder);
      EXPECT_EQ(test::slurp(options.folder + "/thorns.json"),
                test::slurp(folder / "undisturbed/out/thorns.json"));
      std::filesystem::remove_all(options.folder);
    }
  }
}

TEST(CheckpointWriter, GoesOnAfterSeveralInterruptions) {
  const OutFolder folder;
  const Plan plan = full_plan(folder, 2);
  const OutputOptions options{folder / "out"};
  for (std::size_t count = 1; count < 4; ++count) write_some(real_disk(), plan, options, count);
  EXPECT_EQ(go_on(real_disk(), plan, options), 3U);
  expect_finished(plan, options.folder);
}

// Whatever byte of a shard or the journal is lost or changed, the bytes come out right: what is not
// as it was written is made again.
TEST(CheckpointWriter, TrustsNothingThatIsThere) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path(), 2);
  const OutputOptions options{folder / "out"};
  const std::string staging = folder / ".out.thorns-partial";
  for (const std::string& name :
       {staging + "/model/" + plan.shards[0].file, staging + "/model/" + plan.shards[1].file,
        staging + "/journal"}) {
    for (const bool cut : {false, true}) {
      for (std::size_t at = 0;; at += 23) {
        write_some(real_disk(), plan, options, 4);
        std::string bytes = test::slurp(name);
        if (at >= bytes.size()) break;
        if (cut) {
          bytes.resize(at);
        } else {
          bytes[at] = static_cast<char>(bytes[at] ^ 1);
        }
        test::spill(name, bytes);
        SCOPED_TRACE(name + (cut ? " cut at " : " changed at ") + std::to_string(at));
        const std::size_t kept = go_on(real_disk(), plan, options);
        EXPECT_TRUE(kept < 4 || (!cut && name.ends_with("journal"))) << kept;
        for (const Shard& shard : plan.shards) {
          EXPECT_EQ(test::slurp(options.folder + "/" + shard.file), expected_shard(plan, shard));
        }
        std::filesystem::remove_all(options.folder);
      }
      std::filesystem::remove_all(staging);
    }
  }
}

// A link in the place of a shard would lead to somebody else's file, a pipe to nowhere.
TEST(CheckpointWriter, MakesShardsThatAreNoFilesAgain) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path(), 2);
  const OutputOptions options{folder / "out"};
  test::spill(folder / "precious", "mine");
  for (const Shard& shard : plan.shards) {
    const std::string place = folder / ".out.thorns-partial/model/" + shard.file;
    const auto check = [&](const std::string& with, const std::function<void()>& replace) {
      SCOPED_TRACE(shard.file + " is " + with);
      write_some(real_disk(), plan, options, 4);
      std::filesystem::remove(place);
      replace();
      check_output(real_disk(), plan, options);
      EXPECT_EQ(go_on(real_disk(), plan, options), shard.first);
      expect_finished(plan, options.folder);
      std::filesystem::remove_all(options.folder);
    };
    check("a link", [&] { std::filesystem::create_symlink(folder / "precious", place); });
    check("a link to nowhere", [&] { std::filesystem::create_symlink(folder / "new", place); });
    check("a pipe", [&] { EXPECT_EQ(mkfifo(place.c_str(), 0600), 0); });
    check("a folder", [&] { std::filesystem::create_directory(place); });
  }
  EXPECT_EQ(test::slurp(folder / "precious"), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
}

TEST(CheckpointWriter, StartsAnewAndSaysWhyWhereTheMergeIsAnother) {
  struct Case {
    const char* why;
    std::function<void(Plan&, OutputOptions&, const OutFolder&)> change;
  };
  for (const Case& c : std::vector<Case>{
           {"the recipe is another",
            [](Plan&plan, OutputOptions&, const OutFolder&) { plan.recipe.key = "{A+B}"; }},
           {"`dtype` is set otherwise",
            [](Plan&plan, OutputOptions&, const OutFolder&) {
              plan.recipe.settings.dtype = Dtype::F16;
            }},
           {"`allow_nonfinite` is set otherwise",
            [](Plan&, OutputOptions&options, const OutFolder&) { options.allow_nonfinite = true; }},
           {"rose/model.safetensors` has changed since",
            [](Plan&plan, OutputOptions&, const OutFolder&) {
              auto& leaf = static_cast<test::FakeCheckpoint&>(*plan.leaves.front());
              leaf.files_.front().size = 1235;
            }},
           {"rose/config.json` has changed since",
            [](Plan&, OutputOptions&, const OutFolder&folder) {
              std::filesystem::last_write_time(
                  folder / "rose/config.json",
                  std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
            }},
           {"laid out or made otherwise",
            [](Plan&plan, OutputOptions&, const OutFolder&) {
              plan.programs[3].operands[0].base.transposed = true;
            }},
           {"its journal cannot be read",
            [](Plan&, OutputOptions&, const OutFolder&folder) {
              test::spill(folder / ".out.thorns-partial/journal", "{}\n");
            }},
       }) {
    SCOPED_TRACE(c.why);
    const OutFolder folder;
    Plan plan = test::small_plan(folder.path());
    test::spill(folder / "rose/config.json", "{}");
    OutputOptions options{folder / "out"};
    write_some(real_disk(), plan, options, 3);
    c.change(plan, options, folder);
    std::string why;
    EXPECT_EQ(go_on(real_disk(), plan, options, &why), 0U);
    EXPECT_NE(why.find(c.why), std::string::npos) << why;
    expect_finished(plan, options.folder);
  }
}

TEST(CheckpointWriter, AnyOneCallFailsWhileItGoesOn) {
  for (const auto mode : {FaultyDisk::Mode::Once, FaultyDisk::Mode::FromThenOn}) {
    for (std::size_t n = 1;; ++n) {
      const OutFolder folder;
      const Plan plan = full_plan(folder, 2);
      const OutputOptions options{folder / "out"};
      write_some(real_disk(), plan, options, 2);
      FaultyDisk disk(n, mode);
      try {
        go_on(disk, plan, options);
      } catch (const Error&) {
        EXPECT_TRUE(disk.has_failed());
      }
      if (!disk.has_failed()) break;
      SCOPED_TRACE("call " + std::to_string(n) + ": " + disk.failed_call());
      const bool finished = std::filesystem::exists(options.folder);
      if (finished) expect_finished(plan, options.folder);
      if (!finished) go_on(real_disk(), plan, options);
      expect_finished(plan, options.folder);
    }
  }
}

TEST(CheckpointWriter, HoldsTheEngineToTheOrder) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  const auto writer = CheckpointWriter::create(real_disk(), plan, {folder / "out", false});
  const std::vector<std::byte> nine(9);
  expect_file_error([&] { writer->write(1, nine); }, ErrorCode::Internal, "tensor 1", "", "");
  expect_file_error([&] { writer->write(0, nine); }, ErrorCode::Internal, "more bytes", "", "");
  expect_file_error([&] { writer->finished(0, {}); }, ErrorCode::Internal, "0 bytes were written",
                    "", "");
  expect_file_error([&] { writer->publish(); }, ErrorCode::Internal, "after 0 of 4 tensors", "",
                    "");
}

TEST(CheckpointWriter, RefusesALayoutThatDoesNotFit) {
  const OutFolder folder;
  for (const std::vector<Shard>& shards :
       std::vector<std::vector<Shard>>{{},
                                       {{"a", 0, 4, 39}},
                                       {{"a", 0, 3, 28}},
                                       {{"a", 0, 5, 40}},
                                       {{"a", 1, 3, 32}},
                                       {{"a", 0, 3, 28}, {"b", 2, 2, 24}}}) {
    Plan plan = test::small_plan(folder.path());
    plan.shards = shards;
    expect_file_error(
        [&] {
          run(real_disk(), plan, {folder / "out", false});
        },
        ErrorCode::Internal, "layout", "", "");
    EXPECT_EQ(names_in(folder.path()), Names{});
  }
}

TEST(CheckpointWriter, FullDisk) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  FaultyDisk disk(0);
  const std::uint64_t needed = output_size(disk, plan);
  disk.set_free_space(needed);
  check_output(disk, plan, {folder / "out", false});
  disk.set_free_space(needed - 1);
  const std::string message = "the output needs " + human_bytes(needed) + ", but only " +
                              human_bytes(needed - 1) + " are free in `" + folder.path() + "`";
  expect_file_error(
      [&] {
        check_output(disk, plan, {folder / "out", false});
      },
      ErrorCode::NoSpace, message, folder.path(), "another disk");
  expect_file_error(
      [&] {
        run(disk, plan, {folder / "out", false});
      },
      ErrorCode::NoSpace, message, folder.path(), "free 1 B there");
  EXPECT_EQ(names_in(folder.path()), Names{});
  // Space that an abandoned run takes will be free.
  test::spill(folder / ".out.thorns-partial/model/model.safetensors", "x");
  check_output(disk, plan, {folder / "out", false});
}

TEST(CheckpointWriter, ReadOnlyParent) {
  const OutFolder folder;
  const Plan plan = test::small_plan(folder.path());
  for (const bool check : {true, false}) {
    for (std::size_t n = 1;; ++n) {
      FaultyDisk disk(n);
      try {
        check ? check_output(disk, plan, {folder / "out", false})
              : void(CheckpointWriter::create(disk, plan, {folder / "out", false}));
        if (!disk.has_failed()) FAIL() << "no folder is made";
      } catch (const Error& error) {
        if (!disk.failed_call().starts_with(check ? "require_writable" : "make_folder")) continue;
        EXPECT_EQ(error.code(), ErrorCode::Io);
        EXPECT_EQ(std::get<FilePlace>(error.where()).path,
                  check ? folder.path() : folder / ".out.thorns-partial");
        break;
      }
    }
    EXPECT_EQ(names_in(folder.path()), Names{});
  }
}

// OldApart: on a disk that cannot exchange it with the new one.
enum class Before { Nothing, Old, OldApart, Abandoned };

// Makes every single call to the disk fail in turn.
void fail_everywhere(Before before, FaultyDisk::Mode mode) {
  const OutFolder inputs;
  const Plan plan = full_plan(inputs, 2);
  const bool force = before == Before::Old || before == Before::OldApart;
  for (std::size_t n = 1;; ++n) {
    ASSERT_LT(n, 1000U);
    const OutFolder folder;
    const OutputOptions options{folder / "out", force};
    const std::string aside = folder / ".out.thorns-old";
    const std::string staging = folder / ".out.thorns-partial";
    if (force) test::spill(options.folder + "/config.json", "old");
    if (before == Before::Abandoned) test::spill(staging + "/model/x", "half");

    FaultyDisk disk(n, mode, n % 2 == 0 ? ErrorCode::Io : ErrorCode::NoSpace);
    if (before == Before::OldApart) disk.cannot_exchange();
    bool threw = false;
    try {
      run(disk, plan, options);
    } catch (const Error&) {
      threw = true;
    }
    if (!disk.has_failed()) {
      EXPECT_FALSE(threw);
      break;
    }
    SCOPED_TRACE("call " + std::to_string(n) + ": " + disk.failed_call());
    const bool finished = std::filesystem::exists(options.folder + "/thorns.json");
    if (finished) {
      expect_finished(plan, options.folder);
    } else if (force) {
      // Only a disk that is dead for good, and exchanges nothing, keeps the old folder from its
      // place.
      const bool in_place = std::filesystem::exists(options.folder);
      EXPECT_TRUE(in_place || (mode == FaultyDisk::Mode::FromThenOn && before == Before::OldApart));
      EXPECT_EQ(test::slurp((in_place ? options.folder : aside) + "/config.json"), "old");
      EXPECT_TRUE(threw);
    } else {
      EXPECT_FALSE(std::filesystem::exists(options.folder));
      EXPECT_TRUE(threw);
    }
    const bool dead = mode == FaultyDisk::Mode::FromThenOn;
    for (const std::string& name : names_in(folder.path())) {
      if (name == "out") continue;
      const bool removal_failed = disk.failed_call() == "remove_all " + folder.path() + "/" + name;
      const bool was_there = before == Before::Abandoned && !finished;
      EXPECT_TRUE(dead || removal_failed || was_there) << name;
      if (name == ".out.thorns-old" && finished) {
        EXPECT_TRUE(threw);
      }
    }
    // Whatever is left, the next run makes good.
    run(real_disk(), plan, {options.folder, finished || force});
    EXPECT_EQ(names_in(folder.path()), Names{"out"});
    expect_finished(plan, options.folder);
  }
}

TEST(CheckpointWriter, AnyOneCallFails) {
  for (const Before before : {Before::Nothing, Before::Old, Before::OldApart, Before::Abandoned}) {
    fail_everywhere(before, FaultyDisk::Mode::Once);
  }
}

TEST(CheckpointWriter, TheDiskDiesAtAnyCall) {
  for (const Before before : {Before::Nothing, Before::Old, Before::OldApart, Before::Abandoned}) {
    fail_everywhere(before, FaultyDisk::Mode::FromThenOn);
  }
}

}  // namespace
}  // namespace thorns
