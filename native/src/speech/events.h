// What a stream tells whoever listens, and the revision protocol that numbers it: the events of
// src/solomonic/speech/events.py and endpoint/protocol.py, and the same JSON, letter by letter.
//
// Events and results are used again and again, so that a stream which runs for days stops asking
// for memory once its texts have been as long as they get.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lattice.h"

namespace slm {

enum class EventKind { speech_start, partial, stable_words, speculative_end, reset, final };

const char* event_name(EventKind kind);

// Words with times (s of audio) and confidence (0 to 1); their texts stand in one string, each with
// a zero behind it.
class SaidWords {
 public:
  struct Entry {
    size_t text;
    double start, end, confidence;
  };

  void clear() {
    texts_.clear();
    entries_.clear();
  }
  void add(const char* text, size_t length, double start, double end, double confidence) {
    entries_.push_back({texts_.size(), start, end, confidence});
    texts_.append(text, length);
    texts_.push_back('\0');
  }
  // Those of `other` from `first` up to `last`.
  void assign(const SaidWords& other, int first, int last);
  int size() const { return int(entries_.size()); }
  const Entry& operator[](int i) const { return entries_[size_t(i)]; }
  const char* text(int i) const { return texts_.c_str() + entries_[size_t(i)].text; }
  // Mean confidence; 1 when there are none.
  double confidence() const;

 private:
  std::string texts_;
  std::vector<Entry> entries_;
};

struct NBestEntry {
  std::string text;
  double acoustic = 0, bias = 0;  // nats
  double score() const { return acoustic + bias; }
};

// What was recognised of one utterance.
struct SpeechResult {
  std::string text, reason;
  SaidWords words;
  std::vector<NBestEntry> nbest;  // the first nbest_count count; the others keep their memory
  int nbest_count = 0;
  double start = 0, end = 0;  // the stretch of audio that was decoded, s
  bool has_lattice = false;
  Lattice lattice;  // of words, with times from the start of the stream

  void clear();
};

struct Event {
  EventKind kind = EventKind::speech_start;
  double time = 0;
  int64_t utterance = 0;
  bool has_start = false;
  double start = 0;      // speech_start
  std::string text;      // partial
  SaidWords words;       // partial, stable_words
  int stable = 0;        // partial
  int64_t revision = 0;  // speculative_end, reset, final
  bool commit = false;   // final
  SpeechResult result;   // speculative_end, final
};

// Events that wait to be read, in order.
class EventQueue {
 public:
  EventQueue() = default;
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;
  ~EventQueue();

  // A new last event, of which only kind, time and utterance are set.
  Event& push(EventKind kind, double time, int64_t utterance);
  bool empty() const { return count_ == 0; }
  // The first one, which stays valid until the next call of pop or clear; NULL: there is none.
  const Event* pop();
  void clear() { count_ = 0; }

 private:
  std::vector<Event*> ring_;
  size_t first_ = 0, count_ = 0;
  std::vector<Event> last_ = std::vector<Event>(1);  // what pop gave
};

// Numbers the utterances of a stream and their revisions.
class Utterances {
 public:
  explicit Utterances(EventQueue& events) : events_(events) {}

  int64_t utterance() const { return utterance_; }
  void start(double time, const double* began);
  // The next revision; the event's result is to be filled in by the caller.
  Event& speculative(double time);
  // To be called with the speculated text once it is known.
  void speculated(const std::string& text) { text_ = text; }
  void reset(double time);
  // A final event with `result`, after a reset when its words changed at the last.
  void final(double time, SpeechResult& result);
  void clear();

 private:
  EventQueue& events_;
  int64_t utterance_ = 0, revision_ = 0;
  bool open_ = false;  // a speculation stands that was neither reset nor committed
  std::string text_;   // of it
};

// The JSON of Python's json.dumps(event.to_json()), appended to `out`.
void write_json(const Event& event, std::string& out);
void write_json(const SpeechResult& result, std::string& out);
// Pieces of it, for other JSON of this library.
void write_json(const char* text, std::string& out);
void write_json(double number, std::string& out);

}  // namespace slm
