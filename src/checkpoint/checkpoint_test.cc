#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <thread>

#include "checkpoint/shards.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/pytorch_builder.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::ModelFolder;
using test::path_of;
using test::SafetensorsBuilder;

// A file of one tensor of one byte.
std::string one_tensor(const std::string& name, Dtype dtype = Dtype::U8) {
  return SafetensorsBuilder()
      .add_bytes(name, dtype, {1}, std::string(size_of(dtype), '\1'))
      .bytes();
}

std::string index_of(const std::string& weight_map) {
  return R"({"metadata":{"total_size":2},"weight_map":)" + weight_map + "}";
}

constexpr const char* kIndex = "m/model.safetensors.index.json";
constexpr const char* kPart1 = "model-00001-of-00002.safetensors";
constexpr const char* kPart2 = "model-00002-of-00002.safetensors";

// Tensors a and b in a shard each.
ByteDisk two_shards() {
  ByteDisk disk;
  disk.files["m/config.json"] = R"({"model_type":"llama"})";
  disk.files[std::string("m/") + kPart1] = one_tensor("a");
  disk.files[std::string("m/") + kPart2] = one_tensor("b");
  disk.files[kIndex] = index_of(R"({"a":"model-00001-of-00002.safetensors",)"
                                R"("b":"model-00002-of-00002.safetensors"})");
  return disk;
}

ModelFolder small_model() {
  ModelFolder model;
  model.weights.add("model.embed_tokens.weight", Dtype::BF16, {3, 2}, {1, 2, 3, 4, 5, 6})
      .add("model.layers.0.w", Dtype::F32, {2}, {0.5, -1})
      .add("model.layers.1.w", Dtype::F16, {2}, {7, 8})
      .add("model.ids", Dtype::I64, {1}, {9});
  return model;
}

TEST(Checkpoint, OpensAWholeFolder) {
  const test::TempFolder temp;
  ModelFolder model = small_model();
  model.other_files = {{"generation_config.json", "{\"top_k\": 5}\n"},
                       {"tokenizer.json", "{}"},
                       {"tokenizer_config.json", "{}"},
                       {"tokenization_own.py", ""},
                       {"modeling_own.py", ""},
                       {"README.md", ""}};
  model.write(temp.path());
  temp.make_folder("additional_chat_templates");
  test::write_file(temp / "additional_chat_templates/tool.jinja", "x");
  const auto checkpoint = open_checkpoint(real_disk(), temp.path());
  EXPECT_EQ(checkpoint->path(), temp.path());
  EXPECT_EQ(checkpoint->model_type(), "llama");
  EXPECT_EQ(checkpoint->architecture(), "LlamaForCausalLM");
  EXPECT_FALSE(checkpoint->ties_embeddings());
  EXPECT_EQ(checkpoint->generation_config(), "{\"top_k\": 5}\n");
  EXPECT_EQ(checkpoint->tokenizer_files(),
            (std::vector<std::string>{"additional_chat_templates/tool.jinja", "tokenization_own.py",
                                      "tokenizer.json", "tokenizer_config.json"}));
  ASSERT_EQ(checkpoint->files().size(), 1U);
  EXPECT_EQ(checkpoint->files()[0].path, temp / "model.safetensors");
  EXPECT_EQ(checkpoint->files()[0].size, std::filesystem::file_size(temp / "model.safetensors"));
  ASSERT_EQ(checkpoint->tensors().size(), 4U);
  EXPECT_EQ(checkpoint->tensors()[3].name, "model.layers.1.w");
  std::uint16_t half = 0;
  checkpoint->read(3, 1, std::as_writable_bytes(std::span(&half, 1)));
  EXPECT_EQ(half, 0x4800);
}

