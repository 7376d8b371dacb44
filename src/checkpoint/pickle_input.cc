#include "checkpoint/pickle_input.h"

#include <fmt/format.h>

namespace thorns {
namespace {

constexpr std::uint64_t kPiece = 64 << 10;
constexpr std::uint64_t kMostText = 16'000'000;  // bytes of one text

}  // namespace

void refuse_pickle(const std::string& path, std::uint64_t begin, std::uint64_t at,
                   const std::string& why, ErrorCode code, const std::string& hint) {
  const char* const what = code == ErrorCode::Corrupt
                               ? "is not a valid PyTorch checkpoint"
                               : "is not a PyTorch checkpoint that can be merged";
  throw Error(code, fmt::format("`{}` {}: {} (byte {} of its pickle)", path, what, why, at),
              FilePlace{path, begin + at}, hint);
}

void PickleInput::need(std::uint64_t bytes) const {
  if (bytes > left()) fail(position_, "the pickle ends before its end mark");
}

std::uint8_t PickleInput::byte() {
  need(1);
  if (position_ - buffer_begin_ >= buffer_.size()) {
    buffer_.resize(std::min(kPiece, left()));
    buffer_begin_ = position_;
    range_.file.read(range_.begin + position_, buffer_);
  }
  return static_cast<std::uint8_t>(buffer_[position_++ - buffer_begin_]);
}

std::uint64_t PickleInput::little_endian(std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value |= std::uint64_t{byte()} << (8 * i);
  return value;
}

std::uint64_t PickleInput::big_endian(std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | byte();
  return value;
}

std::string PickleInput::text(std::uint64_t bytes) {
  if (bytes > kMostText) {
    fail(position_,
         fmt::format("a text of {} bytes, more than the {} that are allowed", bytes, kMostText));
  }
  need(bytes);
  std::string text;
  text.reserve(bytes);
  while (text.size() < bytes) text.push_back(static_cast<char>(byte()));
  return text;
}

std::string PickleInput::line(std::size_t most) {
  const std::uint64_t begin = position_;
  std::string text;
  for (std::uint8_t next = byte(); next != '\n'; next = byte()) {
    if (text.size() == most) fail(begin, fmt::format("a name of more than {} bytes", most));
    text.push_back(static_cast<char>(next));
  }
  return text;
}

}  // namespace thorns
