// The tensors of one or many weights files as one source. Private to this room: others open files
// through weights_file.h and checkpoint.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/disk.h"
#include "checkpoint/source.h"
#include "checkpoint/stored_tensor.h"
#include "checkpoint/strided.h"

namespace thorns {

class ShardedSource final : public TensorSource {
 public:
  // Reads and checks the header of every file. Corrupt if two of them hold a tensor of one name.
  ShardedSource(Disk& disk, const std::vector<std::string>& paths);
  // One file whose header the caller has read.
  ShardedSource(Disk& disk, const std::string& path, std::vector<StoredTensor> tensors);

  std::span<const TensorInfo> tensors() const override { return infos_; }
  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override;
  std::unique_ptr<FilePart> map(std::size_t tensor, std::uint64_t first,
                                std::uint64_t count) const override;
  void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const override;
  std::string file_of(std::size_t tensor) const override;

  std::size_t file_count() const { return files_.size(); }
  std::size_t file_index(std::size_t tensor) const { return places_[tensor].file; }
  const std::string& file_path(std::size_t file) const { return files_[file]->path(); }
  std::uint64_t file_size(std::size_t file) const { return files_[file]->size(); }

  // Takes the prefix that DistributedDataParallel and its kind put before every name (`module.`)
  // away, where every name of a checkpoint in PyTorch's format has it.
  void drop_module_prefix();

 private:
  struct Place {
    std::uint64_t offset = 0;  // in the file, or among its decoded numbers
    std::size_t file = 0;
    std::vector<std::uint64_t> strides;       // as in StoredTensor
    std::unique_ptr<const ReadFile> decoded;  // null: plain numbers in the file itself
  };

  struct Row {
    StoredTensor entry;
    std::size_t file = 0;
  };
  void take(std::vector<Row> rows);
  const ReadFile& numbers_of(const Place& place) const {
    return place.decoded == nullptr ? *files_[place.file] : *place.decoded;
  }
  StridedLayout layout_of(std::size_t tensor) const;

  std::vector<std::unique_ptr<ReadFile>> files_;
  bool pytorch_ = false;           // any of the files is
  std::vector<TensorInfo> infos_;  // sorted by name
  std::vector<Place> places_;      // parallel to infos_
};

}  // namespace thorns
