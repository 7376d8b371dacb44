// A quantised checkpoint presented as plain numbers: each weight under its ordinary name, decoded
// as it is read; codes, scales and zero points hidden. Private to this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/decoder.h"
#include "checkpoint/decoding.h"
#include "checkpoint/quantised.h"
#include "checkpoint/source.h"

namespace thorns {

// Decoded tensors are F32 with `nominal` set; the others are as stored. Thread-safe as the stored
// source is; a read needs about 2 MB of working memory, whatever its size.
class DequantisedSource final : public TensorSource {
 public:
  // `stored` must outlive this; takes the decoders from `decoding`. Corrupt where a shape
  // overflows.
  DequantisedSource(const TensorSource& stored, Decoding& decoding, Dtype nominal);

  // What it is decoded from: "FP8 with a scale for each block".
  const std::string& format() const { return format_; }

  // The stored tensor that holds the codes of a decoded one.
  const TensorInfo& stored(std::size_t tensor) const {
    return stored_.tensors()[origins_[tensor].stored];
  }

  std::span<const TensorInfo> tensors() const override { return infos_; }
  void read(std::size_t tensor, std::uint64_t first, std::span<std::byte> to) const override;
  std::unique_ptr<FilePart> map(std::size_t tensor, std::uint64_t first,
                                std::uint64_t count) const override;
  std::unique_ptr<CodedElements> map_codes(std::size_t tensor, std::uint64_t first,
                                           std::uint64_t count) const override;
  void will_need(std::size_t tensor, std::uint64_t first, std::uint64_t count) const override;
  std::string file_of(std::size_t tensor) const override;

 private:
  struct Origin {
    std::size_t stored = 0;
    std::unique_ptr<Decoder> decoder;  // null: the stored tensor as it is
  };

  const TensorSource& stored_;
  std::string format_;
  std::vector<TensorInfo> infos_;  // sorted by name
  std::vector<Origin> origins_;    // parallel to infos_
};

// Whether some variant of this `quant_method` is decoded.
bool can_dequantise(const std::string& method);

// Decodes what can be decoded: by `how`, or where that is nullopt by the tensors alone. nullptr
// where nothing is quantised. Throws Unsupported for a variant that is not decoded, or where `how`
// speaks of quantised weights and there are none; Corrupt, naming file and tensor, where the parts
// of a quantised tensor are missing or do not fit together. `path` names the checkpoint.
std::unique_ptr<DequantisedSource> dequantise(const TensorSource& stored,
                                              const std::optional<Quantisation>& how, Dtype nominal,
                                              const std::string& path);

}  // namespace thorns
