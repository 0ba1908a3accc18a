// solomonic-recognize: a device file and recordings in, what is said out. Everything goes through the
// C interface, as any program would.
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "solomonic_speech.h"
#include "wav.h"

namespace {

const char kHelp[] = R"(Usage: solomonic-recognize MODEL.solo [options] RECORDING...

Write down what is said in WAV files, or in raw audio on standard input ('-').
WAV: PCM of 8, 16, 24 or 32 bits, or float; any rate; channels are averaged.

  --json            one line of JSON for every event (start, partial words, ends); with several
                    recordings a line in front that names the next one
  --partials        show the words so far on standard error while they come
  --lattice FILE    write the lattice messages of all utterances, one after the other
  --phrases FILE    personal words, a phrase a line, with its own boost as in 'kettle :2.5'
  --class NAME=FILE entries of a class; may be repeated
  --carrier TEXT    opens a class, as in 'call @NAME'; may be repeated
  --no-endpoint     take each recording as one utterance
  --rate HZ         samples a second of raw audio (16000)
  --encoding NAME   of raw audio: s16le or f32le, one channel (s16le)
  --threads N       threads that one step may use (1)
  --budget SHARE    of one core, above 0 and at most 1; the search is narrowed to keep it
  --set NAME=VALUE  any other setting, such as decode.beam=4 or endpoint.silence_ms=900
  --mapped          map the model's file instead of reading it
  --describe        show the model and its settings as JSON, and end
  --stats           show time, memory and counts on standard error at the end
  -h, --help        this text
  --version

Status: 0 done; 1 a fault of this program; 2 wrong usage, or a file that cannot be used;
130 interrupted from the keyboard, after what was said last.
)";

// One sentence for people; the program ends with status 2.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void must(slm_status status) {
  if (status == SLM_OK) return;
  if (status == SLM_INTERNAL) throw Fault(slm_error());
  throw Refused(slm_error());
}

volatile sig_atomic_t interrupted = 0;
void interrupt(int) { interrupted = 1; }

struct Options {
  std::string model, phrases, lattice, encoding = "s16le";
  std::vector<std::string> recordings, carriers;
  std::vector<std::pair<std::string, std::string>> classes, settings;
  double rate = 16000;
  bool json = false, partials = false, endpoint = true, mapped = false, describe = false,
       stats = false;
};

double number(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end || !std::isfinite(value))
    throw Refused(option + " '" + text + "' is no number.");
  return value;
}

std::pair<std::string, std::string> pair(const std::string& option, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
    throw Refused(option + " '" + text + "' names no value; write it as NAME=VALUE.");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

Options read_options(int argc, char** argv) {
  Options o;
  bool only_paths = false;
  for (int i = 1; i < argc; i++) {
    std::string name = argv[i];
    if (only_paths || name == "-" || name.empty() || name[0] != '-') {
      (o.model.empty() ? o.model : o.recordings.emplace_back()) = name;
      continue;
    }
    std::string given;
    bool has = false;
    const size_t equals = name.find('=');
    if (equals != std::string::npos) {
      given = name.substr(equals + 1);
      name.resize(equals);
      has = true;
    }
    const auto value = [&]() -> std::string {
      if (has) return given;
      if (i + 1 == argc) throw Refused(name + " needs a value; see --help.");
      return argv[++i];
    };
    const auto flag = [&](bool& wanted, bool to = true) {
      if (has) throw Refused(name + " takes no value.");
      wanted = to;
    };
    if (name == "-h" || name == "--help") {
      std::fputs(kHelp, stdout);
      std::exit(0);
    } else if (name == "--version") {
      std::printf("solomonic-recognize %s (%s)\n", slm_version(), slm_isa());
      std::exit(0);
    } else if (name == "--") {
      only_paths = true;
    } else if (name == "--json") {
      flag(o.json);
    } else if (name == "--partials") {
      flag(o.partials);
    } else if (name == "--no-endpoint") {
      flag(o.endpoint, false);
    } else if (name == "--mapped") {
      flag(o.mapped);
    } else if (name == "--describe") {
      flag(o.describe);
    } else if (name == "--stats") {
      flag(o.stats);
    } else if (name == "--lattice") {
      o.lattice = value();
    } else if (name == "--phrases" || name == "--bias") {
      o.phrases = value();
    } else if (name == "--class") {
      o.classes.push_back(pair(name, value()));
    } else if (name == "--carrier") {
      o.carriers.push_back(value());
    } else if (name == "--rate") {
      o.rate = number(name, value());
    } else if (name == "--encoding") {
      o.encoding = value();
      if (o.encoding != "s16le" && o.encoding != "f32le")
        throw Refused("raw audio is '" + o.encoding + "'; give one of s16le, f32le.");
    } else if (name == "--threads" || name == "--budget") {
      o.settings.emplace_back(name.substr(2), value());
    } else if (name == "--set") {
      o.settings.push_back(pair(name, value()));
    } else {
      throw Refused("the option " + name + " is unknown; see --help.");
    }
  }
  if (o.model.empty()) throw Refused("no model is given; see --help.");
  if (o.recordings.empty() && !o.describe)
    throw Refused("no recording is given; give WAV files, or '-' for raw audio on standard input.");
  int inputs = 0;
  for (const std::string& path : o.recordings) inputs += path == "-";
  if (inputs > 1) throw Refused("standard input can be read once; give '-' once.");
  return o;
}

// A path as JSON; bytes that are no UTF-8 stay as they are.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const unsigned char c : text) {
    char code[8];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += char(c);
    } else if (c < 0x20) {
      std::snprintf(code, sizeof code, "\\u%04x", c);
      out += code;
    } else {
      out += char(c);
    }
  }
  return out + '"';
}

