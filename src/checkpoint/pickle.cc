#include "checkpoint/pickle.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace thorns {
namespace {

using Kind = PickleValue::Kind;

constexpr std::uint64_t kMostBytes = 64'000'000;  // of a pickle; 100 000 tensors need 30 MB
constexpr std::size_t kMostValues = 4'000'000;
constexpr std::size_t kMostMemo = kMostValues;
constexpr std::size_t kMostMarks = 256;  // open at a time
constexpr std::size_t kMostName = 256;   // bytes of a module's or a global's name
constexpr const char* kSaveAsSafetensors =
    "load it where you trust it and save its state_dict() as safetensors";

// Opcodes by the names that Python's pickletools gives them.
enum Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8A,
  kLong4 = 0x8B,
  kShortBinUnicode = 0x8C,
  kBinUnicode8 = 0x8D,
  kEmptySet = 0x8F,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

// What an opcode that is refused does, for those that are well known.
const char* refused_opcode(std::uint8_t opcode) {
  switch (opcode) {
    case 'i':
      return "INST, which calls a Python name";
    case 'o':
      return "OBJ, which calls a Python name";
    case 0x82:
    case 0x83:
    case 0x84:
      return "EXT, which calls a registered Python name";
    case 'P':
      return "PERSID, an outside reference as text";
    case 0x92:
      return "NEWOBJ_EX, which calls a Python name";
    case 0x96:
      return "BYTEARRAY8";
    case 0x97:
    case 0x98:
      return "NEXT_BUFFER or READONLY_BUFFER, for an out-of-band buffer";
    default:
      return nullptr;
  }
}

// A name from a stranger as it can stand in a message.
std::string printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    if (c >= 0x20 && c < 0x7F) {
      shown += c;
    } else {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return shown;
}

class Machine {
 public:
  explicit Machine(const FileRange& range) : range_(range), in_(range) {
    pickle_.path = range.file.path();
    pickle_.begin = range.begin;
  }

