#include "checkpoint/shards.h"

#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/gguf_blocks.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {

ShardedSource::ShardedSource(Disk& disk, const std::vector<std::string>& paths) {
  std::vector<Row> rows;
  for (std::size_t file = 0; file < paths.size(); ++file) {
    files_.push_back(disk.open(paths[file]));
    WeightsHeader header = read_weights_header(*files_.back());
    pytorch_ = pytorch_ || header.format == WeightsFormat::PyTorch;
    for (StoredTensor& entry : header.tensors) rows.push_back({std::move(entry), file});
  }
  take(std::move(rows));
}

ShardedSource::ShardedSource(Disk& disk, const std::string& path,
                             std::vector<StoredTensor> tensors) {
  files_.push_back(disk.open(path));
  std::vector<Row> rows;
  for (StoredTensor& entry : tensors) rows.push_back({std::move(entry), 0});
  take(std::move(rows));
}

void ShardedSource::take(std::vector<Row> rows) {
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return a.entry.info.name < b.entry.info.name; });
  const auto twice = std::adjacent_find(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.entry.info.name == b.entry.info.name;
  });
  if (twice != rows.end() && twice->file == std::next(twice)->file) {
    throw Error(ErrorCode::Corrupt,
                fmt::format("`{}` holds the tensor `{}` twice", file_path(twice->file),
                            twice->entry.info.name),
                FilePlace{file_path(twice->file)});
  }
  if (twice != rows.end()) {
    const auto [first, second] = std::minmax(twice->file, std::next(twice)->file);
    throw Error(ErrorCode::Corrupt,
                fmt::format("tensor `{}` is in two files, `{}` and `{}`", twice->entry.info.name,
                            file_path(first), file_path(second)),
                FilePlace{file_path(second)},
                "the files may come from different versions; fetch the folder again");
  }
  infos_.reserve(rows.size());
  places_.reserve(rows.size());
  for (Row& row : rows) {
    Place place{row.entry.offset, row.file, std::move(row.entry.strides), nullptr};
    if (row.entry.blocks != nullptr) {
      place.decoded = decoded_blocks(*files_[row.file], row.entry.offset, *row.entry.blocks,
                                     row.entry.info.elements);
      place.offset = 0;
    }
    infos_.push_back(std::move(row.entry.info));
    places_.push_back(std::move(place));
  }
}

void ShardedSource::drop_module_prefix() {
  constexpr std::string_view kPrefix = "module.";
  const auto prefixed = [&](const TensorInfo& info) {
    return info.name.size() > kPrefix.size() && info.name.starts_with(kPrefix);
  };
  if (!pytorch_ || !std::all_of(infos_.begin(), infos_.end(), prefixed)) return;
  for (TensorInfo& info : infos_) info.name.erase(0, kPrefix.size());  // the order stays
}

StridedLayout ShardedSource::layout_of(std::size_t tensor) const {
  const TensorInfo& info = infos_[tensor];
  const Place& place = places_[tensor];
  return {place.offset, size_of(info.dtype), info.shape, place.strides};
}

void ShardedSource::read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const {
  if (tensor >= infos_.size()) {
    throw Error(ErrorCode::Internal,
                fmt::format("tensor {} of {} was asked for", tensor, infos_.size()));
  }
  const TensorInfo& info = infos_[tensor];
  const std::size_t size = size_of(info.dtype);
  if (to.size() % size != 0 || first > info.elements || to.size() / size > info.elements - first) {
    throw Error(ErrorCode::Internal,
                fmt::format("{} bytes from element {} were asked for, the tensor has {} elements "
                            "of {} bytes",
                            to.size(), first, info.elements, size),
                TensorPlace{info.name, first, file_of(tensor)});
  }
  if (to.empty()) return;
  const Place& place = places_[tensor];
  const ReadFile& file = numbers_of(place);
  if (!place.strides.empty()) return read_strided(file, layout_of(tensor), first, to);
  file.read(place.offset + first * size, to);
}

std::unique_ptr<FilePart> ShardedSource::map(std::size_t tensor, std::uint64_t first,
                                             std::uint64_t count) const {
  const TensorInfo& info = infos_.at(tensor);
  const Place& place = places_[tensor];
  const std::size_t size = size_of(info.dtype);
  if (!place.strides.empty() || first > info.elements || count > info.elements - first) {
    return nullptr;
  }
  const std::uint64_t offset = place.offset + first * size;
  if (offset % size != 0) return nullptr;  // its elements would not be aligned in memory either
  return numbers_of(place).map(offset, static_cast<std::size_t>(count) * size);
}

void ShardedSource::will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const {
  if (tensor >= infos_.size() || first >= infos_[tensor].elements) return;
  const std::size_t size = size_of(infos_[tensor].dtype);
  const std::uint64_t within = std::min(count, infos_[tensor].elements - first);
  if (within == 0) return;
  const Place& place = places_[tensor];
  const ReadFile& file = numbers_of(place);
  if (!place.strides.empty()) return will_need_strided(file, layout_of(tensor), first, within);
  file.will_need(place.offset + first * size, within * size);
}

std::string ShardedSource::file_of(std::size_t tensor) const {
  return tensor < places_.size() ? files_[places_[tensor].file]->path() : std::string();
}

}  // namespace thorns