// Phrases of a file: one a line, empty lines and lines that begin with # aside.
void add_phrases(slm_words* words, const char* name, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Refused("cannot read the phrases " + path + "; give a text file with one phrase a line.");
  std::string line;
  for (bool first = true; std::getline(file, line); first = false) {
    if (first && line.compare(0, 3, "\xef\xbb\xbf") == 0) line.erase(0, 3);
    if (line.find('\0') != std::string::npos)
      throw Refused(path + " is binary, not a list of phrases; give one phrase a line.");
    must(slm_words_add(words, name, line.c_str(), 0));  // a message counts all lines
  }
}

class Program {
 public:
  explicit Program(const Options& options) : options_(options) {}
  ~Program() {
    if (lattice_) std::fclose(lattice_);
    slm_speech_free(speech_);
    slm_words_free(words_);
    slm_recognizer_free(recognizer_);
  }

  int run() {
    must(slm_recognizer_open(options_.model.c_str(), options_.mapped ? SLM_MAPPED : SLM_ARENA,
                             &recognizer_));
    for (const auto& [name, value] : options_.settings)
      must(slm_recognizer_set(recognizer_, name.c_str(), number(name, value)));
    if (options_.describe) {
      std::printf("%s\n", slm_recognizer_describe(recognizer_));
      return 0;
    }
    if (!options_.phrases.empty() || !options_.classes.empty() || !options_.carriers.empty()) {
      must(slm_words_create(recognizer_, &words_));
      if (!options_.phrases.empty()) add_phrases(words_, nullptr, options_.phrases);
      for (const auto& [name, file] : options_.classes)
        add_phrases(words_, name.c_str() + (name[0] == '@'), file);
      for (const std::string& text : options_.carriers)
        must(slm_words_carrier(words_, text.c_str()));
    }
    must(slm_speech_create(recognizer_, words_, options_.endpoint, &speech_));
    if (!options_.lattice.empty()) {
      lattice_ = std::fopen(options_.lattice.c_str(), "wb");
      if (!lattice_)
        throw Refused("cannot write " + options_.lattice + " (" + std::strerror(errno) + ").");
    }
    struct sigaction action = {};
    action.sa_handler = interrupt;  // without SA_RESTART, so that a read from a pipe ends
    sigaction(SIGINT, &action, nullptr);
    signal(SIGPIPE, SIG_DFL);
    int status = 0;
    for (size_t i = 0; i < options_.recordings.size() && !interrupted; i++) {
      try {
        if (i) must(slm_speech_reset(speech_, words_));
        recognise(options_.recordings[i]);
      } catch (const Fault&) {
        throw;
      } catch (const std::exception& error) {  // the other recordings still count
        if (options_.recordings.size() == 1) throw Refused(error.what());
        rewrite("");
        std::fprintf(stderr, "error: %s\n", error.what());
        status = 2;
      }
    }
    if (options_.stats) show_stats();
    return interrupted ? 130 : status;
  }

