#include "output/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/convert.h"
#include "base/path_within.h"
#include "checkpoint/weights_file.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::size_t kPiece = std::size_t{64} << 10;

template <class T>
T value_of(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

std::string element_text(Dtype dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case Dtype::F64:
      return fmt::format("{}", value_of<double>(bytes));
    case Dtype::F32:
      return fmt::format("{}", value_of<float>(bytes));
    case Dtype::F16:
      return fmt::format("{}", float_from_half(value_of<std::uint16_t>(bytes)));
    case Dtype::BF16:
      return fmt::format("{}", float_from_bfloat(value_of<std::uint16_t>(bytes)));
    case Dtype::I64:
      return fmt::format("{}", value_of<std::int64_t>(bytes));
    case Dtype::I32:
      return fmt::format("{}", value_of<std::int32_t>(bytes));
    case Dtype::I16:
      return fmt::format("{}", value_of<std::int16_t>(bytes));
    case Dtype::I8:
      return fmt::format("{}", value_of<std::int8_t>(bytes));
    default: {  // the others are copied, never made
      std::string text = "0x";
      for (std::size_t i = bytes.size(); i-- > 0;) {
        text += fmt::format("{:02x}", static_cast<unsigned>(bytes[i]));
      }
      return text;
    }
  }
}

}  // namespace

Comparison::Comparison(Disk& disk, const std::string& folder, const Plan& plan)
    : disk_(disk), folder_(folder), plan_(plan), facts_(plan.programs.size()) {}

void Comparison::begin(std::size_t program) {
  if (begun_) return;
  begun_ = true;
  while (program >= plan_.shards[shard_].first + plan_.shards[shard_].count) ++shard_;
  const std::string& name = plan_.shards[shard_].file;
  if (name != open_name_) {
    open_name_ = name;
    open_ = open_stored();
  }
  const Program& made = plan_.programs[program];
  stored_ = open_ ? open_->find(made.tensor) : std::nullopt;
  if (stored_) {
    const TensorInfo& info = open_->tensors()[*stored_];
    if (info.dtype != made.dtype || info.shape != made.shape) stored_.reset();
  }
  element_ = 0;
  differs_ = false;
}

// Null where there is nothing to compare with, which a check of the files says.
std::unique_ptr<TensorSource> Comparison::open_stored() const {
  try {
    return open_weights(disk_, path_within(disk_, folder_, open_name_));
  } catch (const Error& error) {
    for (const ErrorCode code : {ErrorCode::NotFound, ErrorCode::Corrupt, ErrorCode::Unsupported}) {
      if (error.code() == code) return nullptr;
    }
    throw;
  }
}

void Comparison::write(std::size_t program, std::span<const std::byte> bytes) {
  begin(program);
  if (!stored_) return;
  const std::size_t piece =
      kPiece / size_of(plan_.programs[program].dtype) * size_of(plan_.programs[program].dtype);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    compare(bytes.subspan(at, std::min(piece, bytes.size() - at)));
  }
}

void Comparison::compare(std::span<const std::byte> made) {
  std::array<std::byte, kPiece> buffer;
  const std::span<std::byte> stored = std::span(buffer).first(made.size());
  const TensorInfo& info = open_->tensors()[*stored_];
  const std::size_t width = size_of(info.dtype);
  open_->read(*stored_, element_, stored);
  bytes_read_ += stored.size();
  const auto differs = std::mismatch(made.begin(), made.end(), stored.begin()).first;
  if (differs != made.end()) {
    const auto index = static_cast<std::size_t>(differs - made.begin()) / width;
    if (!first_) {
      first_ = {info.name, open_name_, element_ + index,
                element_text(info.dtype, stored.subspan(index * width, width)),
                element_text(info.dtype, made.subspan(index * width, width))};
    }
    differs_ = true;
  }
  element_ += made.size() / width;
}

void Comparison::finished(std::size_t program, const TensorFacts& facts) {
  begin(program);  // an empty tensor has no bytes
  begun_ = false;
  compared_ += stored_ ? 1U : 0U;
  differing_ += differs_ ? 1U : 0U;
  facts_[program] = facts;
}

}  // namespace thorns