  Pickle run() {
    if (const std::uint8_t first = in_.byte(); first != kProto) {
      in_.fail(0, fmt::format("it begins with byte 0x{:02x}, not with a protocol", first));
    }
    if (const std::uint8_t protocol = in_.byte(); protocol < 2 || protocol > 5) {
      in_.fail(0, fmt::format("pickle protocol {}", protocol), ErrorCode::Unsupported,
               kSaveAsSafetensors);
    }
    for (;;) {
      at_ = in_.position();
      if (at_ > kMostBytes) too_large(fmt::format("more than {} bytes", kMostBytes));
      const std::uint8_t opcode = in_.byte();
      if (opcode == kStop) break;
      step(opcode);
    }
    pickle_.root = pop();
    if (!stack_.empty() || !marks_.empty()) fail("values are left over at its end mark");
    pickle_.end = range_.begin + in_.position();
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const { in_.fail(at_, why); }
  [[noreturn]] void too_large(const std::string& why) const {
    in_.fail(at_, "it has " + why, ErrorCode::Unsupported,
             "if it is a checkpoint after all, save it in several files");
  }

  void step(std::uint8_t opcode) {
    switch (opcode) {
      case kProto:
        return fail("a second protocol");
      case kFrame:
        if (in_.little_endian(8) > in_.left()) fail("a frame goes beyond the pickle");
        return;

      case kNone:
        return push(Kind::None);
      case kNewTrue:
        return push_number(Kind::Bool, 1);
      case kNewFalse:
        return push_number(Kind::Bool, 0);
      case kBinInt:
        return push_number(Kind::Int, static_cast<std::int32_t>(in_.little_endian(4)));
      case kBinInt1:
        return push_number(Kind::Int, static_cast<std::int64_t>(in_.little_endian(1)));
      case kBinInt2:
        return push_number(Kind::Int, static_cast<std::int64_t>(in_.little_endian(2)));
      case kLong1:
        return push_long(in_.little_endian(1));
      case kLong4:
        return push_long(in_.little_endian(4));
      case kBinFloat:
        in_.big_endian(8);
        return push(Kind::Float);

      case kShortBinString:
      case kShortBinUnicode:
        return push_text(Kind::Text, in_.little_endian(1));
      case kBinUnicode:
        return push_text(Kind::Text, in_.little_endian(4));
      case kBinUnicode8:
        return push_text(Kind::Text, in_.little_endian(8));
      case kShortBinBytes:
        return push_text(Kind::Bytes, in_.little_endian(1));
      case kBinBytes:
        return push_text(Kind::Bytes, in_.little_endian(4));

      case kMark:
        if (marks_.size() == kMostMarks) too_large(fmt::format("more than {} marks", kMostMarks));
        marks_.push_back(stack_.size());
        return;
      case kEmptyTuple:
        return push_tuple(0);
      case kTuple1:
        return push_tuple(1);
      case kTuple2:
        return push_tuple(2);
      case kTuple3:
        return push_tuple(3);
      case kTuple: {
        const std::size_t count = pop_mark();
        return push_tuple(count);
      }
      case kEmptyList:
        return push(Kind::List);
      case kEmptyDict:
        return push(Kind::Dict);
      case kEmptySet:
        return push(Kind::Set);
      case kAppend:
        return add(Kind::List, 1);
      case kAppends:
        return add(Kind::List, pop_mark());
      case kSetItem:
        return add(Kind::Dict, 2);
      case kSetItems: {
        const std::size_t count = pop_mark();
        if (count % 2 != 0) fail("a key without a value");
        return add(Kind::Dict, count);
      }

      case kBinPut:
        return put(in_.little_endian(1));
      case kLongBinPut:
        return put(in_.little_endian(4));
      case kMemoize:
        return put(memoized_);
      case kBinGet:
        return get(in_.little_endian(1));
      case kLongBinGet:
        return get(in_.little_endian(4));

      case kGlobal: {
        const std::string module = in_.line(kMostName);
        return push_global(module, in_.line(kMostName));
      }
      case kStackGlobal: {
        const PickleId name = pop();
        const PickleId module = pop();
        if (pickle_[name].kind != Kind::Text || pickle_[module].kind != Kind::Text) {
          fail("a Python name that is not text");
        }
        return push_global(pickle_[module].text, pickle_[name].text);
      }
      case kReduce:
      case kNewObj:
        return call();
      case kBuild:
        return build();
      case kBinPersId: {
        const PickleId reference = pop();
        if (pickle_[reference].kind != Kind::Tuple) fail("an outside reference that is no tuple");
        push(Kind::Persistent);
        top_value().items = {reference};
        return;
      }
      default:
        refuse_opcode(opcode);
    }
  }

  [[noreturn]] void refuse_opcode(std::uint8_t opcode) const {
    if (const char* const known = refused_opcode(opcode)) {
      in_.fail(at_, fmt::format("it holds the opcode {} (nothing was executed)", known),
               ErrorCode::Unsupported, kSaveAsSafetensors);
    }
    fail(fmt::format("byte 0x{:02x} is no opcode of a state dict", opcode));
  }

  // ---- values

  void push(Kind kind) {
    if (pickle_.values.size() == kMostValues) {
      too_large(fmt::format("more than {} values", kMostValues));
    }
    PickleValue value;
    value.kind = kind;
    value.at = static_cast<std::uint32_t>(at_);
    stack_.push_back(static_cast<PickleId>(pickle_.values.size()));
    pickle_.values.push_back(std::move(value));
  }
  PickleValue& top_value() { return pickle_.values[stack_.back()]; }

  void push_number(Kind kind, std::int64_t number) {
    push(kind);
    top_value().number = number;
  }
  void push_text(Kind kind, std::uint64_t bytes) {
    std::string text = in_.text(bytes);
    push(kind);
    top_value().text = std::move(text);
  }
  // Little endian, two's complement, as few bytes as do.
  void push_long(std::uint64_t bytes) {
    std::string text = in_.text(bytes);
    if (text.size() > 8) {
      push(Kind::LongInt);
      top_value().text = std::move(text);
      return;
    }
    const bool negative = !text.empty() && (static_cast<unsigned char>(text.back()) & 0x80) != 0;
    std::uint64_t number = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = text.size(); i-- > 0;) {
      number = number << 8 | static_cast<unsigned char>(text[i]);
    }
    push_number(Kind::Int, static_cast<std::int64_t>(number));
  }

  void push_tuple(std::size_t count) {
    std::vector<PickleId> items = pop_many(count);
    push(Kind::Tuple);
    top_value().items = std::move(items);
  }
  // The topmost `count` values go into the container beneath them.
  void add(Kind kind, std::size_t count) {
    const std::vector<PickleId> added = pop_many(count);
    PickleValue& to = pickle_.values[top()];
    if (to.kind != kind) {
      fail(fmt::format("something is put into {} as if it were {}", kind_name(to.kind),
                       kind_name(kind)));
    }
    to.items.insert(to.items.end(), added.begin(), added.end());
  }

  // ---- the stack; values under an open mark cannot be reached

  std::size_t reachable() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  PickleId top() const {
    if (reachable() == 0) fail("a value is used that is not there");
    return stack_.back();
  }
  PickleId pop() {
    const PickleId id = top();
    stack_.pop_back();
    return id;
  }
  std::vector<PickleId> pop_many(std::size_t count) {
    if (reachable() < count) fail("values are used that are not there");
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<PickleId> values(first, stack_.end());
    stack_.erase(first, stack_.end());
    return values;
  }
  // How many values stand above the last mark, which is closed.
  std::size_t pop_mark() {
    if (marks_.empty()) fail("a mark is closed that is not open");
    const std::size_t count = reachable();
    marks_.pop_back();
    return count;
  }

  // ---- the memo