 private:
  void recognise(const std::string& path) {
    said_.clear();
    live_ = path == "-";
    if (options_.json && options_.recordings.size() > 1)
      std::printf("{\"event\": \"recording\", \"audio\": %s}\n", quoted(path).c_str());
    if (live_) {
      read_pipe();
    } else {
      Wav wav(path);
      bool empty = true;
      for (;;) {
        const std::vector<float>& samples = wav.read(4096);
        if (samples.empty() || interrupted) break;
        empty = false;
        must(slm_speech_accept(speech_, wav.rate(), samples.data(), int64_t(samples.size())));
        decode();
      }
      if (empty && !interrupted)
        throw Refused(path + " holds no sample; give a recording that is longer than nothing.");
    }
    must(slm_speech_finish(speech_));
    decode();
    rewrite("");
    if (options_.json || live_) return;
    if (options_.recordings.size() > 1) std::printf("%s: ", path.c_str());
    std::printf("%s\n", said_.c_str());
    std::fflush(stdout);
  }

  void read_pipe() {
    unsigned char bytes[6400];
    size_t held = 0;
    bool empty = true;
    const bool real = options_.encoding == "f32le";
    const size_t size = real ? 4 : 2;
    std::vector<float> floats;
    std::vector<int16_t> shorts;
    while (!interrupted) {
      const ssize_t got = ::read(0, bytes + held, sizeof bytes - held);
      if (got <= 0) break;
      empty = false;
      const size_t have = held + size_t(got), count = have / size;
      floats.resize(count);
      shorts.resize(count);
      for (size_t i = 0; i < count; i++) {
        const unsigned char* at = bytes + i * size;
        uint32_t value = at[0] | uint32_t(at[1]) << 8;
        if (real) {
          value |= uint32_t(at[2]) << 16 | uint32_t(at[3]) << 24;
          std::memcpy(&floats[i], &value, 4);
        } else {
          shorts[i] = int16_t(uint16_t(value));
        }
      }
      held = have - count * size;
      std::memmove(bytes, bytes + count * size, held);
      if (real)
        must(slm_speech_accept(speech_, options_.rate, floats.data(), int64_t(count)));
      else
        must(slm_speech_accept_s16(speech_, options_.rate, shorts.data(), int64_t(count)));
      decode();
    }
    if (empty && !interrupted)
      throw Refused(
          "standard input is empty; pipe raw audio into it, as in "
          "`sox a.wav -t s16 -r 16000 -c 1 - | solomonic-recognize model.solo -`.");
  }

  void decode() {
    must(slm_speech_decode(1, &speech_));
    slm_speech_event event;
    while (slm_speech_next(speech_, &event)) {
      if (options_.json) {
        std::printf("%s\n", slm_speech_json(speech_));
        std::fflush(stdout);
      }
      if (event.kind == SLM_PARTIAL) rewrite(event.text);
      if (event.kind != SLM_FINAL) continue;
      rewrite("");
      if (*event.text) {
        if (!said_.empty()) said_ += ' ';
        said_ += event.text;
        if (live_ && !options_.json) {
          std::printf("%s\n", event.text);
          std::fflush(stdout);
        }
      }
      if (lattice_) write_lattice();
    }
  }

  void write_lattice() {
    const uint8_t* data = nullptr;
    size_t bytes = 0;
    must(slm_speech_lattice(speech_, &data, &bytes));
    if (std::fwrite(data, 1, bytes, lattice_) != bytes || std::fflush(lattice_))
      throw Refused("cannot write " + options_.lattice + " (" + std::strerror(errno) + ").");
  }

  // The words so far: one line that is written again on a terminal, else a line each.
  void rewrite(const char* text) {
    if (!options_.partials || options_.json || !(*text || shown_)) return;
    if (isatty(2))
      std::fprintf(stderr, "\r\x1b[K%s", text);
    else if (*text)
      std::fprintf(stderr, "%s\n", text);
    std::fflush(stderr);
    shown_ = *text != 0;
  }

  void show_stats() {
    slm_speech_counters c;
    must(slm_speech_count(speech_, &c));
    std::fprintf(stderr,
                 "%.2f s of audio in %.3f s of processor time (%.4f of real time) on %s; %lld of %lld "
                 "blocks encoded; beam lowered %lld times; model %.2f MiB, stream %.2f MiB\n",
                 c.audio, c.seconds, c.audio > 0 ? c.seconds / c.audio : 0.0, slm_isa(),
                 (long long)c.encoded, (long long)c.blocks, (long long)c.lowered,
                 double(slm_recognizer_bytes(recognizer_)) / 1048576,
                 double(slm_speech_bytes(speech_)) / 1048576);
  }

  const Options& options_;
  slm_recognizer* recognizer_ = nullptr;
  slm_words* words_ = nullptr;
  slm_speech* speech_ = nullptr;
  std::FILE* lattice_ = nullptr;
  std::string said_;
  bool live_ = false, shown_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = read_options(argc, argv);
    return Program(options).run();
  } catch (const Refused& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: a fault of this program: %s\n", error.what());
    return 1;
  }
}
