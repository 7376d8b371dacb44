#include "output/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "base/disk_resume.h"
#include "base/text.h"
#include "checkpoint/self_described.h"
#include "output/config_files.h"
#include "output/journal.h"
#include "output/manifest.h"
#include "output/model_card.h"
#include "output/output_file.h"
#include "output/prompt_formats.h"
#include "output/safetensors_header.h"
#include "output/staging.h"
#include "output/tokenizer_files.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kCardFile = "README.md";
// File systems store whole blocks of about this size.
constexpr std::uint64_t kBlock = 4096;

// The small files, known before the first tensor is.
struct SmallFile {
  std::string name;
  std::string text;
};

// A tokenizer without a chat template gets that of the recipe's prompt format.
std::optional<std::string> new_chat_template(Disk& disk, const Plan& plan) {
  if (!plan.has_tokenizer || plan.tokenizer_leaf >= plan.leaves.size()) return std::nullopt;
  auto text = chat_template(plan.recipe.settings.prompt);
  if (!text || has_chat_template(disk, *plan.leaves[plan.tokenizer_leaf])) return std::nullopt;
  return text;
}

std::vector<SmallFile> small_files(Disk& disk, const Plan& plan, const std::string& name,
                                   const CardOptions& card) {
  std::vector<SmallFile> files;
  if (const auto config = config_text(plan)) files.push_back({kConfigFile, *config});
  if (auto text = generation_config_text(plan)) {
    files.push_back({"generation_config.json", std::move(*text)});
  }
  if (plan.has_tokenizer && plan.tokenizer_leaf < plan.leaves.size()) {
    if (const auto* leaf = self_described(*plan.leaves[plan.tokenizer_leaf])) {
      for (MadeFile& file : leaf->made_tokenizer())
        files.push_back({std::move(file.name), std::move(file.text)});
    }
  }
  if (auto text = new_chat_template(disk, plan)) files.push_back({kChatTemplateFile, *text});
  files.push_back({kCardFile, model_card(disk, plan, name, card)});
  return files;
}

std::uint64_t index_size(const Plan& plan) {
  std::uint64_t size = 0;
  write_index(plan, [&](std::string_view text) { size += text.size(); });
  return size;
}

// Sizes of all files; exact but for the manifest, whose numbers are not known yet.
std::uint64_t folder_size(const Plan& plan, const std::vector<SmallFile>& small,
                          const std::vector<TokenizerFile>& tokenizer) {
  std::vector<WrittenFile> files;
  const auto add = [&](const std::string& name, std::uint64_t size) {
    files.push_back({name, size, std::string(64, '0')});
  };
  for (const Shard& shard : plan.shards) {
    add(shard.file, shard_header(plan, shard).size() + shard.data_bytes);
  }
  if (plan.shards.size() > 1) add(kIndexFile, index_size(plan));
  for (const SmallFile& file : small) add(file.name, file.text.size());
  for (const TokenizerFile& file : tokenizer) add(file.name, file.size);
  add(kManifestFile, manifest_bound(plan, files));
  std::uint64_t total = kBlock;  // of the folder itself
  for (const WrittenFile& file : files) total += (file.size + kBlock - 1) / kBlock * kBlock;
  return total;
}

// A link is followed: what it points to is replaced, on its own disk.
OutputPath followed_path(Disk& disk, const std::string& folder) {
  OutputPath path = output_path(folder);
  if (!disk.exists(path.target)) return path;
  const std::string real = disk.canonical(path.target);
  return real == join_path(disk.canonical(path.parent), path.name) ? path : output_path(real);
}

// The output must not take the place of what it is made from.
void refuse_inputs(Disk& disk, const Plan& plan, const OutputPath& path) {
  if (!disk.exists(path.target)) return;
  const std::string target = disk.canonical(path.target);
  const auto check = [&](const std::string& name, const std::string& input) {
    const std::string real = disk.canonical(input);
    if (real != target && !real.starts_with(target + "/")) return;
    throw Error(
        ErrorCode::Exists,
        fmt::format("the output folder `{}` holds `{}`, which the merge reads", path.target, name),
        FilePlace{path.target}, "choose another output folder");
  };
  for (const RecipeLeaf& leaf : plan.recipe.leaves) check(leaf.name, leaf.path);
  for (const RecipeAdapter& adapter : plan.recipe.adapters) check(adapter.name, adapter.path);
}

