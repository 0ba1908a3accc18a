// Events, results and their JSON; see events.h.
#include "events.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "endpoint.h"

namespace slm {

const char* event_name(EventKind kind) {
  static const char* const names[] = {"speech_start",    "partial", "stable_words",
                                      "speculative_end", "reset",   "final"};
  return names[int(kind)];
}

void SaidWords::assign(const SaidWords& other, int first, int last) {
  clear();
  for (int i = first; i < last; i++) {
    const char* text = other.text(i);
    add(text, std::strlen(text), other[i].start, other[i].end, other[i].confidence);
  }
}

double SaidWords::confidence() const {
  if (entries_.empty()) return 1.0;
  double sum = 0;
  for (const Entry& entry : entries_) sum += entry.confidence;
  return sum / double(entries_.size());
}

void SpeechResult::clear() {
  text.clear();
  reason.clear();
  words.clear();
  nbest_count = 0;
  start = end = 0;
  has_lattice = false;
  lattice = Lattice();
}

EventQueue::~EventQueue() {
  for (Event* event : ring_) delete event;
}

Event& EventQueue::push(EventKind kind, double time, int64_t utterance) {
  if (count_ == ring_.size()) {
    // Grown in place of the order: the events that wait come first, fresh ones follow.
    std::vector<Event*> larger;
    larger.reserve(count_ ? 2 * count_ : 8);
    for (size_t i = 0; i < count_; i++) larger.push_back(nullptr);
    while (larger.size() < larger.capacity()) larger.push_back(nullptr);
    try {
      for (size_t i = count_; i < larger.size(); i++) larger[i] = new Event;
    } catch (...) {
      for (Event* event : larger) delete event;
      throw;
    }
    for (size_t i = 0; i < count_; i++) larger[i] = ring_[(first_ + i) % ring_.size()];
    ring_.swap(larger);
    first_ = 0;
  }
  Event& event = *ring_[(first_ + count_) % ring_.size()];
  count_++;
  event.kind = kind;
  event.time = time;
  event.utterance = utterance;
  event.has_start = event.commit = false;
  event.start = 0;
  event.stable = 0;
  event.revision = 0;
  event.text.clear();
  event.words.clear();
  event.result.clear();
  return event;
}

const Event* EventQueue::pop() {
  if (!count_) return nullptr;
  std::swap(last_[0], *ring_[first_]);
  first_ = (first_ + 1) % ring_.size();
  count_--;
  return &last_[0];
}

void Utterances::start(double time, const double* began) {
  Event& event = events_.push(EventKind::speech_start, time, utterance_);
  event.has_start = began != nullptr;
  if (began) event.start = *began;
}

Event& Utterances::speculative(double time) {
  Event& event = events_.push(EventKind::speculative_end, time, utterance_);
  event.revision = ++revision_;
  open_ = true;
  return event;
}

void Utterances::reset(double time) {
  Event& event = events_.push(EventKind::reset, time, utterance_);
  event.revision = revision_;
  open_ = false;
}

void Utterances::final(double time, SpeechResult& result) {
  if (open_ && text_ != result.text) reset(time);
  Event& event = events_.push(EventKind::final, time, utterance_);
  event.commit = open_;
  event.revision = open_ ? revision_ : revision_ + 1;
  std::swap(event.result, result);
  utterance_++;
  revision_ = 0;
  open_ = false;
}

void Utterances::clear() {
  utterance_ = revision_ = 0;
  open_ = false;
}

namespace {

// As Python's repr: the shortest digits that give the number back.
void write_number(double value, std::string& out) {
  if (std::isnan(value)) {
    out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    out += value > 0 ? "Infinity" : "-Infinity";
    return;
  }
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific);
  const char* at = text;
  if (*at == '-') {
    out += '-';
    at++;
  }
  char kept[24];
  int count = 0;
  for (; at < end.ptr && *at != 'e'; at++)
    if (*at != '.') kept[count++] = *at;
  int exponent = 0;
  std::from_chars(at[1] == '+' ? at + 2 : at + 1, end.ptr, exponent);
  if (exponent < -4 || exponent >= 16) {
    out += kept[0];
    if (count > 1) {
      out += '.';
      out.append(kept + 1, size_t(count - 1));
    }
    char tail[16];
    std::snprintf(tail, sizeof tail, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    out += tail;
  } else if (exponent < 0) {
    out += "0.";
    out.append(size_t(-exponent - 1), '0');
    out.append(kept, size_t(count));
  } else {
    for (int i = 0; i < std::max(count, exponent + 2); i++) {
      if (i == exponent + 1) out += '.';
      out += i < count ? kept[i] : '0';
    }
  }
}

void write_code_unit(unsigned unit, std::string& out) {
  char text[16];
  std::snprintf(text, sizeof text, "\\u%04x", unit & 0xffff);
  out += text;
}

void member(const char* name, std::string& out, bool first = false) {
  out += first ? "\"" : ", \"";
  out += name;
  out += "\": ";
}

void write_rounded(double value, int digits, std::string& out) {
  write_number(rounded(value, digits), out);
}

// Words as dataclasses: full precision.
void write_words(const SaidWords& words, std::string& out) {
  out += '[';
  for (int i = 0; i < words.size(); i++) {
    out += i ? ", {" : "{";
    member("text", out, true);
    write_json(words.text(i), out);
    member("start", out);
    write_number(words[i].start, out);
    member("end", out);
    write_number(words[i].end, out);
    member("confidence", out);
    write_number(words[i].confidence, out);
    out += '}';
  }
  out += ']';
}

}  // namespace

void write_json(double number, std::string& out) { write_number(number, out); }

void write_json(const char* text, std::string& out) {
  out += '"';
  for (const unsigned char* at = reinterpret_cast<const unsigned char*>(text); *at; at++) {
    const unsigned byte = *at;
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += char(byte);
    } else if (byte == '\n' || byte == '\r' || byte == '\t' || byte == '\b' || byte == '\f') {
      out += '\\';
      out += byte == '\n' ? 'n' : byte == '\r' ? 'r' : byte == '\t' ? 't' : byte == '\b' ? 'b' : 'f';
    } else if (byte < 0x20 || byte == 0x7f) {
      write_code_unit(byte, out);
    } else if (byte < 0x80) {
      out += char(byte);
    } else {
      // UTF-8; what is none becomes the replacement character.
      const int more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc0 ? 1 : 0;
      unsigned code = more == 3 ? byte & 7 : more == 2 ? byte & 15 : byte & 31;
      bool right = more > 0;
      int used = 0;
      while (used < more && (at[used + 1] & 0xc0) == 0x80) code = code << 6 | (at[++used] & 63);
      right = right && used == more && code <= 0x10ffff;
      at += used;
      if (!right) code = 0xfffd;
      if (code >= 0x10000) {
        write_code_unit(0xd800 + ((code - 0x10000) >> 10), out);
        write_code_unit(0xdc00 + ((code - 0x10000) & 0x3ff), out);
      } else {
        write_code_unit(code, out);
      }
    }
  }
  out += '"';
}