TEST(Checkpoint, OpensShardsAsOneModel) {
  const test::TempFolder temp;
  small_model().write_sharded(temp.path(), 3);
  const auto checkpoint = open_checkpoint(real_disk(), temp.path());
  ASSERT_EQ(checkpoint->files().size(), 3U);
  EXPECT_EQ(checkpoint->files()[2].path, temp / "model-00003-of-00003.safetensors");
  ASSERT_EQ(checkpoint->tensors().size(), 4U);
  for (const char* name :
       {"model.embed_tokens.weight", "model.ids", "model.layers.0.w", "model.layers.1.w"}) {
    EXPECT_TRUE(checkpoint->find(name)) << name;
  }
  float value = 0;
  const std::size_t tensor = *checkpoint->find("model.layers.0.w");
  checkpoint->will_need(tensor, 0, 2);
  checkpoint->read(tensor, 1, std::as_writable_bytes(std::span(&value, 1)));
  EXPECT_EQ(value, -1.0F);
}

TEST(Checkpoint, ASingleFileIsAModelWithoutConfig) {
  const test::TempFolder temp;
  small_model().weights.write(temp / "anything.safetensors");
  const auto checkpoint = open_checkpoint(real_disk(), temp / "anything.safetensors");
  EXPECT_TRUE(checkpoint->config().is_null());
  EXPECT_EQ(checkpoint->model_type(), "");
  EXPECT_EQ(checkpoint->architecture(), "");
  EXPECT_FALSE(checkpoint->ties_embeddings());
  EXPECT_TRUE(checkpoint->tokenizer_files().empty());
  EXPECT_EQ(checkpoint->tensors().size(), 4U);
}

TEST(Checkpoint, LinksOfTheHubCacheAreFollowed) {
  const test::TempFolder temp;
  temp.make_folder("blobs");
  temp.make_folder("snapshots/c0");
  small_model().weights.write(temp / "blobs/0123");
  test::write_file(temp / "blobs/4567", R"({"model_type":"gemma"})");
  std::filesystem::create_symlink("../../blobs/0123", temp / "snapshots/c0/model.safetensors");
  std::filesystem::create_symlink("../../blobs/4567", temp / "snapshots/c0/config.json");
  const auto checkpoint = open_checkpoint(real_disk(), temp / "snapshots/c0");
  EXPECT_EQ(checkpoint->tensors().size(), 4U);
  EXPECT_TRUE(checkpoint->ties_embeddings());
  EXPECT_EQ(open_checkpoint(real_disk(), temp / "blobs/0123")->tensors().size(), 4U);
}

TEST(Checkpoint, WeightsAreFoundUnderAnyOneName) {
  ByteDisk disk;
  disk.files["m/fine-tuned.safetensors"] = one_tensor("a");
  disk.files["m/adapter_model.safetensors"] = one_tensor("x");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("a"));
  disk.files["m/model.safetensors"] = one_tensor("b");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("b"));
  disk.files[kIndex] = index_of(R"({"c":"weights.safetensors"})");
  disk.files["m/weights.safetensors"] = one_tensor("c");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("c"));
  EXPECT_EQ(open_checkpoint(disk, "m")->files().size(), 1U);
}

TEST(Checkpoint, ASingleNumberedFileIsWhole) {
  ByteDisk disk;
  disk.files["m/model-00001-of-00001.safetensors"] = one_tensor("a");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("a"));
  EXPECT_TRUE(open_checkpoint(disk, "m/model-00001-of-00001.safetensors")->find("a"));
}

struct RefusedFolder {
  const char* what;
  std::map<std::string, std::string> files;
  ErrorCode code;
  const char* message;
  const char* hint;
  const char* place;  // path of the error
  const char* opened = "m";
};