void require_space(const OutputPath& path, std::uint64_t needed, std::uint64_t available) {
  if (needed <= available) return;
  throw Error(ErrorCode::NoSpace,
              fmt::format("the output needs {}, but only {} are free in `{}`", human_bytes(needed),
                          human_bytes(available), path.parent),
              FilePlace{path.parent},
              fmt::format("free {} there, or choose an output folder on another disk",
                          human_bytes(needed - available)));
}

// What the files in `folder` occupy, as deep as a writer makes folders.
std::uint64_t folder_bytes(Disk& disk, const std::string& folder, int depth = 8) {
  ResumableDisk* const device = resumable(disk);
  std::uint64_t bytes = 0;
  if (device == nullptr) return bytes;
  for (const std::string& name : disk.list(folder)) {
    const std::string path = join_path(folder, name);
    const auto kind = device->kind(path);
    if (kind == ResumableDisk::Kind::File) bytes += device->occupied(path);
    if (kind == ResumableDisk::Kind::Folder && depth > 0) {
      bytes += folder_bytes(disk, path, depth - 1);
    }
  }
  return bytes;
}

class FolderWriter : public CheckpointWriter {
 public:
  FolderWriter(Disk& disk, const Plan& plan, const OutputOptions& options)
      : disk_(disk),
        plan_(plan),
        force_(options.force),
        on_kept_(options.on_kept),
        staging_(disk, followed_path(disk, options.folder)) {
    staging_.recover();
    refuse_taken(disk_, staging_.path(), force_);
    check_layout();
    small_ = small_files(disk_, plan_, staging_.path().name, options.card);
    tokenizer_ = tokenizer_files(disk_, plan_);
    identity_ = journal_identity(disk_, plan_, options.allow_nonfinite);
    std::optional<JournalReader> before = leftover();
    const std::uint64_t there = staging_.has_leftover() ? folder_bytes(disk_, folder()) : 0;
    require_space(staging_.path(), folder_size(plan_, small_, tokenizer_),
                  disk_.free_space(staging_.path().parent) + there);
    manifest_file_.emplace(disk_, folder(), kManifestFile, 0, bytes_);
    manifest_.emplace(plan_, [this](std::string_view text) { manifest_file_->append(text); });
    manifest_->begin();
    if (before) take_up(*before);
    before.reset();
    open_journal();
    reserve_shards();
    open_shards();
  }

  void write(std::size_t program, std::span<const std::byte> bytes) override {
    expect(program);
    if (bytes.size() > plan_.programs[program].bytes() - program_bytes_) {
      throw Error(ErrorCode::Internal, "more bytes were written than the tensor has",
                  TensorPlace{plan_.programs[program].tensor});
    }
    shard_file_->append(bytes);
    program_bytes_ += bytes.size();
  }

  void finished(std::size_t program, const TensorFacts& facts) override {
    expect(program);
    if (program_bytes_ != plan_.programs[program].bytes()) {
      throw Error(ErrorCode::Internal,
                  fmt::format("{} bytes were written of a tensor of {}", program_bytes_,
                              plan_.programs[program].bytes()),
                  TensorPlace{plan_.programs[program].tensor});
    }
    manifest_->tensor(program, facts);
    // What the journal tells of is out of our hands.
    shard_file_->flush();
    journal_->append(journal_line(facts, shard_file_->sha256_so_far()));
    journal_->flush();
    program_bytes_ = 0;
    ++next_;
    open_shards();
  }

  std::size_t kept() const override { return kept_; }
  const std::string& why_anew() const override { return why_anew_; }
  void keep() override { staging_.keep(next_ > 0); }

  std::vector<WrittenFile> publish() override {
    if (next_ != plan_.programs.size() || shard_file_) {
      throw Error(ErrorCode::Internal,
                  fmt::format("the folder was to be published after {} of {} tensors", next_,
                              plan_.programs.size()));
    }
    if (plan_.shards.size() > 1) {
      OutputFile index(disk_, folder(), kIndexFile, 0, bytes_);
      write_index(plan_, [&](std::string_view text) { index.append(text); });
      written_.push_back(index.finish());
    }
    for (const SmallFile& file : small_) {
      OutputFile to(disk_, folder(), file.name, file.text.size(), bytes_);
      to.append(file.text);
      written_.push_back(to.finish());
    }
    copy_tokenizer();
    manifest_->end(written_);
    written_.push_back(manifest_file_->finish());
    staging_.publish(force_);
    return written_;
  }

  std::uint64_t bytes_written() const override { return bytes_; }

 private:
  const std::string& folder() { return staging_.model_folder(); }

