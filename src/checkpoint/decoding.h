// A quantised checkpoint on its way from stored tensors to decoded ones. Each format takes the
// tensors it knows and says what to present in their place; what nobody takes stays as it is.
// Private to this room.
//
// To add a format: a file `x.cc` with `void decode_x(Decoding&)`, declared below, and a row in the
// table of dequantise.cc.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/decoder.h"
#include "checkpoint/quantised.h"
#include "checkpoint/source.h"
#include "checkpoint/tensor_reader.h"

namespace thorns {

struct DecodedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::size_t stored = 0;  // the tensor that holds its codes
  std::unique_ptr<Decoder> decoder;
};

// For one thread. `stored` must outlive this and the decoders.
class Decoding {
 public:
  // `how` is null where no configuration says how the checkpoint is quantised, `path` names it.
  Decoding(const TensorSource& stored, const Quantisation* how, std::string path);

  // The stored tensors, sorted by name, and whether a format has taken one.
  std::size_t size() const { return taken_.size(); }
  TensorReader tensor(std::size_t index) const { return {stored_, index}; }
  bool is_taken(std::size_t index) const { return taken_[index]; }

  // Null where no configuration says anything.
  const Quantisation* how() const { return how_; }
  // Throws Unsupported: the configuration describes a variant that is not decoded, `detail`.
  [[noreturn]] void refuse(const std::string& detail) const;

  bool has(const std::string& name) const { return stored_.find(name).has_value(); }
  // The tensor of that name, which is hidden from now on.
  std::optional<TensorReader> take(const std::string& name);
  // The same; Corrupt, naming both, where `part_of` has no such companion.
  TensorReader need(const TensorReader& part_of, const std::string& name);
  // Hides scales of activations and of key-value caches: they play no part in the weights.
  void hide_activation_scales();

  // Presents a tensor in place of `codes`, which is hidden. `format` says in a few words what it
  // is decoded from.
  void present(const TensorReader& codes, std::string name, std::vector<std::uint64_t> shape,
               std::unique_ptr<Decoder> decoder, const std::string& format);

  std::vector<DecodedTensor>& decoded() { return decoded_; }
  const std::set<std::string>& formats() const { return formats_; }

 private:
  const TensorSource& stored_;
  const Quantisation* how_;
  std::string path_;
  std::vector<bool> taken_;
  std::vector<DecodedTensor> decoded_;
  std::set<std::string> formats_;
};

// "a.b" of "a.b.weight" and ".weight"; nullopt where `name` does not end so.
std::optional<std::string> without_ending(const std::string& name, std::string_view ending);
// A whole number among a configuration's fields; nullopt where there is none.
std::optional<std::int64_t> integer_field(const Json& object, const char* name);

void decode_fp8(Decoding& decoding);
void decode_compressed_tensors(Decoding& decoding);
void decode_mxfp4(Decoding& decoding);
void decode_bitsandbytes(Decoding& decoding);
void decode_gptq(Decoding& decoding);
void decode_awq(Decoding& decoding);

}  // namespace thorns
