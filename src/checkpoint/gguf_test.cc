#include "checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <span>
#include <string>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/self_described.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/gguf_builder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
std::string counted(const std::string& text) { return raw(std::uint64_t{text.size()}) + text; }
std::string text_field_of(const std::string& name, const std::string& text) {
  return counted(name) + raw(std::uint32_t{8}) + counted(text);
}
std::string number_field(const std::string& name, std::uint32_t value) {
  return counted(name) + raw(std::uint32_t{4}) + raw(value);
}
std::string vector_info(const std::string& name, std::uint64_t length, std::uint32_t type,
                        std::uint64_t offset) {
  return counted(name) + raw(std::uint32_t{1}) + raw(length) + raw(type) + raw(offset);
}
std::string gguf(std::uint64_t tensors, std::uint64_t fields, const std::string& rest,
                 std::uint32_t version = 3) {
  return "GGUF" + raw(version) + raw(tensors) + raw(fields) + rest;
}
// Filled up to a multiple of 32, with `data` behind.
std::string with_data(std::string header, std::size_t data) {
  header.resize((header.size() + 31) / 32 * 32 + data);
  return header;
}

GgufHeader header_of(const std::string& bytes) {
  ByteDisk disk;
  disk.files["m.gguf"] = bytes;
  return read_gguf_header(*disk.open("m.gguf"));
}

TEST(Gguf, ReadsAHeader) {
  const std::string fields = text_field_of("a", "x") + number_field("b", 7) + counted("c") +
                             raw(std::uint32_t{9}) + raw(std::uint32_t{8}) + raw(std::uint64_t{2}) +
                             counted("p") + counted("qq");
  const GgufHeader header = header_of(with_data(
      gguf(2, 3, fields + vector_info("t", 3, 0, 0) + vector_info("u", 32, 8, 32)), 32 + 34));
  EXPECT_EQ(header.fields.at("a"), "x");
  EXPECT_EQ(header.fields.at("b"), 7);
  EXPECT_EQ(header.arrays.at("c").count, 2U);
  ASSERT_EQ(header.tensors.size(), 2U);
  EXPECT_EQ(header.tensors[1].bytes, 34U);
  EXPECT_EQ(header.tensors[1].offset, header.tensors[0].offset + 32);
}

TEST(Gguf, RefusesWhatIsNotSound) {
  constexpr auto kHuge = std::uint64_t{1} << 62;
  struct Case {
    std::string bytes;
    const char* message;
    ErrorCode code = ErrorCode::Corrupt;
  };
  const std::string one = vector_info("t", 4, 0, 0);
  const Case cases[] = {
      {"GGU", "too short"},
      {"GGUX", "does not begin"},
      {"GGUF\3", "bytes should follow"},
      {gguf(0, 0, "", 1), "version 1", ErrorCode::Unsupported},
      {gguf(0, 0, "", 0x03000000), "byte order", ErrorCode::Unsupported},
      {gguf(0, kHuge, ""), "fields"},
      {gguf(kHuge, 0, ""), "tensors"},
      {gguf(0, 1, raw(kHuge) + std::string(40, 'x')), "the name of a field has"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{13}) + std::string(8, 0)), "unknown type 13"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{8}) + raw(kHuge)), "bytes should follow"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{9}) + raw(std::uint32_t{9}) + raw(kHuge)),
       "array of elements of type 9"},
      {gguf(0, 1, counted("a") + raw(std::uint32_t{9}) + raw(std::uint32_t{10}) + raw(kHuge)),
       "elements"},
      {gguf(0, 2, number_field("a", 1) + number_field("a", 1)), "twice"},
      {gguf(0, 1, number_field("general.alignment", 24)), "alignment is 24"},
      {gguf(0, 1, number_field("general.alignment", 0)), "alignment is 0"},
      {with_data(gguf(1, 0, one), 15), "beyond the end"},
      {with_data(gguf(2, 0, one + one), 64), "twice"},
      {with_data(gguf(2, 0, one + vector_info("u", 4, 0, 0)), 64), "begins at byte 0"},
      {with_data(gguf(1, 0, vector_info("t", 33, 8, 0)), 99), "blocks of 32"},
      {with_data(gguf(1, 0, vector_info("t", kHuge, 0, 0)), 32), "the shape"},
      {with_data(gguf(1, 0, vector_info("t", 0, 0, 0)), 32), "the shape"},
      {with_data(gguf(1, 0, vector_info("t", 256, 4, 0)), 99), "ggml's type 4",
       ErrorCode::Unsupported},
      {gguf(1, 0, counted("t") + raw(std::uint32_t{5}) + std::string(60, 1)), "5 dimensions"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    const Error error = error_of([&] { header_of(bad.bytes); });
    EXPECT_EQ(error.code(), bad.code);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
  }
}

