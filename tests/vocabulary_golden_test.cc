// The tokenizers that a merge writes give the ids that transformers gives when it loads them
// (tests/fixtures/make_vocabulary.py, which also holds every id against its row).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "checkpoint/config.h"
#include "checkpoint/tokens.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

class WrittenTokenizer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    golden_ = std::string(THORNS_TEST_DATA) + "/golden/vocabulary/" + GetParam();
    for (const char* name : {"A", "B"}) {
      const std::string folder = place_ / name;
      std::filesystem::copy(golden_ + "/" + name, folder);
      const std::uint64_t rows = tokens_in(folder).end();
      test::SafetensorsBuilder model;
      model.add_bytes("model.embed_tokens.weight", Dtype::F32, {rows, 1},
                      std::string(rows * sizeof(float), '\1'));
      model.write(folder + "/model.safetensors");
      test::write_file(folder + "/config.json",
                       R"({"model_type": "llama", "eos_token_id": [)" + std::to_string(rows - 1) +
                           R"(], "pad_token_id": null, "tie_word_embeddings": true})");
      test::write_file(folder + "/generation_config.json",
                       R"({"eos_token_id": )" + std::to_string(rows - 1) + "}");
    }
  }

  static TokenList tokens_in(const std::string& folder) {
    return read_tokens(real_disk(), folder, real_disk().list(folder));
  }

  std::string merged(const std::string& key, const std::string& tokenizer) {
    MergeOptions options;
    options.recipe = key;
    options.inputs.paths = {place_.path()};
    options.output = place_ / "out";
    options.force = true;
    options.tokenizer = tokenizer;
    Observer silent;
    merge(options, silent);
    return options.output;
  }

  static std::map<std::string, std::uint64_t> ids(const TokenList& list) {
    std::map<std::string, std::uint64_t> ids;
    for (const ModelToken& token : list.tokens) ids[token.text] = token.id;
    return ids;
  }

  const test::TempFolder place_;
  std::string golden_;
};

TEST_P(WrittenTokenizer, HasTheIdsThatTransformersGives) {
  const Json expected = read_json_file(real_disk(), golden_ + "/expected.json");
  const auto written = ids(tokens_in(merged("{A+B; linear}", "")));
  EXPECT_EQ(written.size(), expected.size());
  for (const auto& [text, id] : expected.items()) {
    ASSERT_TRUE(written.contains(text)) << text;
    EXPECT_EQ(written.at(text), id) << text;
  }
}

// Where the tokenizer is not the first model's, the numbers in its configuration follow.
TEST_P(WrittenTokenizer, SpecialTokensFollow) {
  const std::string out = merged("{A+B; linear}", "B");
  const TokenList before = tokens_in(place_ / "A");
  const std::uint64_t now = ids(tokens_in(out)).at(before.tokens.back().text);
  EXPECT_EQ(read_json_file(real_disk(), out + "/config.json")["eos_token_id"][0], now);
  EXPECT_EQ(read_json_file(real_disk(), out + "/generation_config.json")["eos_token_id"], now);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, WrittenTokenizer,
                         testing::Values("added", "words", "unigram", "sentencepieces", "chat",
                                         "gpt2"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace thorns