  // Shards must tile the programs, or files would not hold what their headers say.
  void check_layout() const {
    std::size_t next = 0;
    for (const Shard& shard : plan_.shards) {
      std::uint64_t bytes = 0;
      const bool follows =
          shard.first == next && shard.count <= plan_.programs.size() - shard.first;
      for (std::size_t i = 0; follows && i < shard.count; ++i) {
        bytes += plan_.programs[shard.first + i].bytes();
      }
      if (!follows || bytes != shard.data_bytes) {
        throw Error(ErrorCode::Internal,
                    fmt::format("the layout of `{}` does not fit its tensors", shard.file));
      }
      next += shard.count;
    }
    if (next != plan_.programs.size()) {
      throw Error(ErrorCode::Internal, "the layout leaves tensors without a file");
    }
  }

  void expect(std::size_t program) const {
    if (program == next_ && program < plan_.programs.size()) return;
    throw Error(ErrorCode::Internal,
                fmt::format("tensor {} was written where {} was next", program, next_));
  }

  std::uint64_t file_size(const Shard& shard) const {
    return shard_header(plan_, shard).size() + shard.data_bytes;
  }

  // Takes the space of all shards to come, so that nobody else can have it.
  void reserve_shards() {
    if (resumable(disk_) == nullptr) return;
    for (std::size_t i = shard_ + (shard_file_ ? 1 : 0); i < plan_.shards.size(); ++i) {
      const Shard& shard = plan_.shards[i];
      disk_.create(join_path(folder(), shard.file), file_size(shard));
    }
  }

  // Closes shards that are full and opens the one that the next program belongs to.
  void open_shards() {
    for (;;) {
      if (shard_file_ && next_ == plan_.shards[shard_].first + plan_.shards[shard_].count) {
        finish_shard();
      }
      if (shard_file_ || shard_ == plan_.shards.size()) return;
      const Shard& shard = plan_.shards[shard_];
      if (resumable(disk_) != nullptr) {
        reopen_shard(shard, Sha256(), 0);
      } else {
        shard_file_.emplace(disk_, folder(), shard.file, file_size(shard), bytes_);
      }
      shard_file_->append(shard_header(plan_, shard));
    }
  }

  void reopen_shard(const Shard& shard, Sha256 hash, std::uint64_t size) {
    shard_file_.emplace(
        resumable(disk_)->reopen(join_path(folder(), shard.file), size, file_size(shard)),
        shard.file, std::move(hash), size, bytes_);
  }

  // The journal of an interrupted run of this very merge. What is left of another one is removed.
  std::optional<JournalReader> leftover() {
    if (!staging_.has_leftover()) return std::nullopt;
    std::optional<JournalReader> journal;
    try {
      journal.emplace(disk_.open(staging_.journal()), plan_);
    } catch (const Error& error) {  // no file
      if (error.code() == ErrorCode::Io) throw;
    }
    why_anew_ = identity_difference(journal ? journal->identity() : "", identity_);
    if (!why_anew_.empty()) {
      staging_.discard();
      return std::nullopt;
    }
    remove_all_but_shards();
    return journal;
  }

  // Small files and folders are made at the end of every run. A link or a pipe that is called like
  // a shard is none.
  void remove_all_but_shards() {
    for (const std::string& name : disk_.list(folder())) {
      const std::string path = join_path(folder(), name);
      const bool shard = std::any_of(plan_.shards.begin(), plan_.shards.end(),
                                     [&](const Shard& one) { return one.file == name; });
      if (!shard || resumable(disk_)->kind(path) != ResumableDisk::Kind::File) {
        disk_.remove_all(path);
      }
    }
  }

  // Reads what is there and counts the tensors that are as the journal says as written.
  void take_up(JournalReader& before) {
    while (shard_ < plan_.shards.size()) {
      const Shard& shard = plan_.shards[shard_];
      const std::size_t first = next_;
      Sha256 hash;
      const std::uint64_t size = take_up_shard(shard, before, hash);
      if (next_ > first) reopen_shard(shard, std::move(hash), size);
      if (next_ < shard.first + shard.count) return;
      if (!shard_file_) return;  // an empty shard is soon written again
      finish_shard();
    }
  }