TEST(Checkpoint, FoldersThatAreNoModelAreRefused) {
  const std::string weights = one_tensor("a");
  const RefusedFolder cases[] = {
      {"nothing there",
       {{"x/y", ""}},
       ErrorCode::NotFound,
       "there is no model at `m`",
       "give a model folder",
       "m"},
      {"no weights",
       {{"m/config.json", "{}"}},
       ErrorCode::NotFound,
       "no weights in `m`",
       "model.safetensors",
       "m"},
      {"an empty PyTorch file",
       {{"m/pytorch_model.bin", ""}},
       ErrorCode::Corrupt,
       "`m/pytorch_model.bin` is not a PyTorch checkpoint",
       "fetch it again",
       "m/pytorch_model.bin"},
      {"GGUF",
       {{"m/q8.gguf", ""}, {"m/q4.gguf", ""}},
       ErrorCode::Mismatch,
       "`m` holds several models in GGUF",
       "m/q4.gguf",
       "m"},
      {"an empty GGUF file",
       {{"m/q8.gguf", ""}},
       ErrorCode::Corrupt,
       "`m/q8.gguf` is no sound GGUF file: it is too short",
       "fetch it again",
       "m/q8.gguf",
       "m/q8.gguf"},
      {"only leftovers of training",
       {{"m/training_args.bin", ""}, {"m/optimizer.pt", ""}, {"m/rng_state_0.pth", ""}},
       ErrorCode::NotFound,
       "no weights in `m`",
       "model.safetensors",
       "m"},
      {"PyTorch shards without their index",
       {{"m/pytorch_model-00001-of-00002.bin", ""}},
       ErrorCode::NotFound,
       "their index pytorch_model.bin.index.json is missing",
       "fetch the index",
       "m"},
      {"one PyTorch shard",
       {{"m/pytorch_model-00001-of-00002.bin", ""}},
       ErrorCode::Mismatch,
       "is one of 2 parts of a model",
       "name its folder",
       "m/pytorch_model-00001-of-00002.bin",
       "m/pytorch_model-00001-of-00002.bin"},
      {"two PyTorch files",
       {{"m/a.pt", ""}, {"m/b.pth", ""}, {"m/optimizer.pt", ""}},
       ErrorCode::Mismatch,
       "2 PyTorch files and none is called pytorch_model.bin: a.pt, b.pth",
       "name the one that is meant",
       "m"},
      {"a PyTorch adapter",
       {{"m/adapter_model.bin", ""}},
       ErrorCode::Mismatch,
       "`m` is an adapter",
       "Model[Adapter]",
       "m"},
      {"index without shards' index",
       {{"m/model-00001-of-00002.safetensors", weights}},
       ErrorCode::NotFound,
       "their index model.safetensors.index.json is missing",
       "fetch the index",
       "m"},
      {"shards of a variant",
       {{"m/model.fp16-00001-of-00002.safetensors", weights}, {"m/x.safetensors", weights}},
       ErrorCode::NotFound,
       "shards such as model.fp16-00001-of-00002.safetensors",
       "index",
       "m"},
      {"one shard",
       {{"m/model-00001-of-00002.safetensors", weights}},
       ErrorCode::Mismatch,
       "is one of 2 parts of a model",
       "name its folder",
       "m/model-00001-of-00002.safetensors",
       "m/model-00001-of-00002.safetensors"},
      {"the index itself",
       {{kIndex, "{}"}},
       ErrorCode::Unsupported,
       "holds no weights",
       "name its folder",
       kIndex,
       kIndex},
      {"two odd names",
       {{"m/a.safetensors", weights}, {"m/b.safetensors", weights}},
       ErrorCode::Mismatch,
       "2 safetensors files and none is called model.safetensors: a.safetens",
       "name the one that is meant",
       "m"},
      {"an adapter",
       {{"m/adapter_model.safetensors", weights}, {"m/adapter_config.json", "{}"}},
       ErrorCode::Mismatch,
       "is an adapter, not a model",
       "Model[Adapter]",
       "m"},
      {"LFS pointer as weights",
       {{"m/model.safetensors", "version https://git-lfs.github.com/spec/v1\noid x\n"}},
       ErrorCode::Corrupt,
       "this is a Git-LFS pointer, not the file",
       "git lfs pull",
       "m/model.safetensors"},
      {"LFS pointer as config",
       {{"m/config.json", "version https://git-lfs.github.com/spec/v1\n"},
        {"m/model.safetensors", weights}},
       ErrorCode::Corrupt,
       "this is a Git-LFS pointer, not the file",
       "git lfs pull",
       "m/config.json"},
      {"config is no object",
       {{"m/config.json", "[]"}, {"m/model.safetensors", weights}},
       ErrorCode::Corrupt,
       "is not a JSON object",
       "",
       "m/config.json"},
      {"config is no JSON",
       {{"m/config.json", "{"}, {"m/model.safetensors", weights}},
       ErrorCode::Corrupt,
       "not valid JSON",
       "",
       "m/config.json"},
      {"config is huge",
       {{"m/config.json", std::string(4'000'001, ' ')}, {"m/model.safetensors", weights}},
       ErrorCode::Corrupt,
       "at most 4000000 are expected",
       "",
       "m/config.json"},
      {"empty weights",
       {{"m/model.safetensors", ""}},
       ErrorCode::Corrupt,
       "it has 0 bytes",
       "fetch it again",
       "m/model.safetensors"},
  };
  for (const RefusedFolder& refusal : cases) {
    SCOPED_TRACE(refusal.what);
    ByteDisk disk;
    disk.files = refusal.files;
    const Error error = error_of([&] { open_checkpoint(disk, refusal.opened); });
    EXPECT_EQ(error.code(), refusal.code) << to_string(error);
    EXPECT_NE(error.message().find(refusal.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find(refusal.hint), std::string::npos) << error.hint();
    EXPECT_EQ(path_of(error), refusal.place);
  }
}

struct BadIndex {
  const char* what;
  std::string text;
  ErrorCode code;
  const char* message;
};

TEST(Checkpoint, BrokenIndicesAreRefused) {
  const BadIndex cases[] = {
      {"no JSON", "{", ErrorCode::Corrupt, "does not hold valid JSON"},
      {"array", "[]", ErrorCode::Corrupt, "not a JSON object"},
      {"number", "1", ErrorCode::Corrupt, "not a JSON object"},
      {"no map", R"({"metadata":{}})", ErrorCode::Corrupt, "has no `weight_map`"},
      {"map elsewhere", R"({"metadata":{"weight_map":{"a":"x.safetensors"}}})", ErrorCode::Corrupt,
       "has no `weight_map`"},
      {"empty map", index_of("{}"), ErrorCode::Corrupt, "names no tensor"},
      {"map is an array", index_of("[]"), ErrorCode::Corrupt, "`weight_map` is not an object"},
      {"map is null", index_of("null"), ErrorCode::Corrupt, "`weight_map` is not an object"},
      {"map twice", R"({"weight_map":{"a":"x"},"weight_map":{"b":"x"}})", ErrorCode::Corrupt,
       "`weight_map` stands twice"},
      {"file is a number", index_of(R"({"a":1})"), ErrorCode::Corrupt,
       "the file of tensor `a` is not text"},
      {"file is an object", index_of(R"({"a":{}})"), ErrorCode::Corrupt,
       "of tensor `a` is not text"},
      {"file is an array", index_of(R"({"a":[]})"), ErrorCode::Corrupt,
       "of tensor `a` is not text"},
      {"tensor twice", index_of(R"({"a":"x.safetensors","a":"x.safetensors"})"), ErrorCode::Corrupt,
       "tensor `a` stands twice"},
      {"tensor twice in two files", index_of(R"({"a":"x.safetensors","a":"y.safetensors"})"),
       ErrorCode::Corrupt, "tensor `a` stands twice"},
      {"absolute path", index_of(R"({"a":"/etc/passwd"})"), ErrorCode::Corrupt,
       "tensor `a` is said to be in `/etc/passwd`"},
      {"folder above", index_of(R"({"a":"../x.safetensors"})"), ErrorCode::Corrupt,
       "is said to be"},
      {"two dots", index_of(R"({"a":".."})"), ErrorCode::Corrupt, "is said to be"},
      {"one dot", index_of(R"({"a":"."})"), ErrorCode::Corrupt, "is said to be"},
      {"sub-folder", index_of(R"({"a":"s/x.safetensors"})"), ErrorCode::Corrupt, "is said to be"},
      {"backslash", index_of(R"({"a":"s\\x.safetensors"})"), ErrorCode::Corrupt, "is said to be"},
      {"NUL", index_of("{\"a\":\"x\\u0000.safetensors\"}"), ErrorCode::Corrupt, "is said to be"},
      {"empty name", index_of(R"({"a":""})"), ErrorCode::Corrupt, "is said to be"},
      {"LFS pointer", "version https://git-lfs.github.com/spec/v1\n", ErrorCode::Corrupt,
       "Git-LFS pointer"},
      {"deep", R"({"metadata":)" + std::string(20, '[') + std::string(20, ']') + "}",
       ErrorCode::Corrupt, "nested more than 16 deep"},
  };
  for (const BadIndex& bad : cases) {
    SCOPED_TRACE(bad.what);
    ByteDisk disk = two_shards();
    disk.files[kIndex] = bad.text;
    const Error error = error_of([&] { open_checkpoint(disk, "m"); });
    EXPECT_EQ(error.code(), bad.code) << to_string(error);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
    EXPECT_EQ(path_of(error), kIndex);
  }
}

// A PyTorch file of one tensor of one byte.
std::string pytorch_tensor(const std::string& name) {
  const std::string storage = test::py_storage("ByteStorage", "0", 1);
  return test::torch_zip(
      test::py_pickle(test::py_dict({{name, test::py_tensor(storage, 0, {1}, {1})}})), {"x"});
}

TEST(Checkpoint, SafetensorsGoBeforePyTorch) {
  ByteDisk disk;
  disk.files["m/config.json"] = "{}";
  disk.files["m/other.pt"] = pytorch_tensor("other");
  disk.files["m/training_args.bin"] = "";
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("other"));
  disk.files["m/pytorch_model.bin"] = pytorch_tensor("whole");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("whole"));
  disk.files["m/part.bin"] = pytorch_tensor("part");
  disk.files["m/pytorch_model.bin.index.json"] = index_of(R"({"part":"part.bin"})");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("part"));
  disk.files["m/odd.safetensors"] = one_tensor("odd");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("odd"));
  disk.files["m/model.safetensors"] = one_tensor("model");
  EXPECT_TRUE(open_checkpoint(disk, "m")->find("model"));
}

