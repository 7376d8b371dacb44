#include "checkpoint/pytorch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/weights_file.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/pytorch_builder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::kPyFalse;
using test::kPyHooks;
using test::kPyNone;
using test::kPyTrue;
using test::py_call;
using test::py_dict;
using test::py_global;
using test::py_int;
using test::py_ints;
using test::py_pickle;
using test::py_storage;
using test::py_tensor;
using test::py_text;
using test::py_tuple;
using test::torch_legacy;
using test::torch_zip;

const std::string kGolden = std::string(THORNS_TEST_DATA) + "/golden/pytorch/";
constexpr const char* kPath = "m/w.bin";

std::string all_of(const TensorSource& source, std::size_t tensor) {
  std::string bytes(source.tensors()[tensor].bytes(), '?');
  source.read(tensor, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

// As the engine reads: a few elements at a time.
std::string in_runs(const TensorSource& source, std::size_t tensor, std::uint64_t run) {
  const TensorInfo& info = source.tensors()[tensor];
  std::string bytes;
  for (std::uint64_t first = 0; first < info.elements; first += run) {
    const std::uint64_t count = std::min(run, info.elements - first);
    std::string piece(count * size_of(info.dtype), '?');
    source.will_need(tensor, first, count);
    source.read(tensor, first, std::as_writable_bytes(std::span(piece)));
    bytes += piece;
  }
  return bytes;
}

void expect_same(const TensorSource& source, const TensorSource& expected) {
  ASSERT_EQ(source.tensors().size(), expected.tensors().size());
  for (std::size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    SCOPED_TRACE(info.name);
    EXPECT_EQ(info.name, expected.tensors()[i].name);
    EXPECT_EQ(info.dtype, expected.tensors()[i].dtype);
    EXPECT_EQ(info.shape, expected.tensors()[i].shape);
    EXPECT_EQ(info.elements, expected.tensors()[i].elements);
    EXPECT_EQ(all_of(source, i), all_of(expected, i));
    for (const std::uint64_t run : {1, 3, 7}) {
      EXPECT_EQ(in_runs(source, i, run), all_of(expected, i));
    }
  }
}

TEST(PyTorch, ReadsWhatTorchWrites) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden)) {
    if (entry.path().extension() != ".pt") continue;
    SCOPED_TRACE(entry.path().filename());
    std::filesystem::path expected = entry.path();
    expected.replace_extension(".expected.safetensors");
    expect_same(*open_checkpoint(real_disk(), entry.path().string()),
                *open_weights(real_disk(), expected.string()));
    ++files;
  }
  EXPECT_GE(files, 13U);
}

TEST(PyTorch, ReadsAFolderOfShards) {
  const auto checkpoint = open_checkpoint(real_disk(), kGolden + "sharded");
  expect_same(*checkpoint, *open_weights(real_disk(), kGolden + "sharded/expected.safetensors"));
}

// ---- files made by hand

std::unique_ptr<Checkpoint> open(const std::string& bytes, const char* path = kPath) {
  static ByteDisk disk;  // lives as long as what is opened from it
  disk.files[path] = bytes;
  return open_checkpoint(disk, path);
}

std::string floats(const std::vector<double>& values) { return test::encode(Dtype::F32, values); }

const std::string kFour = floats({1, 2, 3, 4});
const std::string kStorage = py_storage("FloatStorage", "0", 4);
const std::string kTensor = py_tensor(kStorage, 0, {2, 2}, {2, 1});

// A checkpoint of one tensor `a` made by `tensor`, over a storage of four floats.
std::string one(const std::string& tensor) {
  return torch_zip(py_pickle(py_dict({{"a", tensor}})), {kFour});
}

