#include <gtest/gtest.h>

#include "key/expression.h"
#include "support/expect_error.h"
#include "support/key_dump.h"

namespace thorns {
namespace {

constexpr const char* kPublished =
    "({({NousHermes+Chronos}[Kimiko])+({Platupus+AiroborosM2.0}[Janine])}{Holodeck[LIMA RP]})";

struct ReadCase {
  const char* key;
  const char* structure;
};

const ReadCase kReadCases[] = {
    {"A", "A"},
    {"  A  ", "A"},
    {"\n{A\t+\r\nB}\n", "blend(A,B)"},
    {"{A+B}", "blend(A,B)"},
    {"A[L]", "fold(A|L)"},
    {"(A)", "part(A)"},
    {"((A))", "part(part(A))"},
    // One-term braces are their content.
    {"{A}", "A"},
    {"{{{A}}}", "A"},
    {"{A}[L]", "fold(A|L)"},
    {"{(A)}", "part(A)"},
    // Joins.
    {"A{B}", "blend(A,B)"},
    {"A{B+C}", "blend(A,blend(B,C))"},
    {"{A}{B}{C}", "blend(blend(A,B),C)"},
    {"A{B}{C}", "blend(blend(A,B),C)"},
    {"{A+B}{C+D}", "blend(blend(A,B),blend(C,D))"},
    {"A{B}[L]", "fold(blend(A,B)|L)"},
    {"A[L]{B}", "blend(fold(A|L),B)"},
    {"A{B[L]}", "blend(A,fold(B|L))"},
    {"A{B; t=0.3}", "blend(A,B;t=0.3)"},
    {"A{B;linear}", "blend(A,B;method<linear>)"},
    {"A{3*B}", "blend(A,3*B)"},
    {"A{3*B;linear}", "blend(A,3*B;method<linear>)"},
    {"A{2*B+C}", "blend(A,blend(2*B,C))"},
    {"A{{B+C;t=0.1}}", "blend(A,blend(B,C;t=0.1))"},
    {"A{{B+C}}", "blend(A,blend(B,C))"},
    {"(A){B}", "blend(part(A),B)"},
    // Folds.
    {"A[L+K]", "fold(A|L,K)"},
    {"A[L][K]", "fold(A|L,K)"},
    {"A[L][K+M][N]", "fold(A|L,K,M,N)"},
    {"{A[L]}[K]", "fold(A|L,K)"},
    {"(A[L])[K]", "fold(part(fold(A|L))|K)"},
    {"A[0.7*L+K]", "fold(A|0.7*L,K)"},
    {"A[-1*L]", "fold(A|-1*L)"},
    {"A[L;x=1]", "fold(A|L;x=1)"},
    {"A[L;x=1][K][M]", "fold(fold(A|L;x=1)|K,M)"},
    {"A[L][K;x=1]", "fold(fold(A|L)|K;x=1)"},
    // Weights and numbers.
    {"{0.3*A+0.7*B}", "blend(0.3*A,0.7*B)"},
    {"{ 0.3 * A + B }", "blend(0.3*A,B)"},
    {"{-1*A+.5*B+1e-3*C+2.*D+1E2*E;linear}", "blend(-1*A,0.5*B,0.001*C,2*D,100*E;method<linear>)"},
    {"{3*{A+B}+C}", "blend(3*blend(A,B),C)"},
    {"{3*A[L]+B{C}}", "blend(3*fold(A|L),blend(B,C))"},
    {"{0.5*0.5+B}", "blend(0.5*0.5,B)"},  // a model named 0.5
    {"{13B-Thorns+B}", "blend(13B-Thorns,B)"},
    {"0.5", "0.5"},
    // Options.
    {"{A+B;t=0.25}", "blend(A,B;t=0.25)"},
    {"{A+B; slerp, t=0.25}", "blend(A,B;method<slerp>;t=0.25)"},
    {"{A+B+C; ties, base=Llama2, density=0.5}",
     "blend(A,B,C;method<ties>;base=name<Llama2>;density=0.5)"},
    {"{A+B;t=[0,0.5,1]}", "blend(A,B;t=list<0 0.5 1>)"},
    {"{A+B;t=[ 0.5 ]}", "blend(A,B;t=list<0.5>)"},
    {"{A+B;t(self_attn)=0.3,t=0.5}", "blend(A,B;t<self_attn>=0.3;t=0.5)"},
    {"{A+B;t ( layers.0. ) = [1,-2]}", "blend(A,B;t<layers.0.>=list<1 -2>)"},
    {"{A+B;linear,normalize=false}", "blend(A,B;method<linear>;normalize=name<false>)"},
    {"{A+B;x=\"0.5\"}", "blend(A,B;x=name<0.5>)"},
    {"{A+B;x=13B}", "blend(A,B;x=name<13B>)"},
    // Names.
    {"LIMA RP", "LIMA RP"},
    {"A[LIMA RP]", "fold(A|LIMA RP)"},
    {"NousResearch/Nous-Hermes-Llama2-13b@main", "NousResearch/Nous-Hermes-Llama2-13b@main"},
    {"{./a+~/b:c}", "blend(./a,~/b:c)"},
    {"{-+_}", "blend(-,_)"},
    {"\"A\"", "A"},
    {"\"a \\\"b\\\" \\\\ {+}\"", "a \"b\" \\ {+}"},
    {"{\" A \"+\"\xC3\xA9\"}", "blend( A ,\xC3\xA9)"},
    {"{\"3\"+B}", "blend(3,B)"},
    {kPublished,
     "part(blend(blend(part(fold(blend(NousHermes,Chronos)|Kimiko)),"
     "part(fold(blend(Platupus,AiroborosM2.0)|Janine))),fold(Holodeck|LIMA RP)))"},
};

TEST(KeyParser, ReadsTheStructure) {
  for (const ReadCase& c : kReadCases) {
    SCOPED_TRACE(c.key);
    try {
      EXPECT_EQ(dump(*parse_key(c.key)), c.structure);
    } catch (const Error& error) {
      ADD_FAILURE() << to_string(error);
    }
  }
}

TEST(KeyParser, KnowsWhereEveryPieceStands) {
  const std::string key = " {0.5 * A [L]+B{C; t = 0.3, slerp_x(q)=[1,2]}} ";
  const auto text = [&](Span span) { return key.substr(span.begin, span.end - span.begin); };
  const auto root = parse_key(key);
  EXPECT_EQ(text(root->span), "{0.5 * A [L]+B{C; t = 0.3, slerp_x(q)=[1,2]}}");
  const auto& blend = std::get<BlendExpression>(root->node);
  EXPECT_EQ(text(blend.terms[0].weight_span), "0.5");
  EXPECT_EQ(text(blend.terms[0].model->span), "A [L]");
  const auto& fold = std::get<FoldExpression>(blend.terms[0].model->node);
  EXPECT_EQ(text(fold.adapters[0].name.span), "L");
  EXPECT_EQ(text(fold.model->span), "A");
  EXPECT_EQ(text(blend.terms[1].model->span), "B{C; t = 0.3, slerp_x(q)=[1,2]}");
  const auto& join = std::get<BlendExpression>(blend.terms[1].model->node);
  EXPECT_EQ(text(join.options.span), "; t = 0.3, slerp_x(q)=[1,2]");
  EXPECT_EQ(text(join.options.settings[0].name.span), "t");
  EXPECT_EQ(text(join.options.settings[0].value_span), "0.3");
  EXPECT_EQ(text(join.options.settings[1].filter->span), "q");
  EXPECT_EQ(text(join.options.settings[1].value_span), "[1,2]");
  const auto inner = parse_key("X{Y+Z}");
  EXPECT_EQ(std::get<BlendExpression>(inner->node).terms[1].model->span.begin, 1U);
  EXPECT_EQ(parse_key("\"A B\"")->span.end, 5U);
}

struct ErrorCase {
  const char* key;
  const char* marked;  // what the caret stands under
  const char* message;
  const char* hint;
};

const ErrorCase kErrorCases[] = {
    // The table of docs/language.md.
    {"{A+B", "<end>", "expected `}` or `+`, found the end of the key",
     "the `{` at position 1 is still open"},
    {"{A+}", "}", "expected a model after `+`, found `}`", ""},
    {"A B]", "]", "unexpected `]`", "no `[` is open"},
    {"A[", "<end>", "expected an adapter name after `[`, found the end of the key", "A[LoRA]"},
    {"", "<end>", "empty key", "name a model"},
    {" \n\t ", " \n\t ", "empty key", "name a model"},
    // Open and closed brackets.
    {"  ({A+B)", ")", "expected `}` or `+`, found `)`", "the `{` at position 4 is still open"},
    {"(A", "<end>", "expected `)`, found the end", "the `(` at position 1 is still open"},
    {"(A}", "}", "expected `)`, found `}`", "the `(` at position 1"},
    {"A[L", "<end>", "expected `]` or `+`, found the end", "the `[` at position 2"},
    {"A[L}", "}", "expected `]` or `+`, found `}`", ""},
    {"A[L;x=1", "<end>", "expected `]` or `,`", "position 2"},
    {"{A+B;t=1", "<end>", "expected `}` or `,`", "position 1"},
    {"{A+B;t=[1", "<end>", "expected `]` or `,`", "the `[` at position 8"},
    {"A)", ")", "unexpected `)`", "no `(` is open"},
    {"{A+B}}", "}", "unexpected `}`", "no `{` is open"},
    {"\"\xC3\xA9\"[", "<end>", "expected an adapter name", ""},
    {"{\"\xC3\xA9\"+B", "<end>", "expected `}` or `+`", "position 1"},
    {"(\"\xC3\xA9\xC3\xA9\"{B)", ")", "expected `}` or `+`", "the `{` at position 6"},
    // Empty brackets.
    {"{}", "}", "expected a model after `{`, found `}`", ""},
    {"()", ")", "expected a model after `(`, found `)`", ""},
    {"A[]", "]", "expected an adapter name after `[`, found `]`", ""},
    {"[L]", "[", "expected a model, found `[`", ""},
    {"A{}", "}", "expected a model after `{`", ""},
    // Plus signs and weights where they do not belong.
    {"A+B", "+", "`+` outside any brace", "`{A+B}`"},
    {"({C+D}[L] + B)", "+", "`+` outside any brace", "`{{C+D}[L] + B}`"},
    {"A+B+C", "+", "`+` outside any brace", "`{A+B+C}`"},
    {"A+", "+", "`+` outside any brace", "`{A+B}`"},
    {"(A+(B+))", "+", "`+` outside any brace", "`{A+B}`"},
    {"+A", "+", "expected a model, found `+`", ""},
    {"{+A}", "+", "expected a model after `{`, found `+`", ""},
    {"3*A", "3", "`3 *` is out of place", "`{3*A+B}`"},
    {"(3*A)", "3", "`3 *` is out of place", "in {} or an adapter in []"},
    {"{A}*2", "*", "unexpected `*`", "weights stand before"},
    {"{A*+B}", "A", "expected a number as a weight before `*`, found `A`", "numbers look like"},
    {"{\"3\"*A+B}", "\"3\"", "expected a number as a weight before `*`, found `3`", ""},
    {"{1.2.3*A+B}", "1.2.3", "expected a number as a weight before `*`", ""},
    {"{inf*A+B}", "inf", "expected a number", ""},
    {"{nan*A+B}", "nan", "expected a number", ""},
    {"{0x10*A+B}", "0x10", "expected a number", ""},
    {"{1e999*A+B}", "1e999", "the number `1e999` is out of range", "1e308"},
    {"{1e-999*A+B}", "1e-999", "is out of range", ""},
    {"{3**A+B}", "*", "expected a model after `*`, found `*`", ""},
    {"{3*}", "}", "expected a model after `*`, found `}`", ""},
    {"A[0.5*]", "]", "expected an adapter name after `*`, found `]`", ""},
    {"A[L+]", "]", "expected an adapter name after `+`", ""},
    {"A[{L}]", "{", "expected an adapter name after `[`, found `{`", "an adapter is one name"},
    {"{3*A}", "3", "a weight needs at least two models", "relative"},
    {"{A;t=0.3}", ";t=0.3", "merge options need at least two models", ""},
    // Things beside each other.
    {"A  B", "B", "unexpected name `B` after `A`", "write `A B`"},
    {"{A\nB}", "B", "unexpected name `B` after `A`", "`{A+B}`"},
    {"A \"b,c\"", "\"b,c\"", "unexpected name `b,c` after `A`", "\"A b,c\""},
    {"(A)(B)", "(", "unexpected `(` after `)`", "`A{B}`"},
    {"{(A) (B)}", "(", "unexpected `(` after `)`", ""},
    {"A[L]B", "B", "unexpected `B` after `]`", "`{A+B}`"},
    // Options.
    {"A;t=1", ";", "options stand inside {} or []", "`{A+B; t=0.3}`"},
    {"(A;t=1)", ";", "options stand inside {} or []", ""},
    {"{A+B;}", "}", "expected a method or a parameter after `;`, found `}`", "`; linear`"},
    {"{A+B;t=1,}", "}", "expected a method or a parameter after `,`", ""},
    {"{A+B;t=}", "}", "expected a value after `=`, found `}`", "a number, a name or a list"},
    {"{A+B;t=[]}", "]", "expected a number in the list, found `]`", "at least one number"},
    {"{A+B;t=[1,]}", "]", "expected a number in the list", ""},
    {"{A+B;t=[x]}", "x", "expected a number as an entry of the list, found `x`", ""},
    {"{A+B;t=[1e999]}", "1e999", "out of range", ""},
    {"{A+B;t=1e999}", "1e999", "out of range", ""},
    {"{A+B;t()=1}", ")", "expected a part of a tensor name after `(`", "`t(self_attn)=0.3`"},
    {"{A+B;t(a=1}", "=", "expected `)` after the filter, found `=`", ""},
    {"{A+B;t(a)}", "}", "expected `=` after the filter, found `}`", ""},
    {"{A+B;t=1,linear}", "}", "expected `=` after the parameter `linear`", "a method stands first"},
    {"{A+B;slerp,linear}", "}", "expected `=` after the parameter `linear`", ""},
    {"{A+B;t=1e+5}", "+", "expected `}` or `,`, found `+`", ""},
    {"X{Y+Z; t=0.3}", "; t=0.3", "could mean either merge",
     "write `{X+{Y+Z; t=0.3}}` or `{X+{Y+Z}; t=0.3}`"},
    {"{A+B}[L]{2*Y+Z;linear}", ";linear", "a join of several terms takes none",
     "`{{A+B}[L]+{2*Y+Z; linear}}` or `{{A+B}[L]+{2*Y+Z}; linear}`"},
    // Characters.
    {"{A+\"B}", "\"B}", "unclosed quote", "position 4"},
    {"\"A\\", "\"A\\", "unclosed quote", ""},
    {"\"A\\n\"", "\\n", "unknown escape", "backslash"},
    {"\"\"", "\"\"", "empty name", ""},
    {"\xE2\x80\x9C"
     "A\xE2\x80\x9D",
     "\xE2\x80\x9C", "unexpected character `\xE2\x80\x9C`", "typographic quote"},
    {"'A'", "'", "unexpected character `'`", "double quotes"},
    {"{A\xEF\xBC\x8B"
     "B}",
     "\xEF\xBC\x8B", "unexpected character", "use the plain `+`"},
    {"{A\xC2\xA0+B}", "\xC2\xA0", "unexpected character", "no-break space"},
    {"{A+\xC3\xA9}", "\xC3\xA9", "unexpected character", "double quotes"},
    {"{A|B}", "|", "unexpected character `|`", "letters, digits and"},
    {"A\x7F", "?", "control character U+007F", "remove it"},
    {"\"A\x01\"", "?", "control character U+0001", ""},
    {"\"A\nB\"", "\n", "control character U+000A", ""},
    {"\"A\xE2\x80\xAE\"", "???", "invisible or control character U+202E", ""},
    {"{A+\xFF}", "?", "not valid UTF-8", "UTF-8"},
    {"\"\xC3(\"", "?", "not valid UTF-8", ""},
    {"\"\xC0\x80\"", "?", "not valid UTF-8", ""},
    {"\"\xED\xA0\x80\"", "?", "not valid UTF-8", ""},
    {"\"\xF4\x90\x80\x80\"", "?", "not valid UTF-8", ""},
    {"\"\xE2\x82", "?", "not valid UTF-8", ""},
    // The error that stands first is the one reported.
    {"{A+}|", "}", "expected a model after `+`", ""},
    {"A+|", "+", "`+` outside any brace", "`{A+B}`"},
};

TEST(KeyParser, ReportsEveryErrorWithPlaceAndHint) {
  for (const ErrorCase& c : kErrorCases) {
    SCOPED_TRACE(c.key);
    const auto error = error_of([&] { parse_key(c.key); });
    expect_error(error, ErrorCode::BadRecipe, c.message, c.hint);
    EXPECT_EQ(marked(error), c.marked);
  }
}

TEST(KeyParser, ShowsTheKeyWithACaret) {
  const auto error = error_of([] { parse_key("{A+B; t=0.3, }"); });
  EXPECT_EQ(to_string(error),
            "error: expected a method or a parameter after `,`, found `}`\n"
            "  {A+B; t=0.3, }\n"
            "               ^\n"
            "hint: options look like `; linear` or `; t=0.3`\n");
}

std::string repeat(const std::string& text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(KeyParser, SixtyFourBracketsAreTheLimit) {
  EXPECT_EQ(dump(*parse_key(repeat("{", 64) + "A" + repeat("}", 64))), "A");
  for (const auto& [open, close] :
       {std::pair{"(", ")"}, std::pair{"{", "+B}"}, std::pair{"A{", "}"}, std::pair{"{B+", "}"}}) {
    SCOPED_TRACE(open);
    const auto deep = parse_key(repeat(open, 64) + "A" + repeat(close, 64));
    EXPECT_EQ(depth_of(*deep), 64U);
    EXPECT_TRUE(same(*parse_key(to_string(*deep)), *deep));
    const std::string deeper = repeat(open, 65) + "A" + repeat(close, 65);
    const auto error = error_of([&] { parse_key(deeper); });
    expect_error(error, ErrorCode::BadRecipe, "brackets nest more than 64 deep", "`let`");
    const auto& span = std::get<KeySpan>(error.where());
    EXPECT_EQ(span.begin,
              std::string(open).size() * 65 - (open[0] == '{' ? std::string(open).size() : 1));
    EXPECT_EQ(span.end, span.begin + 1);
  }
}

// Joins do not nest as written but do in what they mean; every key that is read can be printed and
// read again.
TEST(KeyParser, ChainsOfJoinsAreAsDeepAsTheirMeaning) {
  const auto deep = parse_key("A" + repeat("{B}", 64));
  EXPECT_EQ(depth_of(*deep), 64U);
  EXPECT_TRUE(same(*parse_key(to_string(*deep)), *deep));
  const auto error = error_of([] { parse_key("A" + repeat("{B}", 65)); });
  expect_error(error, ErrorCode::BadRecipe, "brackets nest more than 64 deep");
  EXPECT_EQ(std::get<KeySpan>(error.where()).begin, 1 + 64 * 3U);
  expect_error(error_of([] { parse_key("A" + repeat("[L;x=1]", 65)); }), ErrorCode::BadRecipe,
               "brackets nest more than 64 deep");
  EXPECT_EQ(depth_of(*parse_key(repeat("{", 63) + "A[L]" + repeat("}", 63))), 1U);
  expect_error(error_of([] { parse_key(repeat("{", 64) + "A[L]" + repeat("}", 64)); }),
               ErrorCode::BadRecipe, "brackets nest more than 64 deep");
}

TEST(KeyParser, ManyFoldsAreOneFold) {
  const auto many = parse_key("A" + repeat("[L]", 21'000));
  EXPECT_EQ(std::get<FoldExpression>(many->node).adapters.size(), 21'000U);
  EXPECT_EQ(depth_of(*many), 1U);
}

TEST(KeyParser, HostileTextIsAnErrorLikeAnyOther) {
  const std::string nul("{A\0+B}", 6);
  const auto error = error_of([&] { parse_key(nul); });
  expect_error(error, ErrorCode::BadRecipe, "control character U+0000");
  EXPECT_EQ(std::get<KeySpan>(error.where()).text, "{A?+B}");
  expect_error(error_of([] { parse_key(std::string(100, '\0')); }), ErrorCode::BadRecipe, "U+0000");

  EXPECT_NO_THROW(parse_key(std::string(kMaxKeyBytes, 'A')));
  const auto long_error = error_of([] { parse_key(std::string(kMaxKeyBytes + 1, 'A')); });
  expect_error(long_error, ErrorCode::BadRecipe, "the key has 65537 bytes; at most 65536", "`let`");
  EXPECT_EQ(std::get<KeySpan>(long_error.where()).begin, kMaxKeyBytes);

  for (const char* unit :
       {"{",   "(",   "A[",  "A{", "{A+", "(A+",  "+", "*",        "\"",   "\\",
        "[L]", "{A}", "A+(", "3*", ";",   "\xFF", "]", "{A+B;t=[", "A \t", "1e9"}) {
    SCOPED_TRACE(unit);
    const std::string text = repeat(unit, kMaxKeyBytes / std::string(unit).size());
    try {
      parse_key(text);  // a few of these are names
    } catch (const Error& caught) {
      EXPECT_EQ(caught.code(), ErrorCode::BadRecipe);
      EXPECT_LT(to_string(caught).size(), 2000U);
    }
  }
}

// Every prefix of a key, and every key with one byte missing or replaced, is a key or an error.
TEST(KeyParser, DamagedKeysAreKeysOrErrors) {
  const std::string key = std::string(kPublished) + "{3*\"x y\"; linear, t(q)=[0,1], n=false}";
  std::size_t keys = 0;
  const auto try_one = [&](const std::string& text) {
    try {
      const auto expression = parse_key(text);
      EXPECT_TRUE(same(*parse_key(to_string(*expression)), *expression)) << text;
      ++keys;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::BadRecipe);
      EXPECT_NE(marked(error), "<outside>") << text;
      EXPECT_NE(marked(error), "<no span>") << text;
    }
  };
  for (std::size_t i = 0; i < key.size(); ++i) {
    try_one(key.substr(0, i));
    try_one(key.substr(0, i) + key.substr(i + 1));
    for (const char c : std::string("{}[]()+*;,=\"\\ A3.\x80")) {
      std::string changed = key;
      changed[i] = c;
      try_one(changed);
    }
  }
  EXPECT_GT(keys, 100U);
}

}  // namespace
}  // namespace thorns
