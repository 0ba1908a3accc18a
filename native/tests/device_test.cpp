// The reader of device files: what it reads, and that it refuses everything else.
#include <cstdio>
#include <fstream>
#include <limits>
#include <locale>
#include <random>
#include <sstream>

#include "../fuzz/read_all.h"
#include "../fuzz/repair.h"
#include "check.h"

using namespace slm;

namespace {

const char* const kFiles[] = {"empty", "tiny",  "tokens", "signed", "all",    "q8",     "q8_six", "q4",
                              "q4r",   "s24_4", "s24_8",  "v16_4",  "v16_8",  "q5",     "q5_v16"};

std::string path_of(const std::string& name) {
  return std::string(SLM_CORPUS) + "/" + name + ".solo";
}

std::string bytes_of(const std::string& name) {
  std::ifstream file(path_of(name), std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  if (all.str().empty()) throw std::runtime_error("cannot read " + path_of(name));
  return all.str();
}

// Why the bytes are refused; empty if they are not.
std::string refusal(const std::string& bytes) {
  try {
    PackFile::parse(bytes.data(), bytes.size(), "it");
  } catch (const BadArgument& error) {
    return error.what();
  }
  return "";
}

template <class Body>
std::string refused(const Body& body) {
  try {
    body();
  } catch (const BadArgument& error) {
    return error.what();
  }
  return "";
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST(device_settings) {
  const PackFile pack = PackFile::open(path_of("all"));
  CHECK_EQUAL(pack.text("model.type"), "test");
  CHECK_EQUAL(pack.text("model.text"), "Gr\xc3\xbc\xc3\x9f" "e = 1");
  CHECK_EQUAL(pack.text("model.empty"), "");
  CHECK_EQUAL(pack.integer("model.size"), 256);
  CHECK_EQUAL(pack.integer("model.low"), -3);
  CHECK_EQUAL(pack.integer("model.size", 1, 256), 256);
  CHECK_EQUAL(pack.real("model.rate"), 0.1);
  CHECK_EQUAL(pack.real("model.size"), 256.0);
  CHECK_EQUAL(pack.real("model.most"), std::numeric_limits<double>::infinity());
  CHECK(pack.flag("model.on"));
  CHECK(pack.has("model.on"));
  CHECK(!pack.has("model.none"));
  CHECK(!pack.has("model.absent"));
  CHECK(holds(refused([&] { pack.text("model.absent"); }), "model.absent"));
  CHECK(holds(refused([&] { pack.integer("model.rate"); }), "whole number"));
  CHECK(holds(refused([&] { pack.integer("model.empty"); }), "whole number"));
  CHECK(holds(refused([&] { pack.integer("model.size", 1, 255); }), "outside 1 to 255"));
  CHECK(holds(refused([&] { pack.real("model.text"); }), "number"));
  CHECK(holds(refused([&] { pack.flag("model.size"); }), "true or false"));
}

TEST(device_vocabulary) {
  const PackFile pack = PackFile::open(path_of("tiny"));
  CHECK(pack.vocabulary() == PackVocabulary::pieces);
  CHECK_EQUAL(pack.pieces().size(), size_t(3));
  CHECK_EQUAL(pack.pieces()[0].text, "<blank>");
  CHECK_EQUAL(pack.pieces()[0].type, 2);
  CHECK_EQUAL(pack.pieces()[1].text, "\xe2\x96\x81" "a");
  CHECK_EQUAL(pack.pieces()[1].score, -1.5f);
  CHECK_EQUAL(pack.pieces()[2].type, 4);
  CHECK(pack.normaliser().dummy_prefix);
  CHECK(!pack.normaliser().squeeze_spaces);
  CHECK(pack.normaliser().escape_spaces);
  CHECK(!pack.normaliser().rewrites);
  const PackFile tokens = PackFile::open(path_of("tokens"));
  CHECK(tokens.vocabulary() == PackVocabulary::tokens);
  CHECK_EQUAL(tokens.pieces()[0].text, std::string_view("\0", 1));
  CHECK(PackFile::open(path_of("empty")).vocabulary() == PackVocabulary::none);
}

TEST(device_tensors_as_python_has_them) {
  for (const PackMode mode : {PackMode::arena, PackMode::map}) {
    NOTE(mode == PackMode::map ? "map" : "arena");
    PackFile moved = PackFile::open(path_of("all"), mode);
    const PackFile pack = std::move(moved);
    CHECK_EQUAL(pack.tensors().size(), size_t(21));
    CHECK_EQUAL(pack.tensor("b").dims, 3);
    CHECK_EQUAL(pack.tensor("b").shape[1], 2);
    int compared = 0;
    for (const PackTensor& tensor : pack.tensors()) {
      const std::string expected = std::string(tensor.name) + ".expected";
      if (!pack.find(expected)) continue;
      NOTE(expected);
      const int64_t count = tensor.count();
      const float* numbers = pack.floats(expected, count);
      CHECK_SAME(pack.values(tensor.name, count), std::vector<float>(numbers, numbers + count));
      // A view never copies: its data lies in the file, but for five bits.
      if (tensor.format != kPackedFive) CHECK(pack.matrix(tensor.name).data == tensor.data);
      CHECK(holds(refused([&] { pack.floats(tensor.name, count); }), "float32"));
      CHECK(!refused([&] { pack.matrix(expected); }).empty());
      CHECK(!refused([&] { pack.values(tensor.name, count + 1); }).empty());
      CHECK(!refused([&] { pack.weights(tensor.name, 1, int(count)); }).empty());
      compared++;
    }
    CHECK_EQUAL(compared, 10);
    CHECK(holds(refused([&] { pack.tensor("absent"); }), "absent"));
  }
}

TEST(device_signature) {
  const PackFile pack = PackFile::open(path_of("signed"));
  CHECK_EQUAL(pack.signature_algorithm(), 1);
  CHECK_EQUAL(pack.signature().size(), size_t(64));
  CHECK_EQUAL(pack.signature()[63], char(63));
  CHECK_EQUAL(PackFile::open(path_of("tiny")).signature_algorithm(), 0);
}

TEST(device_every_cut_is_refused) {
  for (const char* name : {"tiny", "signed", "q8", "v16_4"}) {
    NOTE(name);
    const std::string whole = bytes_of(name);
    CHECK_EQUAL(refusal(whole), "");
    for (size_t size = 1; size < whole.size(); size++) {
      const std::string why = refusal(whole.substr(0, size));
      if (!holds(why, "byte ")) check::fail(__FILE__, __LINE__, std::to_string(size) + " " + why);
    }
    CHECK(holds(refusal(whole + "x"), "byte "));
  }
  CHECK(holds(refusal(""), "empty"));
}

TEST(device_every_flipped_bit_is_noticed) {
  for (const char* name : {"tiny", "signed", "s24_4"}) {
    NOTE(name);
    const std::string whole = bytes_of(name);
    for (size_t at = 0; at < whole.size(); at++)
      for (int bit = 0; bit < 8; bit++) {
        std::string changed = whole;
        changed[at] = char(changed[at] ^ 1 << bit);
        if (refusal(changed).empty())
          check::fail(__FILE__, __LINE__, "byte " + std::to_string(at) + " changed");
      }
  }
}

TEST(device_newer_version_is_named) {
  std::string newer = bytes_of("tiny");
  newer[8] = 2;
  CHECK(holds(refusal(newer), "version 2"));
  CHECK(holds(refusal(newer), "update solomonic"));
  CHECK(holds(refusal("RIFFxxxxWAVE"), "no device file"));
}

TEST(device_files_that_are_none) {
  CHECK(holds(refused([] { PackFile::open("/nowhere/model.solo"); }), "/nowhere/model.solo"));
  CHECK(!refused([] { PackFile::open(SLM_CORPUS); }).empty());
}

// Changes with the checksums put right, so that they reach the reader: it may take a file or refuse
// it, but must not read outside (the sanitizers see that), throw anything else or take much memory.
TEST(device_hostile_files_are_read_or_refused) {
  std::mt19937 random(7);
  Threads team(1);
  int taken = 0, tried = 0;
  for (const char* name : kFiles) {
    NOTE(name);
    const std::string whole = bytes_of(name);
    for (int round = 0; round < 400; round++) {
      std::string bytes = whole;
      const int changes = 1 + int(random() % 4);
      for (int i = 0; i < changes; i++) {
        // Half of them in the first part, where sizes and offsets stand.
        const size_t at = random() % (random() % 2 ? bytes.size() : std::min<size_t>(bytes.size(), 600));
        static const uint64_t kSpecial[] = {0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, 64,
                                            0x7fffffffffffffff, 0xffffffffffffffff, 1ull << 24};
        if (random() % 3 == 0) {
          const uint64_t value = kSpecial[random() % 10];
          std::memcpy(&bytes[at], &value, std::min<size_t>(1u << random() % 4, bytes.size() - at));
        } else {
          bytes[at] = char(random());
        }
      }
      if (random() % 8 == 0) bytes.resize(1 + random() % bytes.size());
      repair(bytes);
      taken += read_all(bytes, team);
      tried++;
    }
  }
  CHECK(taken > tried / 50);  // otherwise the checksums are not put right and nothing is tried
  CHECK(taken < tried);
}