TEST(PyTorch, OtherWaysToMakeATensor) {
  const std::string zero = py_int(0);
  const std::string shape = py_ints({2, 2});
  const std::string strides = py_ints({2, 1});
  const std::string ways[] = {
      kTensor,
      py_call("torch._utils", "_rebuild_tensor", {kStorage, zero, shape, strides}),
      py_call("torch._utils", "_rebuild_tensor_v2",
              {kStorage, zero, py_call("torch", "Size", {shape}), strides, kPyTrue, kPyHooks,
               py_dict({{"conj", kPyFalse}})}),
      py_call("torch._utils", "_rebuild_tensor_v2",
              {kStorage, zero, "](" + py_int(2) + py_int(2) + "e", strides, kPyFalse, kPyNone,
               kPyNone}),
      py_call("torch._utils", "_rebuild_tensor_v3",
              {py_tuple({py_text("storage"), py_global("torch.storage", "UntypedStorage"),
                         py_text("0"), py_text("cuda:0"), py_int(16)}) +
                   "Q",
               zero, shape, strides, kPyFalse, kPyHooks, py_global("torch", "float32")}),
      py_call("torch._utils", "_rebuild_parameter", {kTensor, kPyTrue, kPyHooks}),
      py_call("torch._utils", "_rebuild_parameter_with_state", {kTensor, kPyTrue, kPyHooks, "}"}),
      py_call("torch.nn.parameter", "Parameter", {kTensor, kPyTrue}),
      py_call("torch.nn.parameter", "Parameter", {kTensor}) + "}b",
      py_call("torch._tensor", "_rebuild_from_type_v2",
              {py_global("torch._utils", "_rebuild_tensor_v2"),
               py_global("torch.nn.parameter", "Parameter"),
               py_tuple({kStorage, zero, shape, strides, kPyFalse, kPyHooks}), "}"}),
      py_tensor(py_tuple({py_text("storage"), py_global("torch.cuda", "FloatStorage"), py_text("0"),
                          py_text("cuda:0"), py_int(4)}) +
                    "Q",
                0, {2, 2}, {2, 1}),
  };
  for (const std::string& way : ways) {
    const auto checkpoint = open(one(way));
    ASSERT_EQ(checkpoint->tensors().size(), 1U);
    EXPECT_EQ(checkpoint->tensors()[0].shape, (std::vector<std::uint64_t>{2, 2}));
    EXPECT_EQ(all_of(*checkpoint, 0), kFour);
  }
}

TEST(PyTorch, LegacyViewsOfStorages) {
  // Elements 2 to 4 of six as a storage of their own, and the tensor the last two of them.
  const std::string view =
      py_tuple({py_text("storage"), py_global("torch", "FloatStorage"), py_text("77"),
                py_text("cpu"), py_int(6), py_tuple({py_text("78"), py_int(2), py_int(3)})}) +
      "Q";
  const auto legacy = [&](std::int64_t offset) {
    return torch_legacy(py_pickle(py_dict({{"a", py_tensor(view, offset, {2}, {1})}})),
                        {{"77", 6, floats({0, 1, 2, 3, 4, 5})}});
  };
  EXPECT_EQ(all_of(*open(legacy(1)), 0), floats({3, 4}));
  const Error error = error_of([&] { open(legacy(2)); });
  EXPECT_NE(error.message().find("goes beyond its storage of 3 elements"), std::string::npos)
      << error.message();
}

TEST(PyTorch, TheFolderInTheArchiveMayHaveAnyName) {
  const std::string pickle = py_pickle(py_dict({{"a", kTensor}}));
  const auto checkpoint =
      open(test::zip_of({{.name = "some name/data.pkl", .bytes = pickle, .padding = 30},
                         {"some name/.format_version", "1"},
                         {"some name/byteorder", "little"},
                         {.name = "some name/data/0", .bytes = kFour, .padding = 9},
                         {"some name/version", "3\n"}},
                        true));
  EXPECT_EQ(all_of(*checkpoint, 0), kFour);
}

TEST(PyTorch, NothingIsNoTensor) {
  const auto checkpoint =
      open(torch_zip(py_pickle(py_dict({{"bias", kPyNone}, {"a", kTensor}})), {kFour}));
  ASSERT_EQ(checkpoint->tensors().size(), 1U);
}

TEST(PyTorch, ThePrefixGoesOnlyWhereEveryNameHasIt) {
  const auto names = [](const test::PyItems& items) {
    std::vector<std::string> found;
    const auto checkpoint = open(torch_zip(py_pickle(py_dict(items)), {kFour}));
    for (const TensorInfo& info : checkpoint->tensors()) found.push_back(info.name);
    return found;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({{"module.b", kTensor}, {"module.a", kTensor}}), (Names{"a", "b"}));
  EXPECT_EQ(names({{"module.b", kTensor}, {"a", kTensor}}), (Names{"a", "module.b"}));
  EXPECT_EQ(names({{"module.", kTensor}}), (Names{"module."}));
}