  // Counts the tensors at the start of the shard that have the hashes of the journal. The size of
  // the file up to the end of the last, and its hash.
  std::uint64_t take_up_shard(const Shard& shard, JournalReader& before, Sha256& hash) {
    const std::string path = join_path(folder(), shard.file);
    const std::uint64_t header = shard_header(plan_, shard).size();
    if (!disk_.exists(path)) return 0;
    const auto file = disk_.open(path);
    if (file->size() < header) return 0;
    hash_range(*file, 0, header, hash);
    std::uint64_t at = header;
    while (next_ < shard.first + shard.count) {
      const std::uint64_t bytes = plan_.programs[next_].bytes();
      const auto entry = before.next();
      if (!entry || file->size() - at < bytes) break;
      hash_range(*file, at, bytes, hash);
      if (hash.hex_so_far() != entry->sha256) {
        // The hash has gone past the last good tensor.
        hash = Sha256();
        hash_range(*file, 0, at, hash);
        break;
      }
      at += bytes;
      manifest_->tensor(next_, entry->facts);
      if (on_kept_) on_kept_(next_, entry->facts);
      journal_end_ = entry->end;
      kept_ = ++next_;
    }
    return at;
  }

  static void hash_range(const ReadFile& file, std::uint64_t from, std::uint64_t bytes,
                         Sha256& hash) {
    constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
    std::vector<std::byte> piece(static_cast<std::size_t>(std::min(bytes, kPiece)));
    for (std::uint64_t done = 0; done < bytes; done += piece.size()) {
      piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), bytes - done)));
      file.read(from + done, piece);
      hash.update(piece);
    }
  }

  void open_journal() {
    const std::string path = staging_.journal();
    if (next_ > 0) {
      journal_.emplace(resumable(disk_)->reopen(path, journal_end_, 0), kJournalFile, Sha256(),
                       journal_end_, journal_bytes_);
      return;
    }
    folder();
    journal_.emplace(disk_, staging_.path().staging, kJournalFile, 0, journal_bytes_);
    journal_->append(identity_ + '\n');
    journal_->flush();
  }

  void finish_shard() {
    written_.push_back(shard_file_->finish());
    shard_file_.reset();
    ++shard_;
  }

  void copy_tokenizer() {
    std::vector<std::string> folders = folders_of(tokenizer_);
    for (const std::string& name : folders) disk_.make_folder(join_path(folder(), name));
    for (const TokenizerFile& file : tokenizer_) {
      OutputFile to(disk_, folder(), file.name, file.size, bytes_);
      copy_content(disk_, file, to);
      written_.push_back(to.finish());
    }
    for (const std::string& name : folders) disk_.sync_folder(join_path(folder(), name));
  }

  Disk& disk_;
  const Plan& plan_;
  bool force_;
  std::function<void(std::size_t, const TensorFacts&)> on_kept_;
  std::atomic<std::uint64_t> bytes_ = 0;
  Staging staging_;  // before the files in it: they are closed before it is removed
  std::vector<SmallFile> small_;
  std::vector<TokenizerFile> tokenizer_;
  std::optional<OutputFile> manifest_file_;
  std::optional<ManifestWriter> manifest_;
  std::optional<OutputFile> shard_file_;
  std::optional<OutputFile> journal_;
  std::atomic<std::uint64_t> journal_bytes_ = 0;
  std::string identity_;
  std::string why_anew_;
  std::size_t kept_ = 0;           // tensors that an interrupted run has written
  std::uint64_t journal_end_ = 0;  // of their lines
  std::vector<WrittenFile> written_;
  std::size_t shard_ = 0;            // being written
  std::size_t next_ = 0;             // program
  std::uint64_t program_bytes_ = 0;  // of it that have come
};

}  // namespace

std::unique_ptr<CheckpointWriter> CheckpointWriter::create(Disk& disk, const Plan& plan,
                                                           const OutputOptions& options) {
  const OutputPath path = followed_path(disk, options.folder);
  // What a killed replacement left is put right first, and that takes the lock.
  refuse_inputs(disk, plan, path);
  if (!disk.exists(path.aside)) refuse_taken(disk, path, options.force);
  return std::make_unique<FolderWriter>(disk, plan, options);
}

void check_output(Disk& disk, const Plan& plan, const OutputOptions& options) {
  const OutputPath path = followed_path(disk, options.folder);
  refuse_inputs(disk, plan, path);
  refuse_taken(disk, path, options.force);
  const std::uint64_t needed = output_size(disk, plan, options.card);
  if (disk.exists(path.staging)) {
    // Throws where a run holds it; what a killed run left will be freed.
    refuse_busy(disk, path);
    require_space(path, needed, disk.free_space(path.parent) + folder_bytes(disk, path.staging));
  } else {
    disk.require_writable(path.parent);
    require_space(path, needed, disk.free_space(path.parent));
  }
}

std::uint64_t output_size(Disk& disk, const Plan& plan, const CardOptions& card) {
  return folder_size(plan, small_files(disk, plan, "model", card), tokenizer_files(disk, plan));
}

}  // namespace thorns
