// thorns::verify: a finished folder read again and held against its manifest.
#include "thorns/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/disk.h"
#include "base/hash.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "output/manifest.h"
#include "output/manifest_reader.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;
constexpr int kDeepest = 8;  // folders within folders, when files that are too many are listed

class Verifier {
 public:
  Verifier(Disk& disk, const std::string& folder, Observer& observer)
      : disk_(disk), folder_(folder), observer_(observer) {}

  VerifyReport run() {
    const Manifest manifest = read_manifest(disk_, folder_);
    report_.folder = folder_;
    report_.key = manifest.key;
    report_.files = manifest.files.size();
    report_.tensors = manifest.tensors.size();
    for (const ManifestFile& file : manifest.files) now_.bytes_total += file.size;
    for (const ManifestFile& file : manifest.files) check_file(file);
    check_tensors(manifest);
    std::set<std::string> known = {kManifestFile};
    for (const ManifestFile& file : manifest.files) known.insert(file.name);
    list_extra("", known, kDeepest);
    return report_;
  }

 private:
  void complain(const std::string& file, const std::string& tensor, std::string message) {
    report_.problems.push_back({file, tensor, std::move(message)});
  }

  void check_file(const ManifestFile& listed) {
    const std::string path = join_path(folder_, listed.name);
    if (!disk_.exists(path)) return complain(listed.name, "", "is missing");
    // A link out of the folder would have bytes vouched for that are not in it.
    if (!disk_.canonical(path).starts_with(disk_.canonical(folder_) + "/")) {
      return complain(listed.name, "", "is a link to a file outside of the folder");
    }
    const auto file = disk_.open(path);
    if (file->size() != listed.size) {
      return complain(
          listed.name, "",
          fmt::format("has {} bytes; it was written with {}", file->size(), listed.size));
    }
    Sha256 hash;
    std::vector<std::byte> piece(kPiece);
    for (std::uint64_t at = 0; at < listed.size; at += piece.size()) {
      if (observer_.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
      piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, listed.size - at)));
      file->read(at, piece);
      hash.update(piece);
      now_.bytes_done += piece.size();
      now_.tensor = listed.name;
      observer_.progress(now_);
    }
    report_.bytes_read += listed.size;
    if (const std::string found = hash.hex(); found != listed.sha256) {
      complain(listed.name, "",
               fmt::format("has other bytes than were written: SHA-256 {}, written with {}", found,
                           listed.sha256));
    }
  }

  // A manifest that was changed to fit changed files does not fit their headers, unless those were
  // changed too.
  void check_tensors(const Manifest& manifest) {
    if (!report_.problems.empty()) return;  // what cannot be read or was replaced
    std::map<std::string, std::unique_ptr<Checkpoint>> shards;
    std::uint64_t stored = 0;
    for (const ManifestTensor& tensor : manifest.tensors) {
      auto& shard = shards[tensor.file];
      if (!shard) {
        shard = open_checkpoint(disk_, join_path(folder_, tensor.file));
        stored += shard->tensors().size();
      }
      const auto at = shard->find(tensor.name);
      if (!at) {
        complain(tensor.file, tensor.name, "is not in the file");
        continue;
      }
      const TensorInfo& found = shard->tensors()[*at];
      if (found.dtype != tensor.dtype || found.shape != tensor.shape) {
        complain(tensor.file, tensor.name,
                 fmt::format("is {} {}; the manifest has {} {}", to_string(found.dtype),
                             shape_text(found.shape), to_string(tensor.dtype),
                             shape_text(tensor.shape)));
      }
    }
    if (report_.problems.empty() && stored != manifest.tensors.size()) {
      complain(kManifestFile, "",
               fmt::format("lists {} tensors; its files hold {}", manifest.tensors.size(), stored));
    }
  }

  void list_extra(const std::string& within, const std::set<std::string>& known, int deeper) {
    const std::string folder = within.empty() ? folder_ : join_path(folder_, within);
    for (const std::string& name : disk_.list(folder)) {
      const std::string relative = within.empty() ? name : within + "/" + name;
      if (known.contains(relative)) continue;
      const std::string path = join_path(folder_, relative);
      const bool leads = disk_.canonical(path).starts_with(disk_.canonical(folder_) + "/");
      if (deeper > 0 && leads && disk_.stat(path).is_folder) {
        list_extra(relative, known, deeper - 1);
      } else {
        report_.extra.push_back(relative);
      }
    }
  }

  Disk& disk_;
  std::string folder_;
  Observer& observer_;
  Progress now_;
  VerifyReport report_;
};

}  // namespace

VerifyReport verify(const std::string& folder, Observer& observer) {
  return Verifier(real_disk(), folder, observer).run();
}

}  // namespace thorns