TEST(Gguf, RefusesModelsItDoesNotKnowByName) {
  struct Case {
    std::uint64_t fields;
    std::string metadata;
    std::string tensor;
    const char* message;
  };
  const std::string llama = text_field_of("general.architecture", "llama");
  const Case cases[] = {
      {1, text_field_of("general.architecture", "falcon"), "output.weight", "`falcon`"},
      {2, llama + text_field_of("general.type", "adapter"), "output.weight", "is an adapter"},
      {2, llama + number_field("split.count", 3), "output.weight", "one of several parts"},
      {1, llama, "blk.0.attn_q_norm.weight", "blk.0.attn_q_norm.weight"},
      {1, llama, "blk.00.attn_q.weight", "blk.00.attn_q.weight"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    ByteDisk disk;
    disk.files["m.gguf"] =
        with_data(gguf(1, bad.fields, bad.metadata + vector_info(bad.tensor, 4, 0, 0)), 32);
    const Error error = error_of([&] { open_checkpoint(disk, "m.gguf"); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
  }
}

TEST(Gguf, RefusesTypesItDoesNotReadByName) {
  ByteDisk disk;
  disk.files["m.gguf"] = with_data(gguf(1, 1,
                                        text_field_of("general.architecture", "llama") +
                                            vector_info("output.weight", 256, 16, 0)),
                                   96);
  const Error error = error_of([&] { open_checkpoint(disk, "m.gguf"); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("holds `output.weight` in IQ2_XXS"), std::string::npos)
      << error.message();
  EXPECT_NE(error.hint().find("IQ4_XS"), std::string::npos);
}

using test::GgufBuilder;

// A small model of a family: metadata without tensors.
GgufBuilder metadata(const std::string& family) {
  GgufBuilder file;
  file.text("general.architecture", family).number(family + ".block_count", 1);
  file.number(family + ".embedding_length", 4).number(family + ".feed_forward_length", 6);
  file.number(family + ".attention.head_count", 2).number(family + ".context_length", 8);
  return file;
}
std::vector<double> counted_up(std::size_t count, double from) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = from + static_cast<double>(i);
  return values;
}
std::vector<double> numbers_of(const Checkpoint& model, const std::string& name) {
  const auto index = model.find(name);
  if (!index) return {};
  std::vector<float> values(model.tensors()[*index].elements);
  model.read(*index, 0, std::as_writable_bytes(std::span(values)));
  return {values.begin(), values.end()};
}

TEST(Gguf, ReadsTheExpertsOfAStackOneByOne) {
  GgufBuilder file = metadata("llama");
  file.number("llama.expert_count", 3).number("llama.expert_used_count", 2);
  file.floats("token_embd.weight", {5, 4}, counted_up(20, 0));
  file.floats("blk.0.ffn_gate_inp.weight", {3, 4}, counted_up(12, 100));
  file.floats("blk.0.ffn_gate_exps.weight", {3, 6, 4}, counted_up(72, 1000));
  file.floats("blk.0.ffn_down.1.weight", {4, 6}, counted_up(24, 2000));
  ByteDisk disk;
  disk.files["m.gguf"] = file.bytes();
  const auto model = open_checkpoint(disk, "m.gguf");
  EXPECT_EQ(model->architecture(), "MixtralForCausalLM");
  EXPECT_EQ(model->config()["num_local_experts"], 3);
  const std::string layer = "model.layers.0.block_sparse_moe.";
  EXPECT_EQ(numbers_of(*model, layer + "gate.weight"), counted_up(12, 100));
  EXPECT_EQ(numbers_of(*model, layer + "experts.2.w1.weight"), counted_up(24, 1048));
  EXPECT_EQ(numbers_of(*model, layer + "experts.1.w2.weight"), counted_up(24, 2000));
  EXPECT_EQ(model->tensors().size(), 6U);
}

TEST(Gguf, NormsOfGemmaAreLowered) {
  GgufBuilder file = metadata("gemma");
  file.floats("token_embd.weight", {5, 4}, counted_up(20, 0));
  file.floats("output_norm.weight", {4}, counted_up(4, 1));
  ByteDisk disk;
  disk.files["m.gguf"] = file.bytes();
  const auto model = open_checkpoint(disk, "m.gguf");
  EXPECT_EQ(numbers_of(*model, "model.norm.weight"), counted_up(4, 0));
  EXPECT_TRUE(model->ties_embeddings());
}

TEST(Gguf, FactorsOfLlama31BecomeItsScaling) {
  const auto with = [](std::vector<double> factors) {
    GgufBuilder file = metadata("llama");
    file.real("llama.rope.freq_base", 500000.0F);
    file.floats("rope_freqs.weight", {factors.size()}, factors);
    file.floats("token_embd.weight", {5, 4}, counted_up(20, 0));
    return file.bytes();
  };
  // Wave lengths 6, 167, 4443 and 118000 in a context of 8192: kept, kept, between, divided by 8.
  const double wave = 2 * 3.14159265358979 * std::pow(500000.0, 0.5);
  const double smooth = (8192 / wave - 1) / 3;
  const std::vector<double> factors = {1.0, 1.0, 1 / ((1 - smooth) / 8 + smooth), 8.0};
  ByteDisk disk;
  disk.files["m.gguf"] = with(factors);
  const auto model = open_checkpoint(disk, "m.gguf");
  EXPECT_EQ(model->config()["rope_scaling"], (Json{{"rope_type", "llama3"},
                                                   {"factor", 8.0},
                                                   {"low_freq_factor", 1.0},
                                                   {"high_freq_factor", 4.0},
                                                   {"original_max_position_embeddings", 8192}}));
  EXPECT_EQ(model->tensors().size(), 1U) << "the factors are no tensor of transformers";
  disk.files["m.gguf"] = with({1.0, 1.0, 2.0, 8.0});
  EXPECT_NE(error_of([&] { open_checkpoint(disk, "m.gguf"); }).message().find("Llama 3.1"),
            std::string::npos);
}

TEST(Gguf, PartsAreOneModelAndMustBeAllThere) {
  const auto part = [](std::uint32_t number, const std::string& tensor) {
    GgufBuilder file = number == 0 ? metadata("llama") : GgufBuilder();
    file.number("split.no", number).number("split.count", 2);
    return file.floats(tensor, {5, 4}, counted_up(20, number)).bytes();
  };
  ByteDisk disk;
  disk.files["m/a-00001-of-00002.gguf"] = part(0, "token_embd.weight");
  disk.files["m/a-00002-of-00002.gguf"] = part(1, "output.weight");
  for (const char* named : {"m", "m/a-00001-of-00002.gguf", "m/a-00002-of-00002.gguf"}) {
    const auto model = open_checkpoint(disk, named);
    EXPECT_EQ(model->files().size(), 2U) << named;
    EXPECT_EQ(numbers_of(*model, "lm_head.weight"), counted_up(20, 1));
    EXPECT_EQ(model->file_of(*model->find("lm_head.weight")), "m/a-00002-of-00002.gguf");
  }
  const auto message = [&](const std::string& path) {
    return error_of([&] { open_checkpoint(disk, path); }).message();
  };
  disk.files["m/a-00002-of-00002.gguf"] = part(0, "output.weight");
  EXPECT_NE(message("m").find("says that it is number 1 of 2"), std::string::npos);
  disk.files.erase("m/a-00002-of-00002.gguf");
  EXPECT_NE(message("m").find("missing: a-00002-of-00002.gguf"), std::string::npos);
  disk.files["renamed.gguf"] = part(0, "token_embd.weight");
  EXPECT_NE(message("renamed.gguf").find("is one of several parts"), std::string::npos);
}

TEST(Gguf, WhatLiesInTheFolderGoesBeforeTheMetadata) {
  ByteDisk disk;
  disk.files["m/q8.gguf"] =
      metadata("llama").floats("token_embd.weight", {5, 4}, counted_up(20, 0)).bytes();
  disk.files["m/config.json"] = R"({"model_type": "mistral", "tie_word_embeddings": true})";
  disk.files["m/tokenizer.json"] = "{}";
  const auto model = open_checkpoint(disk, "m");
  EXPECT_EQ(model->model_type(), "mistral");
  EXPECT_EQ(model->tokenizer_files(), std::vector<std::string>{"tokenizer.json"});
  EXPECT_TRUE(self_described(*model)->made_tokenizer().empty());
}

// The files are compared with transformers in tests/fixtures/compare_gguf.py; these are their
// bytes.
TEST(Gguf, ATokenizerIsMadeOfTheMetadata) {
  const auto with = [](const std::string& kind, const std::string& pre) {
    GgufBuilder file = metadata("llama");
    file.floats("token_embd.weight", {5, 4}, counted_up(20, 0));
    file.text("tokenizer.ggml.model", kind).text("tokenizer.ggml.pre", pre);
    file.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "a\"", "b", "<x>"});
    file.integers("tokenizer.ggml.token_type", {2, 3, 1, 1, 4});
    file.reals("tokenizer.ggml.scores", {0, 0, -1, -2, 0});
    file.texts("tokenizer.ggml.merges", {"a b"});
    file.number("tokenizer.ggml.bos_token_id", 1).flag("tokenizer.ggml.add_bos_token", true);
    return file.text("tokenizer.chat_template", std::string(5000, 'c')).bytes();
  };
  ByteDisk disk;
  disk.files["m.gguf"] = with("llama", "default");
  auto files = self_described(*open_checkpoint(disk, "m.gguf"))->made_tokenizer();
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "tokenizer.model");
  // Piece "a\"": text, score -1, kind 1.
  EXPECT_NE(files[0].text.find(std::string("\x0a\x0b\x0a\x02"
                                           "a\"\x15\x00\x00\x80\xBF\x18\x01",
                                           13)),
            std::string::npos);
  const Json config = Json::parse(files[1].text);
  EXPECT_EQ(config["tokenizer_class"], "LlamaTokenizer");
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["chat_template"], std::string(5000, 'c'));
  EXPECT_EQ(config["added_tokens_decoder"]["4"]["special"], false);

  disk.files["m.gguf"] = with("gpt2", "llama-bpe");
  files = self_described(*open_checkpoint(disk, "m.gguf"))->made_tokenizer();
  ASSERT_EQ(files[0].name, "tokenizer.json");
  const Json json = Json::parse(files[0].text);
  EXPECT_EQ(json["model"]["vocab"]["a\""], 2);
  EXPECT_EQ(json["model"]["merges"], Json::array({"a b"}));
  EXPECT_EQ(json["added_tokens"].size(), 2U);
  EXPECT_EQ(json["post_processor"]["special_tokens"]["<s>"]["ids"], Json::array({1}));

  disk.files["m.gguf"] = with("gpt2", "poro-chat");
  const auto unknown = open_checkpoint(disk, "m.gguf");
  EXPECT_TRUE(self_described(*unknown)->made_tokenizer().empty());
  EXPECT_EQ(self_described(*unknown)->why_no_tokenizer(), "it cuts text in the way `poro-chat`");
}

}  // namespace
}  // namespace thorns