TEST(Checkpoint, PyTorchShardsAreHeldToTheirIndex) {
  const auto folder = [](const std::string& weight_map) {
    ByteDisk disk;
    disk.files["m/config.json"] = "{}";
    disk.files["m/1.bin"] = pytorch_tensor("module.a");
    disk.files["m/2.bin"] = pytorch_tensor("module.b");
    disk.files["m/pytorch_model.bin.index.json"] = index_of(weight_map);
    return disk;
  };
  ByteDisk good = folder(R"({"module.a":"1.bin","module.b":"2.bin"})");
  const auto checkpoint = open_checkpoint(good, "m");
  EXPECT_EQ(checkpoint->tensors().size(), 2U);
  EXPECT_TRUE(checkpoint->find("a"));  // the prefix goes when all is checked
  ByteDisk missing = folder(R"({"module.a":"1.bin","module.b":"3.bin"})");
  EXPECT_EQ(error_of([&] { open_checkpoint(missing, "m"); }).code(), ErrorCode::NotFound);
  ByteDisk swapped = folder(R"({"module.a":"2.bin","module.b":"1.bin"})");
  const Error error = error_of([&] { open_checkpoint(swapped, "m"); });
  EXPECT_EQ(error.code(), ErrorCode::Corrupt);
  EXPECT_NE(error.message().find("module.a in 1.bin instead of 2.bin"), std::string::npos)
      << error.message();
  EXPECT_EQ(path_of(error), "m/pytorch_model.bin.index.json");
}

