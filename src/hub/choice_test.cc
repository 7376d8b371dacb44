#include "hub/choice.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace thorns {
namespace {

using Names = std::vector<std::string>;

HubListing listing(const Names& names) {
  HubListing result;
  for (const std::string& name : names) result.files.push_back({name, 1, std::string(40, '0')});
  sort_tree(result.files, "test");
  return result;
}

Names names_of(const std::vector<HubFile>& files) {
  Names names;
  for (const HubFile& file : files) names.push_back(file.name);
  return names;
}

Names chosen(const Names& names) { return names_of(choose_files({"o/r"}, listing(names)).files); }

TEST(Choice, TakesOneFormatOfTheWeights) {
  EXPECT_EQ(chosen({"config.json", "model.safetensors", "pytorch_model.bin", "x.gguf"}),
            (Names{"config.json", "model.safetensors"}));
  EXPECT_EQ(chosen({"pytorch_model.bin", "x.gguf", "tf_model.h5"}), Names{"pytorch_model.bin"});
  EXPECT_EQ(chosen({"x.gguf", "tf_model.h5", "README.md"}), (Names{"README.md", "x.gguf"}));
  EXPECT_EQ(chosen({"style.safetensors", "README.md"}), (Names{"README.md", "style.safetensors"}));
  EXPECT_EQ(chosen({"adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"}),
            (Names{"adapter_config.json", "adapter_model.safetensors"}));
  EXPECT_EQ(chosen({"adapter_model.bin", "pytorch_model.bin"}),
            (Names{"adapter_model.bin", "pytorch_model.bin"}));
  for (const char* name : {"NOTICE.safetensors", "LICENSE.bin", "README.gguf"}) {
    EXPECT_EQ(chosen({name}), Names{name});
  }
  // The index says which shards.
  const HubChoice choice = choose_files(
      {"o/r"},
      listing({"model.safetensors.index.json", "model-1.safetensors", "model.safetensors"}));
  EXPECT_EQ(names_of(choice.files), Names{"model.safetensors.index.json"});
  EXPECT_EQ(choice.index, "model.safetensors.index.json");
}

TEST(Choice, RefusesToGuess) {
  expect_error(error_of([] {
                 chosen({"a.safetensors", "b.safetensors"});
               }),
               ErrorCode::Unsupported, "2 files of weights", "--include a.safetensors");
  expect_error(error_of([] {
                 chosen({"x-00001-of-00002.gguf", "y-00001-of-00002.gguf"});
               }),
               ErrorCode::Unsupported, "2 files of weights");
  expect_error(error_of([] {
                 chosen({"consolidated.safetensors", "tf_model.h5"});
               }),
               ErrorCode::Unsupported, "no weights that thorns reads among its 2 files");
}

TEST(Choice, PatternsMatchNamesAndTheirLastPart) {
  const auto matching = [](const Names& patterns) {
    return names_of(matching_files(
        {"o/r"}, listing({"a.bin", "b/a.bin", "b/c.txt", "model-Q8_0.gguf"}), patterns));
  };
  EXPECT_EQ(matching({"a.bin"}), (Names{"a.bin", "b/a.bin"}));
  EXPECT_EQ(matching({"b/*"}), (Names{"b/a.bin", "b/c.txt"}));
  EXPECT_EQ(matching({"*Q?_0*", "?.txt"}), (Names{"b/c.txt", "model-Q8_0.gguf"}));
  EXPECT_EQ(matching({"*"}).size(), 4U);
  expect_error(error_of([&] {
                 matching({"a.bin", "x*"});
               }),
               ErrorCode::NotFound, "no file of `o/r` is called `x*`", "it has a.bin");
}

TEST(Choice, AnIndexNamesWhatIsThere) {
  const HubListing files = listing({"1.safetensors", "2.safetensors"});
  const auto indexed = [&](const char* text) { return names_of(indexed_files(files, text, "i")); };
  EXPECT_EQ(indexed(R"({"weight_map": {"b": "2.safetensors", "a": "1.safetensors",
                                       "c": "2.safetensors"}})"),
            (Names{"1.safetensors", "2.safetensors"}));
  for (const char* text : {"[]", "{}", R"({"weight_map": []})", R"({"weight_map": {"a": 1}})",
                           R"({"weight_map": {"a": "../../x"}})", "{"}) {
    expect_error(error_of([&] { indexed(text); }), ErrorCode::Corrupt, "");
  }
}

TEST(Listing, LinksOfPages) {
  EXPECT_EQ(next_page(""), "");
  EXPECT_EQ(next_page("<https://x/?a=1,2>; rel=\"next\""), "https://x/?a=1,2");
  EXPECT_EQ(next_page("<a>; rel=\"prev\", <b>; title=\"x\"; rel=\"next\""), "b");
  EXPECT_EQ(next_page("<a>; rel=\"prev\""), "");
  EXPECT_EQ(next_page("<a"), "");
}

}  // namespace
}  // namespace thorns