TEST(PyTorch, WhatAFileHoldsDecidesHowItIsRead) {
  EXPECT_EQ(all_of(*open(one(kTensor), "m/x.safetensors"), 0), kFour);
  EXPECT_EQ(all_of(*open(one(kTensor), "m/x"), 0), kFour);
  const std::string safetensors =
      test::SafetensorsBuilder().add("a", Dtype::F32, {4}, {1, 2, 3, 4}).bytes();
  EXPECT_EQ(all_of(*open(safetensors, "m/x.bin"), 0), kFour);
  // A header whose length looks like the beginning of a pickle.
  std::string header = R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
  header.resize(0x280, ' ');
  EXPECT_EQ(all_of(*open(test::raw_safetensors(header, kFour), "m/x.bin"), 0), kFour);
}

// A disk that counts the bytes that are read.
class MeteredDisk final : public ByteDisk {
 public:
  std::unique_ptr<ReadFile> open(const std::string& path) override {
    return std::make_unique<Metered>(ByteDisk::open(path), bytes_read);
  }
  std::uint64_t bytes_read = 0;

 private:
  class Metered final : public ReadFile {
   public:
    Metered(std::unique_ptr<ReadFile> file, std::uint64_t& bytes)
        : file_(std::move(file)), bytes_(bytes) {}
    void read(std::uint64_t offset, std::span<std::byte> to) const override {
      bytes_ += to.size();
      file_->read(offset, to);
    }
    void will_need(std::uint64_t, std::uint64_t) const override {}
    std::uint64_t size() const override { return file_->size(); }
    const std::string& path() const override { return file_->path(); }

   private:
    std::unique_ptr<ReadFile> file_;
    std::uint64_t& bytes_;
  };
};

