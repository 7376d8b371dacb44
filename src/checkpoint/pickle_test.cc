#include "checkpoint/pickle.h"

#include <gtest/gtest.h>

#include <string>

#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/pytorch_builder.h"

namespace thorns {
namespace {

using test::error_of;
using test::py_call;
using test::py_dict;
using test::py_global;
using test::py_int;
using test::py_pickle;
using test::py_text;
using test::py_tuple;
using Kind = PickleValue::Kind;

// Read from the middle of a file, so that positions of both kinds show.
Pickle read(const std::string& bytes) {
  test::ByteDisk disk;
  disk.files["p"] = "before " + bytes;
  const auto file = disk.open("p");
  return read_pickle({*file, 7, file->size()});
}

TEST(Pickle, ReadsEveryKindOfValue) {
  const Pickle pickle =
      read("\x80\x02" +
           py_tuple({"N", "\x88", "\x89", "J\xfe\xff\xff\xff", "K\xff", "M\x01\x02",
                     std::string("\x8a\x00", 2), "\x8a\x01\xff", "\x8a\x02\x80\x01",
                     py_text("word"), "U\x02xy", "\x8c\x01z", "C\x02\x01\x02",
                     std::string("G\x40\x09\x21\xfb\x54\x44\x2d\x18", 9), "]", "}", "\x8f", ")"}) +
           ".and more");
  const PickleValue& tuple = pickle[pickle.root];
  ASSERT_EQ(tuple.kind, Kind::Tuple);
  ASSERT_EQ(tuple.items.size(), 18U);
  const auto item = [&](std::size_t i) -> const PickleValue& { return pickle.item(tuple, i); };
  EXPECT_EQ(item(0).kind, Kind::None);
  EXPECT_EQ(item(1).number, 1);
  EXPECT_EQ(item(2).number, 0);
  EXPECT_EQ(item(3).number, -2);
  EXPECT_EQ(item(4).number, 255);
  EXPECT_EQ(item(5).number, 0x201);
  EXPECT_EQ(item(6).number, 0);
  EXPECT_EQ(item(7).number, -1);
  EXPECT_EQ(item(8).number, 0x180);
  EXPECT_EQ(item(9).text, "word");
  EXPECT_EQ(item(10).text, "xy");
  EXPECT_EQ(item(11).text, "z");
  EXPECT_EQ(item(12).kind, Kind::Bytes);
  EXPECT_EQ(item(13).kind, Kind::Float);
  EXPECT_EQ(item(14).kind, Kind::List);
  EXPECT_EQ(item(15).kind, Kind::Dict);
  EXPECT_EQ(item(16).kind, Kind::Set);
  EXPECT_EQ(item(17).kind, Kind::Tuple);
  EXPECT_EQ(item(0).at, 3U);
  EXPECT_EQ(pickle.begin, 7U);
}

TEST(Pickle, FillsContainersAndRemembers) {
  // {"a": [1, 2], "b": the same list}, the list by way of the memo.
  const Pickle pickle =
      read(py_pickle("}(" + py_text("a") + "]q\x05(K\x01K\x02" + "e" + py_text("b") + "h\x05u" +
                     py_text("c") + "j" + std::string("\x05\0\0\0", 4) + "s"));
  const PickleValue& dict = pickle[pickle.root];
  ASSERT_EQ(dict.items.size(), 6U);
  EXPECT_EQ(dict.items[1], dict.items[3]);
  EXPECT_EQ(dict.items[1], dict.items[5]);
  EXPECT_EQ(pickle.item(dict, 1).items.size(), 2U);
}

TEST(Pickle, ProtocolFour) {
  const std::string body =
      "\x8c\x0b"
      "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94";
  const Pickle pickle = read("\x80\x04\x95" + std::string("\x03\0\0\0\0\0\0\0", 8) + body + ".");
  EXPECT_EQ(pickle[pickle.root].kind, Kind::Dict);
  EXPECT_TRUE(pickle[pickle.root].ordered);
}

TEST(Pickle, ACallIsANote) {
  const Pickle pickle = read(py_pickle(py_call("torch", "device", {py_text("cuda"), "K\x01"})));
  const PickleValue& call = pickle[pickle.root];
  ASSERT_EQ(call.kind, Kind::Call);
  ASSERT_EQ(call.items.size(), 3U);
  EXPECT_EQ(pickle.item(call, 0).global->name, "device");
  EXPECT_EQ(pickle.item(call, 1).text, "cuda");
}

TEST(Pickle, OrderedDictsAreDicts) {
  const std::string pair = py_tuple({py_text("a"), "K\x01"});
  const std::string made = py_call("collections", "OrderedDict", {"](" + pair + pair + "e"});
  // With attributes, as state_dict() gives it; they are passed over.
  const Pickle pickle = read(py_pickle(made + py_dict({{"_metadata", "}"}}) + "b"));
  EXPECT_EQ(pickle[pickle.root].items.size(), 4U);
}

TEST(Pickle, AListMayHoldItself) {
  const Pickle pickle = read(py_pickle(std::string("]q\0h\0a", 6)));
  const PickleValue& list = pickle[pickle.root];
  ASSERT_EQ(list.items.size(), 1U);
  EXPECT_EQ(list.items[0], pickle.root);
}

struct RefusedPickle {
  const char* what;
  std::string bytes;
  ErrorCode code;
  const char* message;
  long long at;  // from the beginning of the pickle
};

TEST(Pickle, NamesThatAreNotOnTheListAreRefused) {
  struct Name {
    const char* module;
    const char* name;
  };
  const Name names[] = {
      {"posix", "system"},
      {"os", "system"},
      {"nt", "system"},
      {"__builtin__", "eval"},
      {"builtins", "exec"},
      {"builtins", "getattr"},
      {"builtins", "__import__"},
      {"subprocess", "Popen"},
      {"runpy", "_run_code"},
      {"pip", "main"},
      {"webbrowser", "open"},
      {"numpy.core.multiarray", "_reconstruct"},
      {"torch", "load"},
      {"torch.hub", "load"},
      {"torch", "os.system"},
      {"torch._utils", "_rebuild_tensor_v2.__globals__"},
      {"torch.storage", "_load_from_bytes"},
      {"collections", "orderedDict"},
      {"Collections", "OrderedDict"},
      {"collections ", "OrderedDict"},
      {"torch.cuda", "device"},
      {"", ""},
  };
  for (const Name& name : names) {
    const std::string full = std::string("`") + name.module + "." + name.name + "`";
    SCOPED_TRACE(full);
    // Called at once with a command, as an attack would.
    const Error direct = error_of([&] {
      read(
          py_pickle("K\x01" + py_global(name.module, name.name) + py_tuple({py_text("id")}) + "R"));
    });
    EXPECT_EQ(direct.code(), ErrorCode::Unsupported);
    EXPECT_NE(direct.message().find(full), std::string::npos) << direct.message();
    EXPECT_NE(direct.message().find("nothing was executed"), std::string::npos);
    EXPECT_NE(direct.message().find("byte 4 of its pickle"), std::string::npos);
    EXPECT_EQ(test::path_of(direct), "p");
    EXPECT_EQ(test::offset_of(direct), 7 + 4);
    const Error stacked =
        error_of([&] { read(py_pickle(py_text(name.module) + py_text(name.name) + "\x93)R")); });
    EXPECT_NE(stacked.message().find(full), std::string::npos) << stacked.message();
  }
}

TEST(Pickle, KnownRefusalsSayWhat) {
  const auto message = [](const char* module, const char* name) {
    return error_of([&] { read(py_pickle(py_global(module, name))); }).message();
  };
  EXPECT_NE(message("torch._utils", "_rebuild_qtensor").find("quantised"), std::string::npos);
  EXPECT_NE(message("torch._utils", "_rebuild_sparse_tensor").find("sparse"), std::string::npos);
  EXPECT_NE(message("torch.nn.modules.linear", "Linear").find("whole model"), std::string::npos);
  EXPECT_NE(message("a\x1b[2J\xff", "b").find("`a\\x1b[2J\\xff.b`"), std::string::npos);
}

TEST(Pickle, HostileAndBrokenOnesAreRefused) {
  constexpr auto kCorrupt = ErrorCode::Corrupt;
  constexpr auto kUnsupported = ErrorCode::Unsupported;
  const std::string ordered = py_global("collections", "OrderedDict");
  const RefusedPickle cases[] = {
      {"empty", "", kCorrupt, "ends before its end mark", 0},
      {"no protocol", "N.", kCorrupt, "not with a protocol", 0},
      {"protocol 0", std::string("\x80\0N.", 4), kUnsupported, "pickle protocol 0", 0},
      {"protocol 6", "\x80\x06N.", kUnsupported, "pickle protocol 6", 0},
      {"a second protocol", "\x80\x02\x80\x02N.", kCorrupt, "a second protocol", 2},
      {"no end mark", "\x80\x02N", kCorrupt, "ends before its end mark", 3},
      {"nothing on the stack", "\x80\x02.", kCorrupt, "a value is used that is not there", 2},
      {"left over", "\x80\x02NN.", kCorrupt, "left over", 4},
      {"open mark", "\x80\x02(N.", kCorrupt, "left over", 4},
      {"INST", py_pickle("(iposix\nsystem\n"), kUnsupported, "opcode INST", 3},
      {"OBJ", py_pickle("(" + ordered + "o"), kUnsupported, "opcode OBJ", 28},
      {"EXT1", py_pickle("\x82\x01"), kUnsupported, "opcode EXT", 2},
      {"EXT4", py_pickle(std::string("\x84\x01\0\0\0", 5)), kUnsupported, "opcode EXT", 2},
      {"PERSID", py_pickle("P0\n"), kUnsupported, "opcode PERSID", 2},
      {"NEWOBJ_EX", py_pickle(ordered + ")}\x92"), kUnsupported, "opcode NEWOBJ_EX", 29},
      {"next buffer", py_pickle("\x97"), kUnsupported, "out-of-band buffer", 2},
      {"BYTEARRAY8", py_pickle("\x96"), kUnsupported, "BYTEARRAY8", 2},
      {"POP", py_pickle("N0"), kCorrupt, "byte 0x30 is no opcode of a state dict", 3},
      {"DUP", py_pickle("N2"), kCorrupt, "byte 0x32 is no opcode", 3},
      {"ADDITEMS", py_pickle("\x8f(N\x90"), kCorrupt, "byte 0x90 is no opcode", 5},
      {"text opcode", py_pickle("I1\n"), kCorrupt, "byte 0x49 is no opcode", 2},
      {"setitem on a list", py_pickle("]NNs"), kCorrupt, "put into a list as if it were a dict", 5},
      {"setitems on a tuple", py_pickle(")(NNu"), kCorrupt, "into a tuple as if", 6},
      {"setitems on a number", py_pickle("K\x05(NNu"), kCorrupt, "into a number as if", 7},
      {"odd setitems", py_pickle("}(NNNu"), kCorrupt, "a key without a value", 7},
      {"append to a dict", py_pickle("}Na"), kCorrupt, "into a dict as if it were a list", 4},
      {"appends to a text", py_pickle(py_text("x") + "(Ne"), kCorrupt, "into a text as if", 10},
      {"nothing under appends", py_pickle("(Ne"), kCorrupt, "that is not there", 4},
      {"beneath a mark", py_pickle("N(a"), kCorrupt, "that are not there", 4},
      {"no mark", py_pickle("Nt"), kCorrupt, "a mark is closed that is not open", 3},
      {"tuple of too few", py_pickle("N\x86"), kCorrupt, "that are not there", 3},
      {"memo never set", py_pickle("h\x07"), kCorrupt,
       "remembered as 7 is used and was never remembered", 2},
      {"memo far beyond", py_pickle("j\xff\xff\xff\xff"), kCorrupt, "never remembered", 2},
      {"memo too large", py_pickle("Nr\xff\xff\xff\xff"), kUnsupported, "remembered values", 3},
      {"put of nothing", py_pickle(std::string("q\0", 2)), kCorrupt, "that is not there", 2},
      {"memoize nothing", py_pickle("\x94"), kCorrupt, "that is not there", 2},
      {"text beyond the end", py_pickle(std::string("X\xff\xff\x0f\0", 5)), kCorrupt, "ends before",
       7},
      {"text too large", py_pickle("X\xff\xff\xff\xff"), kCorrupt, "a text of 4294967295 bytes", 7},
      {"text of 2^63", py_pickle(std::string("\x8d\0\0\0\0\0\0\0\x80", 9)), kCorrupt,
       "a text of 9223372036854775808 bytes", 11},
      {"frame beyond the end", py_pickle(std::string("\x95\xff\0\0\0\0\0\0\0N", 10)), kCorrupt,
       "a frame goes beyond", 2},
      {"name too long", py_pickle("c" + std::string(300, 'a') + "\nb\n"), kCorrupt,
       "a name of more than 256 bytes", 3},
      {"name without an end",
       "\x80\x02"
       "ctorch",
       kCorrupt, "ends before", 8},
      {"name that is no text", py_pickle("K\x01" + py_text("x") + "\x93"), kCorrupt,
       "a Python name that is not text", 10},
      {"number called", py_pickle("K\x01)R"), kCorrupt, "a number is called", 5},
      {"result called", py_pickle(ordered + ")R)R"), kCorrupt, "a dict is called", 30},
      {"call without a tuple", py_pickle(ordered + "]R"), kCorrupt, "arguments are no tuple", 28},
      {"storage class called", py_pickle(py_global("torch", "FloatStorage") + ")R"), kCorrupt,
       "`torch.FloatStorage` is called", 23},
      {"element type called", py_pickle(py_global("torch", "float16") + ")\x81"), kCorrupt,
       "`torch.float16` is called", 18},
      {"too few arguments",
       py_pickle(py_call("torch._utils", "_rebuild_tensor_v2", {"N", "N", "N"})), kCorrupt,
       "`torch._utils._rebuild_tensor_v2` is called with 3 arguments", 40},
      {"too many arguments", py_pickle(py_call("torch", "Size", {")", ")"})), kCorrupt,
       "called with 2 arguments", 18},
      {"OrderedDict of a text", py_pickle(ordered + py_text("x") + "\x85R"), kCorrupt,
       "of something else than a list", 34},
      {"OrderedDict of numbers",
       py_pickle(ordered + "]K\x01"
                           "a\x85R"),
       kCorrupt, "of something else than pairs", 32},
      {"attributes of a list", py_pickle("]}b"), kCorrupt, "attributes are given to a list", 4},
      {"attributes of a dict", py_pickle("}}b"), kCorrupt, "attributes are given to a dict", 4},
      {"attributes of a size", py_pickle(py_call("torch", "Size", {")"}) + "}b"), kCorrupt,
       "attributes are given to a Python object", 19},
      {"reference that is no tuple", py_pickle(py_text("0") + "Q"), kCorrupt,
       "an outside reference that is no tuple", 8},
      {"marks", py_pickle(std::string(300, '(')), kUnsupported, "more than 256 marks", 258},
  };
  for (const RefusedPickle& refusal : cases) {
    SCOPED_TRACE(refusal.what);
    const Error error = error_of([&] { read(refusal.bytes); });
    EXPECT_EQ(error.code(), refusal.code) << to_string(error);
    EXPECT_NE(error.message().find(refusal.message), std::string::npos) << error.message();
    EXPECT_EQ(test::offset_of(error), 7 + refusal.at) << error.message();
  }
}

TEST(Pickle, BombsMeetALimit) {
  // Four million values of a byte each, and one more.
  const Error values = error_of([] { read(py_pickle("(" + std::string(4'000'001, ']') + "t")); });
  EXPECT_EQ(values.code(), ErrorCode::Unsupported);
  EXPECT_NE(values.message().find("more than 4000000 values"), std::string::npos);
  // One list of many pairs copied into ever more dicts.
  std::string bomb = "]q\x01(" + std::string(test::py_tuple({"N", "N"})) + "q\x02";
  for (int i = 0; i < 50'000; ++i) bomb += "h\x02";
  bomb += "e" + py_global("collections", "OrderedDict") + "q\x03(";
  for (int i = 0; i < 1000; ++i) bomb += "h\x03h\x01\x85R";
  const Error copies = error_of([&] { read(py_pickle(bomb + "t")); });
  EXPECT_EQ(copies.code(), ErrorCode::Unsupported) << to_string(copies);
}

TEST(Pickle, TupleInTupleToAnyDepth) {
  std::string body = ")";
  for (int i = 0; i < 200'000; ++i) body += "\x85";
  EXPECT_EQ(read(py_pickle(body)).values.size(), 200'001U);
}

}  // namespace
}  // namespace thorns