void write_json(const SpeechResult& result, std::string& out) {
  out += '{';
  member("text", out, true);
  write_json(result.text.c_str(), out);
  member("confidence", out);
  write_rounded(result.words.confidence(), 4, out);
  member("start", out);
  write_rounded(result.start, 3, out);
  member("end", out);
  write_rounded(result.end, 3, out);
  member("words", out);
  out += '[';
  for (int i = 0; i < result.words.size(); i++) {
    out += i ? ", {" : "{";
    member("word", out, true);
    write_json(result.words.text(i), out);
    member("start", out);
    write_rounded(result.words[i].start, 3, out);
    member("end", out);
    write_rounded(result.words[i].end, 3, out);
    member("confidence", out);
    write_rounded(result.words[i].confidence, 4, out);
    out += '}';
  }
  out += ']';
  member("nbest", out);
  out += '[';
  for (int i = 0; i < result.nbest_count; i++) {
    const NBestEntry& other = result.nbest[size_t(i)];
    out += i ? ", {" : "{";
    member("text", out, true);
    write_json(other.text.c_str(), out);
    member("score", out);
    write_rounded(other.score(), 4, out);
    member("acoustic", out);
    write_rounded(other.acoustic, 4, out);
    member("bias", out);
    write_rounded(other.bias, 4, out);
    out += '}';
  }
  out += ']';
  member("reason", out);
  write_json(result.reason.c_str(), out);
  out += '}';
}

void write_json(const Event& event, std::string& out) {
  out += '{';
  member("event", out, true);
  write_json(event_name(event.kind), out);
  member("time", out);
  write_number(event.time, out);
  member("utterance", out);
  out += std::to_string(event.utterance);
  switch (event.kind) {
    case EventKind::speech_start:
      member("start", out);
      if (event.has_start)
        write_number(event.start, out);
      else
        out += "null";
      break;
    case EventKind::partial:
      member("text", out);
      write_json(event.text.c_str(), out);
      member("words", out);
      write_words(event.words, out);
      member("stable", out);
      out += std::to_string(event.stable);
      break;
    case EventKind::stable_words:
      member("words", out);
      write_words(event.words, out);
      break;
    default:
      member("revision", out);
      out += std::to_string(event.revision);
      if (event.kind == EventKind::reset) break;
      if (event.kind == EventKind::final) {
        member("commit", out);
        out += event.commit ? "true" : "false";
      }
      member("result", out);
      write_json(event.result, out);
      member("reason", out);
      write_json(event.result.reason.c_str(), out);
  }
  out += '}';
}

}  // namespace slm