TEST(PyTorch, OpeningReadsNoNumbers) {
  const std::string numbers(8 << 20, 'x');
  const std::string pickle = py_pickle(
      py_dict({{"a", py_tensor(py_storage("HalfStorage", "0", 4 << 20), 0, {4 << 20}, {1})}}));
  for (const std::string& bytes :
       {torch_zip(pickle, {numbers}), torch_legacy(pickle, {{"0", 4 << 20, numbers}})}) {
    MeteredDisk disk;
    disk.files[kPath] = bytes;
    const auto checkpoint = open_checkpoint(disk, kPath);
    EXPECT_LE(disk.bytes_read, 500'000U);
    const std::uint64_t before = disk.bytes_read;
    std::string some(2000, '\0');
    checkpoint->read(0, 1 << 20, std::as_writable_bytes(std::span(some)));
    EXPECT_EQ(some, std::string(2000, 'x'));
    EXPECT_EQ(disk.bytes_read - before, 2000U);
  }
}

// ---- refusals

struct RefusedFile {
  const char* what;
  std::string bytes;
  ErrorCode code;
  const char* message;
};

constexpr auto kCorrupt = ErrorCode::Corrupt;
constexpr auto kUnsupported = ErrorCode::Unsupported;

void expect_refused(const RefusedFile& refusal) {
  SCOPED_TRACE(refusal.what);
  const Error error = error_of([&] { open(refusal.bytes); });
  EXPECT_EQ(error.code(), refusal.code) << to_string(error);
  EXPECT_NE(error.message().find(refusal.message), std::string::npos) << error.message();
  EXPECT_EQ(test::path_of(error), kPath);
  EXPECT_GE(test::offset_of(error), 0);
}

TEST(PyTorch, AnAttackIsNamedWithItsPlace) {
  const std::string pickle = py_pickle(py_global("posix", "system") + py_text("id") + "\x85R");
  const std::string file = torch_zip(pickle, {});
  const Error error = error_of([&] { open(file); });
  EXPECT_EQ(error.code(), kUnsupported);
  EXPECT_NE(error.message().find("`posix.system`"), std::string::npos) << error.message();
  EXPECT_EQ(test::path_of(error), kPath);
  EXPECT_EQ(test::offset_of(error), static_cast<long long>(file.find("cposix")));
  // In the old format, and as a bare pickle.
  const std::string legacy = torch_legacy(pickle, {});
  EXPECT_EQ(test::offset_of(error_of([&] { open(legacy); })),
            static_cast<long long>(legacy.find("cposix")));
  EXPECT_EQ(test::offset_of(error_of([&] { open(pickle); })), 2);
}

TEST(PyTorch, FilesOfOtherFormatsAreRefused) {
  const std::string pickle = py_pickle(py_dict({{"a", kTensor}}));
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  const RefusedFile cases[] = {
      {"empty", "", kCorrupt, "neither a zip archive nor a pickle"},
      {"text", "hello, world", kCorrupt, "neither a zip archive nor a pickle"},
      {"web page", "<!DOCTYPE html>", kCorrupt, "neither a zip archive nor a pickle"},
      {"LFS pointer", "version https://git-lfs.github.com/spec/v1\n", kCorrupt, "Git-LFS pointer"},
      {"tar", tar, kUnsupported, "before version 0.2"},
      {"preview", "PYTORCH1 and more", kUnsupported, "before version 0.2"},
      {"bare pickle", pickle, kUnsupported, "a bare pickle"},
      {"no data.pkl", test::zip_of({{"archive/data", "x"}}), kUnsupported, "without a data.pkl"},
      {"data.pkl without a folder", test::zip_of({{"data.pkl", pickle}, {"data/0", kFour}}),
       kUnsupported, "without a data.pkl"},
      {"data.pkl in another folder", test::zip_of({{"a/data/0", kFour}, {"b/data.pkl", pickle}}),
       kUnsupported, "without a data.pkl"},
      {"no records", test::zip_of({{"x", ""}}), kUnsupported, "without a data.pkl"},
      {"TorchScript", torch_zip(pickle, {kFour}, {{"archive/constants.pkl", ""}}), kUnsupported,
       "TorchScript"},
      {"big endian", torch_zip(pickle, {kFour}, {{"archive/byteorder", "big"}}), kUnsupported,
       "not little endian"},
      {"no byte order", torch_zip(pickle, {kFour}, {{"archive/byteorder", ""}}), kUnsupported,
       "not little endian"},
      {"long byte order",
       torch_zip(pickle, {kFour}, {{"archive/byteorder", std::string(100, 'x')}}), kCorrupt,
       "`archive/byteorder` has 100 bytes"},
      {"newer", torch_zip(pickle, {kFour}, {{"archive/version", "11"}}), kUnsupported, "version"},
      {"odd version", torch_zip(pickle, {kFour}, {{"archive/version", "x"}}), kUnsupported,
       "version"},
      {"bytes behind the pickle", torch_zip(pickle + "x", {kFour}), kCorrupt,
       "bytes behind the end mark"},
      {"a second pickle", torch_zip(pickle + pickle, {kFour}), kCorrupt,
       "bytes behind the end mark"},
  };
  for (const RefusedFile& refusal : cases) expect_refused(refusal);
}

TEST(PyTorch, WhatIsNoStateDictIsRefused) {
  const auto zip = [](const std::string& body) { return torch_zip(py_pickle(body), {kFour}); };
  const std::string state = py_dict({{"a", kTensor}});
  std::string deep = state;
  for (int i = 0; i < 4; ++i) deep = py_dict({{"model", deep}});
  const RefusedFile cases[] = {
      {"nothing", zip("N"), kUnsupported, "it holds None, expected a dict"},
      {"a list", zip("]"), kUnsupported, "it holds a list"},
      {"a tensor", zip(kTensor), kUnsupported, "it holds a tensor"},
      {"a device", zip(py_call("torch", "device", {"N"})), kUnsupported, "a Python object"},
      {"empty", zip("}"), kCorrupt, "it holds no tensors"},
      {"no tensors", zip(py_dict({{"a", kPyNone}})), kCorrupt, "it holds no tensors"},
      {"a number", zip(py_dict({{"epoch", "K\x01"}, {"a", kTensor}})), kUnsupported,
       "`epoch` of its state dict is a number"},
      {"a dict in it", zip(py_dict({{"model", state}, {"a", kTensor}})), kUnsupported,
       "`model` of its state dict is a dict"},
      {"a dict of other names", zip(py_dict({{"language_model", state}})), kUnsupported,
       "`language_model` of its state dict is a dict"},
      {"a device in it", zip(py_dict({{"a", py_call("torch", "device", {"N"})}})), kUnsupported,
       "`a` of its state dict is made by `torch.device`"},
      {"two models", zip(py_dict({{"model", state}, {"state_dict", state}})), kUnsupported,
       "both a `model` and a `state_dict`"},
      {"too deep", zip(deep), kUnsupported, "too deep"},
      {"a number as a name", zip("}K\x01" + kTensor + "s"), kCorrupt,
       "a number stands where a tensor's name should"},
      {"a name twice", zip(py_dict({{"a", kTensor}, {"a", kTensor}})), kCorrupt,
       "the tensor name `a` stands twice"},
      {"not UTF-8", zip(py_dict({{"\xff", kTensor}})), kCorrupt, "not UTF-8"},
  };
  for (const RefusedFile& refusal : cases) expect_refused(refusal);
}

TEST(PyTorch, TensorsThatDoNotHoldTogetherAreRefused) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  const std::string zero = py_int(0);
  const std::string shape = py_ints({2, 2});
  const std::string strides = py_ints({2, 1});
  const auto v2 = [&](const std::string& storage, const std::string& offset,
                      const std::string& size, const std::string& stride) {
    return one(py_call("torch._utils", "_rebuild_tensor_v2",
                       {storage, offset, size, stride, kPyFalse, kPyHooks}));
  };
  const auto reference = [&](const std::vector<std::string>& parts) {
    return v2(py_tuple(parts) + "Q", zero, shape, strides);
  };
  const std::string text = py_text("storage");
  const std::string type = py_global("torch", "FloatStorage");
  const auto untyped = [&](std::int64_t bytes, const std::string& dtype) {
    return one(py_call("torch._utils", "_rebuild_tensor_v3",
                       {py_tuple({text, py_global("torch.storage", "UntypedStorage"), py_text("0"),
                                  py_text("cpu"), py_int(bytes)}) +
                            "Q",
                        zero, shape, strides, kPyFalse, kPyHooks, dtype}));
  };
  std::string wrapped = kTensor;
  for (int i = 0; i < 5; ++i) {
    wrapped = py_call("torch._utils", "_rebuild_parameter", {wrapped, kPyFalse, kPyHooks});
  }
  const auto metadata = [&](const std::string& given) {
    return one(py_call("torch._utils", "_rebuild_tensor_v2",
                       {kStorage, zero, shape, strides, kPyFalse, kPyHooks, given}));
  };
  const auto from_type = [&](const std::string& function, const std::string& of,
                             const std::string& arguments) {
    return one(py_call("torch._tensor", "_rebuild_from_type_v2", {function, of, arguments, "}"}));
  };
  const std::string rebuild = py_global("torch._utils", "_rebuild_tensor_v2");
  const std::string tensor_type = py_global("torch", "Tensor");
  const std::string good = py_tuple({kStorage, zero, shape, strides, kPyFalse, kPyHooks});
  const std::vector<std::int64_t> many(17, 1);
  const RefusedFile cases[] = {
      // Storages.
      {"no reference", v2(py_tuple({}), zero, shape, strides), kCorrupt,
       "tensor `a` lies in a tuple, expected a storage"},
      {"empty reference", reference({}), kCorrupt, "none to a storage"},
      {"another reference", reference({py_text("other"), type, py_text("0"), "N", "N"}), kCorrupt,
       "none to a storage"},
      {"short reference", reference({text, type, py_text("0")}), kCorrupt, "none to a storage"},
      {"whole module", reference({py_text("module"), type, "N", "N"}), kUnsupported,
       "a whole model as Python objects"},
      {"no type", reference({text, "N", py_text("0"), py_text("cpu"), py_int(4)}), kCorrupt,
       "the type of a storage is none"},
      {"a type of tensors", reference({text, tensor_type, py_text("0"), py_text("cpu"), py_int(4)}),
       kCorrupt, "the type of a storage is none"},
      {"key that leads away", reference({text, type, py_text("../0"), py_text("cpu"), py_int(4)}),
       kCorrupt, "not a number in digits"},
      {"empty key", reference({text, type, py_text(""), py_text("cpu"), py_int(4)}), kCorrupt,
       "not a number in digits"},
      {"key as a number", reference({text, type, "K\x01", py_text("cpu"), py_int(4)}), kCorrupt,
       "not a number in digits"},
      {"device as a number", reference({text, type, py_text("0"), "K\x01", py_int(4)}), kCorrupt,
       "the device of a storage"},
      {"negative size", v2(py_storage("FloatStorage", "0", -4), zero, shape, strides), kCorrupt,
       "the size of a storage is not a whole number"},
      {"size as text", reference({text, type, py_text("0"), py_text("cpu"), py_text("4")}),
       kCorrupt, "the size of a storage is not a whole number"},
      {"size of 2^62", v2(py_storage("FloatStorage", "0", kHuge), zero, shape, strides), kCorrupt,
       "storage 0 is too large to count"},
      {"no such record", v2(py_storage("FloatStorage", "1", 4), zero, shape, strides), kCorrupt,
       "storage 1 is not in the file"},
      {"record too short", v2(py_storage("FloatStorage", "0", 5), zero, shape, strides), kCorrupt,
       "storage 0 should have 20 bytes, its record has 16"},
      {"record too long", v2(py_storage("HalfStorage", "0", 4), zero, shape, strides), kCorrupt,
       "storage 0 should have 8 bytes, its record has 16"},
      {"one storage, two types",
       torch_zip(py_pickle(py_dict(
                     {{"a", kTensor},
                      {"b", py_tensor(py_storage("IntStorage", "0", 4), 0, {2, 2}, {2, 1})}})),
                 {kFour}),
       kCorrupt, "4 elements of torch.IntStorage here and 4 of torch.FloatStorage before"},
      {"one storage, two sizes",
       torch_zip(
           py_pickle(py_dict({{"a", kTensor},
                              {"b", py_tensor(py_storage("FloatStorage", "0", 3), 0, {1}, {1})}})),
           {kFour}),
       kCorrupt, "3 elements of torch.FloatStorage here and 4"},
      {"quantised storage", v2(py_storage("QInt8Storage", "0", 16), zero, shape, strides),
       kUnsupported, "tensor `a` is of type `torch.QInt8Storage`"},
      {"complex storage",
       v2(py_storage("ComplexFloatStorage", "0", 2), zero, py_ints({2}), py_ints({1})),
       kUnsupported, "`torch.ComplexFloatStorage`"},
      {"bytes without a type",
       v2(py_tuple({text, py_global("torch.storage", "UntypedStorage"), py_text("0"),
                    py_text("cpu"), py_int(16)}) +
              "Q",
          zero, shape, strides),
       kUnsupported, "`torch.storage.UntypedStorage`"},
      {"bytes of a foreign type", untyped(16, py_global("torch", "complex64")), kUnsupported,
       "`torch.complex64`"},
      {"bytes of no type", untyped(16, "N"), kCorrupt, "has no type of elements"},
      {"bytes of a storage type", untyped(16, type), kCorrupt, "has no type of elements"},
      {"too few bytes for the type", untyped(16, py_global("torch", "float64")), kCorrupt,
       "goes beyond its storage of 2 elements"},

      // Shapes and strides.
      {"beyond the storage", v2(kStorage, zero, py_ints({5}), py_ints({1})), kCorrupt,
       "tensor `a` of shape [5] goes beyond its storage of 4 elements"},
      {"offset beyond", v2(kStorage, py_int(1), shape, strides), kCorrupt, "goes beyond"},
      {"offset of 2^62", v2(kStorage, py_int(kHuge), py_ints({1}), py_ints({1})), kCorrupt,
       "goes beyond"},
      {"empty far away", v2(kStorage, py_int(5), py_ints({0}), py_ints({1})), kCorrupt,
       "goes beyond"},
      {"strides beyond", v2(kStorage, zero, shape, py_ints({3, 1})), kCorrupt, "goes beyond"},
      {"strides that overflow", v2(kStorage, zero, py_ints({5, 1}), py_ints({kHuge, 1})), kCorrupt,
       "goes beyond"},
      {"strides whose sum overflows", v2(kStorage, zero, py_ints({3, 3}), py_ints({kHuge, kHuge})),
       kCorrupt, "goes beyond"},
      {"negative offset", v2(kStorage, py_int(-1), shape, strides), kCorrupt,
       "the offset of a tensor is not a whole number"},
      {"negative size", v2(kStorage, zero, py_ints({-2, 2}), strides), kCorrupt,
       "a size or stride is not a whole number"},
      {"negative stride", v2(kStorage, zero, shape, py_ints({-1, 1})), kCorrupt,
       "a size or stride is not a whole number"},
      {"a stride too few", v2(kStorage, zero, shape, py_ints({1})), kCorrupt,
       "2 dimensions and 1 strides"},
      {"shape as a number", v2(kStorage, zero, "K\x04", strides), kCorrupt,
       "has a shape that is no tuple"},
      {"17 dimensions", v2(kStorage, zero, py_ints(many), py_ints(many)), kCorrupt,
       "more than 16 dimensions"},
      {"elements of 2^64", v2(kStorage, zero, py_ints({kHuge, 4}), py_ints({0, 0})), kCorrupt,
       "too large to count"},
      {"bytes of 2^64", v2(kStorage, zero, py_ints({kHuge}), py_ints({0})), kCorrupt,
       "too large to count"},
      {"expanded without end", v2(kStorage, zero, py_ints({std::int64_t{1} << 40}), py_ints({0})),
       kUnsupported, "is expanded from a storage of only 4 elements"},

      // What makes them.
      {"requires_grad as text",
       one(py_call("torch._utils", "_rebuild_tensor_v2",
                   {kStorage, zero, shape, strides, py_text("x"), kPyHooks})),
       kCorrupt, "odd requires_grad"},
      {"hooks as text",
       one(py_call("torch._utils", "_rebuild_tensor_v2",
                   {kStorage, zero, shape, strides, kPyFalse, py_text("x")})),
       kCorrupt, "odd hooks"},
      {"conjugated", metadata(py_dict({{"conj", kPyTrue}})), kUnsupported, "negates or conjugates"},
      {"negated", metadata(py_dict({{"conj", kPyFalse}, {"neg", kPyTrue}})), kUnsupported,
       "negates or conjugates"},
      {"metadata as text", metadata(py_text("x")), kCorrupt, "odd metadata"},
      {"wrapped too often", one(wrapped), kCorrupt, "is wrapped too often"},
      {"empty parameter", one(py_call("torch.nn.parameter", "Parameter", {})), kCorrupt,
       "a parameter without numbers"},
      {"parameter of a number",
       one(py_call("torch._utils", "_rebuild_parameter", {"K\x01", kPyFalse, kPyHooks})),
       kUnsupported, "is a number, not a tensor"},
      {"made by a class", from_type(tensor_type, tensor_type, good), kCorrupt,
       "made by something that makes no tensors"},
      {"made by a number", from_type("K\x01", tensor_type, good), kCorrupt,
       "made by something that makes no tensors"},
      {"of no type", from_type(rebuild, "N", good), kCorrupt, "of a type that is no tensor's"},
      {"of too little", from_type(rebuild, tensor_type, py_tuple({kStorage, zero})), kCorrupt,
       "is made by `torch._utils._rebuild_tensor_v2` of 2 arguments"},
  };
  for (const RefusedFile& refusal : cases) expect_refused(refusal);
}