TEST(Checkpoint, QuantisedPyTorchFilesAreRefusedLikeOthers) {
  ByteDisk disk;
  disk.files["m.bin"] = pytorch_tensor("layers.0.qweight");
  const Error error = error_of([&] { open_checkpoint(disk, "m.bin"); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("GPTQ"), std::string::npos) << error.message();
}

TEST(Checkpoint, IndexAndShardsMustAgree) {
  {
    ByteDisk disk = two_shards();
    EXPECT_EQ(open_checkpoint(disk, "m")->tensors().size(), 2U);
  }
  struct Case {
    const char* what;
    const char* map;
    const char* message;
  };
  const Case cases[] = {
      {"in no shard",
       R"({"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors",)"
       R"("c":"model-00002-of-00002.safetensors","d":"model-00001-of-00002.safetensors"})",
       "tensors that no shard holds: 2 (c, d)"},
      {"not in the index",
       R"({"b":"model-00002-of-00002.safetensors","a2":"model-00001-of-00002.safetensors"})",
       "tensors that no shard holds: 1 (a2); tensors missing from the index: 1 (a)"},
      {"last one not in the index",
       R"({"a":"model-00001-of-00002.safetensors","a0":"model-00002-of-00002.safetensors"})",
       "tensors missing from the index: 1 (b)"},
      {"exchanged",
       R"({"b":"model-00001-of-00002.safetensors","a":"model-00002-of-00002.safetensors"})",
       "tensors in another shard: 2 (a in model-00001-of-00002.safetensors instead of "
       "model-00002-of-00002.safetensors"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.what);
    ByteDisk disk = two_shards();
    disk.files[kIndex] = index_of(test.map);
    const Error error = error_of([&] { open_checkpoint(disk, "m"); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_NE(error.message().find(test.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find("fetch the whole folder again"), std::string::npos);
    EXPECT_EQ(path_of(error), kIndex);
  }
}

TEST(Checkpoint, ATensorInTwoShardsIsRefused) {
  ByteDisk disk = two_shards();
  disk.files[std::string("m/") + kPart2] = one_tensor("a");
  const Error error = error_of([&] { open_checkpoint(disk, "m"); });
  EXPECT_EQ(error.code(), ErrorCode::Corrupt);
  EXPECT_NE(error.message().find("tensor `a` is in two files, `m/model-00001-of-00002.safetensors` "
                                 "and `m/model-00002-of-00002.safetensors`"),
            std::string::npos)
      << error.message();
  EXPECT_NE(error.hint().find("fetch"), std::string::npos);
}

TEST(Checkpoint, MissingShardsAreAllListed) {
  ByteDisk disk = two_shards();
  disk.files.erase(std::string("m/") + kPart1);
  disk.files.erase(std::string("m/") + kPart2);
  const Error error = error_of([&] { open_checkpoint(disk, "m"); });
  EXPECT_EQ(error.code(), ErrorCode::NotFound);
  EXPECT_NE(error.message().find("2 of the 2 shards of `m` are missing: model-00001-of-00002.saf"),
            std::string::npos)
      << error.message();
  EXPECT_NE(error.message().find(kPart2), std::string::npos);
  EXPECT_NE(error.hint().find("fetch the missing files"), std::string::npos);

  const test::TempFolder temp;
  small_model().write_sharded(temp.path(), 3);
  std::filesystem::remove(temp / "model-00002-of-00003.safetensors");
  std::filesystem::create_symlink("nowhere", temp / "model-00002-of-00003.safetensors");
  const Error dangling = error_of([&] { open_checkpoint(real_disk(), temp.path()); });
  EXPECT_EQ(dangling.code(), ErrorCode::NotFound);
  EXPECT_NE(dangling.message().find("1 of the 3 shards"), std::string::npos) << dangling.message();
}

TEST(Checkpoint, ATruncatedShardIsNamed) {
  ByteDisk disk = two_shards();
  disk.files[std::string("m/") + kPart2].pop_back();
  const Error error = error_of([&] { open_checkpoint(disk, "m"); });
  EXPECT_EQ(error.code(), ErrorCode::Corrupt);
  EXPECT_EQ(path_of(error), std::string("m/") + kPart2);
  EXPECT_NE(error.message().find("announces"), std::string::npos) << error.message();
}

TEST(Checkpoint, QuantisedConfigsAreRefusedByMethod) {
  struct Case {
    const char* config;
    const char* message;
  };
  const Case cases[] = {
      {R"({"quantization_config":{"quant_method":"gptq","bits":4}})", "quantised with gptq"},
      {R"({"quantization_config":{"quant_method":"hqq"}})", "quantised with hqq"},
      {R"({"quantization_config":{"bits":3}})", "a method that its config.json does not name"},
      {R"({"compression_config":{"quant_method":"compressed-tensors"}})", "compressed-tensors"},
      {R"({"text_config":{"quantization_config":{"quant_method":"awq"}}})", "quantised with awq"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.config);
    ByteDisk disk;
    disk.files["m/model.safetensors"] = one_tensor("a");
    disk.files["m/config.json"] = test.config;
    const Error error = error_of([&] { open_checkpoint(disk, "m"); });
    EXPECT_EQ(error.code(), ErrorCode::Unsupported);
    EXPECT_NE(error.message().find(test.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find("16-bit"), std::string::npos);
    EXPECT_EQ(path_of(error), "m/config.json");
  }
  for (const char* harmless : {R"({"quantization_config":null})", R"({"quantization_config":{}})",
                               R"({"text_config":3})"}) {
    ByteDisk disk;
    disk.files["m/model.safetensors"] = one_tensor("a");
    disk.files["m/config.json"] = harmless;
    EXPECT_TRUE(open_checkpoint(disk, "m")->find("a")) << harmless;
  }
}

TEST(Checkpoint, ModelOptIsRefusedByItsOwnFile) {
  ByteDisk disk;
  disk.files["m/model.safetensors"] = one_tensor("a");
  disk.files["m/hf_quant_config.json"] = R"({"quantization":{"quant_algo":"NVFP4"}})";
  const Error error = error_of([&] { open_checkpoint(disk, "m"); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("modelopt NVFP4"), std::string::npos) << error.message();
  EXPECT_EQ(path_of(error), "m/hf_quant_config.json");
}

TEST(Checkpoint, QuantisedTensorsAreRefusedByMethod) {
  struct Case {
    const char* tensor;
    Dtype dtype;
    const char* method;
  };
  const Case cases[] = {
      {"l.0.q.qweight", Dtype::I32, "GPTQ or AWQ"},
      {"l.0.q.qzeros", Dtype::I32, "GPTQ or AWQ"},
      {"l.0.q.SCB", Dtype::F32, "bitsandbytes (8-bit)"},
      {"l.0.q.weight.absmax", Dtype::F32, "bitsandbytes (4-bit)"},
      {"l.0.q.weight.quant_map", Dtype::F32, "bitsandbytes (4-bit)"},
      {"l.0.q.weight_scale_inv", Dtype::F32, "block-wise FP8"},
      {"l.0.q.weight_scale", Dtype::BF16, "FP8 or another scaled format"},
      {"l.0.q.weight_scale_2", Dtype::F32, "ModelOpt NVFP4"},
      {"l.0.q.weight_packed", Dtype::I32, "compressed-tensors"},
      {"l.0.q.weight_global_scale", Dtype::F32, "compressed-tensors FP4"},
      {"l.0.q.weight_zero_point", Dtype::I8, "compressed-tensors"},
      {"l.0.q.qscale_weight", Dtype::F32, "Mistral"},
      {"l.0.q.qscale_act", Dtype::F32, "Mistral"},
      {"l.0.q.input_scale", Dtype::F32, "FP8 or another scaled format"},
      {"l.0.q.W_q", Dtype::U8, "HQQ"},
      {"l.0.q.weight._data", Dtype::I8, "quanto"},
      {"block.0.mlp.mlp1_weight.blocks", Dtype::U8, "MXFP4 (OpenAI's own layout)"},
      {"l.0.q.weight_scale", Dtype::F8E8M0, "quantised with a microscaling format"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.tensor);
    ByteDisk disk;
    disk.files["m/model.safetensors"] = one_tensor(test.tensor, test.dtype);
    for (const char* path : {"m", "m/model.safetensors"}) {
      const Error error = error_of([&] { open_checkpoint(disk, path); });
      EXPECT_EQ(error.code(), ErrorCode::Unsupported);
      EXPECT_NE(error.message().find(test.method), std::string::npos) << error.message();
      EXPECT_NE(error.hint().find("16-bit"), std::string::npos);
      const auto* place = std::get_if<TensorPlace>(&error.where());
      ASSERT_NE(place, nullptr);
      EXPECT_EQ(place->tensor, test.tensor);
      EXPECT_EQ(place->source, "m/model.safetensors");
    }
  }
  ByteDisk disk;
  disk.files["m/model.safetensors"] = one_tensor("model.position_ids", Dtype::I64);
  EXPECT_EQ(open_checkpoint(disk, "m")->tensors().size(), 1U);
}

TEST(Checkpoint, TiedEmbeddingsFollowFieldThenClass) {
  const std::pair<const char*, bool> cases[] = {
      {R"({"model_type":"llama"})", false},
      {R"({"model_type":"llama","tie_word_embeddings":true})", true},
      {R"({"model_type":"qwen2"})", false},
      {R"({"model_type":"gpt_neox"})", false},
      {R"({"model_type":"gemma"})", true},
      {R"({"model_type":"gemma2","tie_word_embeddings":false})", false},
      {R"({"model_type":"gpt2"})", true},
      {R"({"model_type":"falcon"})", true},
      {R"({"model_type":"llava","text_config":{"model_type":"llama"}})", false},
      {R"({"model_type":"llava","text_config":{"tie_word_embeddings":true}})", true},
      {R"({"model_type":"x","tie_word_embeddings":false,"text_config":{"tie_word_embeddings":true}})",
       false},
      {R"({})", true},
  };
  for (const auto& [config, tied] : cases) {
    ByteDisk disk;
    disk.files["m/model.safetensors"] = one_tensor("a");
    disk.files["m/config.json"] = config;
    EXPECT_EQ(open_checkpoint(disk, "m")->ties_embeddings(), tied) << config;
  }
}

TEST(Checkpoint, OddConfigFieldsAreTakenAsUnknown) {
  for (const char* config : {R"({"model_type":5,"architectures":"Llama"})",
                             R"({"architectures":[]})", R"({"architectures":[3]})"}) {
    ByteDisk disk;
    disk.files["m/model.safetensors"] = one_tensor("a");
    disk.files["m/config.json"] = config;
    const auto checkpoint = open_checkpoint(disk, "m");
    EXPECT_EQ(checkpoint->model_type(), "") << config;
    EXPECT_EQ(checkpoint->architecture(), "") << config;
  }
}

TEST(Shards, ThreadsReadTogether) {
  const test::TempFolder temp;
  std::vector<std::string> paths;
  for (int i = 0; i < 150; ++i) {
    paths.push_back(temp / std::to_string(1000 + i));
    SafetensorsBuilder()
        .add("t" + std::to_string(1000 + i), Dtype::U8, {1}, {1.0 * i})
        .write(paths.back());
  }
  const ShardedSource source(real_disk(), paths);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 600; ++i) {
        const std::size_t tensor = (i * 7 + t * 31) % source.tensors().size();
        std::byte value{};
        source.read(tensor, 0, std::span(&value, 1));
        wrong[t] += static_cast<std::size_t>(value) != tensor;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace thorns