  void put(std::uint64_t index) {
    const PickleId id = top();
    if (index >= kMostMemo) too_large(fmt::format("more than {} remembered values", kMostMemo));
    if (index >= memo_.size()) memo_.resize(index + 1, kNothing);
    if (memo_[index] == kNothing) ++memoized_;
    memo_[index] = id;
  }
  void get(std::uint64_t index) {
    if (index >= memo_.size() || memo_[index] == kNothing) {
      fail(fmt::format("the value remembered as {} is used and was never remembered", index));
    }
    stack_.push_back(memo_[index]);
  }

  // ---- names and calls

  void push_global(const std::string& module, const std::string& name) {
    const TorchGlobal* const global = find_torch_global(module, name);
    if (global == nullptr) {
      const std::string_view known = known_refusal(module, name);
      in_.fail(at_,
               fmt::format("it names `{}.{}`, {} (nothing was executed)",
                           printable(std::string_view(module).substr(0, kMostName)),
                           printable(std::string_view(name).substr(0, kMostName)),
                           known.empty() ? "which no state dict needs" : known),
               ErrorCode::Unsupported, kSaveAsSafetensors);
    }
    push(Kind::Global);
    top_value().global = global;
  }

  void call() {
    const PickleId arguments = pop();
    const PickleId callee = pop();
    if (pickle_[arguments].kind != Kind::Tuple) fail("a call whose arguments are no tuple");
    if (pickle_[callee].kind != Kind::Global) {
      fail(fmt::format("{} is called", kind_name(pickle_[callee].kind)));
    }
    const TorchGlobal& global = *pickle_[callee].global;
    const std::vector<PickleId> given = pickle_[arguments].items;
    if (global.most < 0) fail(fmt::format("`{}.{}` is called", global.module, global.name));
    if (std::cmp_less(given.size(), global.fewest) || std::cmp_greater(given.size(), global.most)) {
      fail(fmt::format("`{}.{}` is called with {} arguments", global.module, global.name,
                       given.size()));
    }
    if (global.role == TorchRole::OrderedDict) return push_ordered(given);
    push(Kind::Call);
    PickleValue& value = top_value();
    value.items.push_back(callee);
    value.items.insert(value.items.end(), given.begin(), given.end());
  }

  // OrderedDict(), or OrderedDict([(key, value), ...]) as Python 2 wrote it.
  void push_ordered(const std::vector<PickleId>& arguments) {
    std::vector<PickleId> items;
    if (!arguments.empty()) {
      const PickleValue& list = pickle_[arguments.front()];
      if (list.kind != Kind::List) fail("an OrderedDict is made of something else than a list");
      for (const PickleId id : list.items) {
        const PickleValue& pair = pickle_[id];
        if ((pair.kind != Kind::Tuple && pair.kind != Kind::List) || pair.items.size() != 2) {
          fail("an OrderedDict is made of something else than pairs");
        }
        items.insert(items.end(), pair.items.begin(), pair.items.end());
      }
      // One list may be used again and again, and is copied each time.
      ordered_items_ += list.items.size();
      if (ordered_items_ > kMostValues) too_large(fmt::format("more than {} values", kMostValues));
    }
    push(Kind::Dict);
    top_value().ordered = true;
    top_value().items = std::move(items);
  }

  // Attributes of an object (`_metadata` of a state dict): passed over.
  void build() {
    pop();
    const PickleValue& object = pickle_[top()];
    const bool parameter =
        object.kind == Kind::Call && pickle_.item(object, 0).global->role == TorchRole::Parameter;
    if (!object.ordered && !parameter) {
      fail(fmt::format("attributes are given to {}", kind_name(object.kind)));
    }
  }

  static constexpr PickleId kNothing = ~PickleId{0};

  FileRange range_;
  PickleInput in_;
  Pickle pickle_;
  std::uint64_t at_ = 0;  // of the opcode at hand
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::vector<PickleId> memo_;
  std::uint64_t memoized_ = 0;       // entries of the memo that are set
  std::uint64_t ordered_items_ = 0;  // copied into OrderedDicts
};

}  // namespace

Pickle read_pickle(const FileRange& range) { return Machine(range).run(); }

const char* kind_name(PickleValue::Kind kind) {
  switch (kind) {
    case Kind::None:
      return "None";
    case Kind::Bool:
      return "a truth value";
    case Kind::Int:
    case Kind::LongInt:
    case Kind::Float:
      return "a number";
    case Kind::Text:
      return "a text";
    case Kind::Bytes:
      return "bytes";
    case Kind::Tuple:
      return "a tuple";
    case Kind::List:
      return "a list";
    case Kind::Dict:
      return "a dict";
    case Kind::Set:
      return "a set";
    case Kind::Global:
      return "a Python name";
    case Kind::Call:
      return "a Python object";
    case Kind::Persistent:
      return "a storage";
  }
  return "a value";
}

}  // namespace thorns