TEST(PyTorch, BrokenLegacyFilesAreRefused) {
  const std::string pickle = py_pickle(py_dict({{"a", kTensor}}));
  const std::string good = torch_legacy(pickle, {{"0", 4, kFour}});
  ASSERT_EQ(all_of(*open(good), 0), kFour);
  std::string protocol = good;
  protocol.replace(protocol.find("M\xe9\x03."), 3, "M\xe8\x03");
  const std::string head = test::kLegacyMagic + py_pickle("M\xe9\x03");
  const RefusedFile cases[] = {
      {"another magic number",
       py_pickle("\x8a\x0a"
                 "0123456789"),
       kUnsupported, "a bare pickle"},
      {"another protocol", protocol, kUnsupported, "its protocol is not 1001"},
      {"big endian", torch_legacy(pickle, {{"0", 4, kFour}}, kPyFalse), kUnsupported,
       "not little endian"},
      {"no machine", head + py_pickle("}"), kCorrupt, "does not say whether"},
      {"machine as a list", head + py_pickle("]"), kCorrupt, "is no dict"},
      {"unlisted storage", torch_legacy(pickle, {}), kCorrupt, "storage 0 is not in the file"},
      {"unknown storage", torch_legacy(pickle, {{"0", 4, kFour}, {"1", 4, kFour}}), kCorrupt,
       "a storage is listed that its pickle does not speak of"},
      {"storage twice", torch_legacy(pickle, {{"0", 4, kFour}, {"0", 4, kFour}}), kCorrupt,
       "a storage is listed twice"},
      {"other size", torch_legacy(pickle, {{"0", 5, kFour}}), kCorrupt,
       "storage 0 has 5 elements, its pickle says 4"},
      {"cut in a storage", good.substr(0, good.size() - 1), kCorrupt, "goes beyond its end"},
      {"cut in a size", good.substr(0, good.size() - 20), kCorrupt, "goes beyond its end"},
      {"bytes behind", good + "x", kCorrupt, "1 bytes behind its last storage"},
  };
  for (const RefusedFile& refusal : cases) expect_refused(refusal);
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(open(good.substr(0, size)), Error) << size;
  }
}

}  // namespace
}  // namespace thorns
