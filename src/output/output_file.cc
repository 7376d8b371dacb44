#include "output/output_file.h"

#include <future>
#include <system_error>
#include <utility>

namespace thorns {
namespace {

// Pieces smaller than this are gathered; larger ones go straight to the disk.
constexpr std::size_t kGather = std::size_t{64} << 10;

}  // namespace

OutputFile::OutputFile(Disk& disk, const std::string& folder, std::string name,
                       std::uint64_t expected, std::atomic<std::uint64_t>& total)
    : file_(disk.create(join_path(folder, name), expected)),
      name_(std::move(name)),
      total_(total) {}

OutputFile::OutputFile(std::unique_ptr<WriteFile> file, std::string name, Sha256 hash,
                       std::uint64_t size, std::atomic<std::uint64_t>& total)
    : file_(std::move(file)),
      name_(std::move(name)),
      hash_(std::move(hash)),
      size_(size),
      total_(total) {}

void OutputFile::append(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  if (gathered_.size() + bytes.size() > kGather) flush();
  if (bytes.size() < kGather) {
    hash_.update(bytes);
    gathered_.insert(gathered_.end(), bytes.begin(), bytes.end());
    return;
  }
  // Hashing costs about as much as writing to the page cache, so the two go side by side. The
  // future waits for its thread even when the disk throws.
  std::future<void> hashing;
  try {
    hashing = std::async(std::launch::async, [&] { hash_.update(bytes); });
  } catch (const std::system_error&) {  // no thread is left
    hash_.update(bytes);
  }
  file_->append(bytes);
  total_ += bytes.size();
  if (hashing.valid()) hashing.get();
}

void OutputFile::flush() {
  if (gathered_.empty()) return;
  file_->append(gathered_);
  total_ += gathered_.size();
  gathered_.clear();
}

WrittenFile OutputFile::finish() {
  flush();
  file_->finish();
  return {name_, size_, hash_.hex()};
}

}  // namespace thorns
